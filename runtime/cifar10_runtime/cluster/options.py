"""The options of cifar10-infer-ray, with their defaults."""

from dataclasses import dataclass

from cifar10_runtime.options import ClassifierOptions


@dataclass(frozen=True, kw_only=True)
class RayOptions(ClassifierOptions):
    """The command line of cifar10-infer-ray; ``cluster.main`` documents each option."""

    paths: tuple[str, ...]
    output: str
    partition_size: int = 10_000
    """Image files per partition, and so per Parquet file of results."""
    column: str = "image"
    """Column of images in Parquet files."""
    address: str | None = None
    resume: bool = False
