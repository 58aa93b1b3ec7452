"""The options of the commands and the library, and their defaults. Imports nothing heavy, for a quick ``--help``."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """The options of the classifier, which both commands have."""

    model: str = "fp32"
    """Name of a bundled model, or path of an .onnx file."""
    fast_math: bool = False
    """Allow faster, less exact arithmetic: TF32 on CUDA, bf16 on OpenVINO. cifar10-infer-ray has no option for it."""
    labels: Path | None = None
    """File of class names to use instead of those in the model's metadata."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``openvino``."""
    background: str = "white"
    """Color behind transparent pixels: a name that Pillow knows, or ``#rrggbb``."""
    max_pixels: int = 1 << 26
    """Largest width times height to decode: 67 megapixels, which take up to 1 GiB of memory."""
    top_k: int = 1
    """Labels per row."""
    features: bool = False
    """Whether rows also have the features of the images."""
    min_probability: float | None = None
    """An image whose highest probability is lower gets ``unknown_label``; None gives each image a class."""
    unknown_label: str = "unknown"
    """The label of images that get no class; the model may not have a class of this name."""

    @property
    def unknown_rule(self) -> tuple[float, str] | None:
        """The two options that make images unknown, ``min_probability`` first; None if each image gets a class."""
        return None if self.min_probability is None else (self.min_probability, self.unknown_label)


@dataclass(frozen=True, kw_only=True)
class InferOptions(ClassifierOptions):
    """The command line of cifar10-infer; ``cli.parser`` documents each option."""

    paths: tuple[str, ...] = ()
    files_from: str | None = None
    shard: tuple[int, int] | None = None
    batch_size: int | None = None
    output: str | None = None
    format: str | None = None
    resume: bool = False
    overwrite: bool = False
    strict: bool = False
    max_failures: int | None = None
    report: Path | None = None
    sort_into: str | None = None
    sort_by: str = "copy"
