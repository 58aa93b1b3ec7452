"""Fixtures of the export's tests: the trained network and a part of its data."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from cifar10_export import Variant
from cifar10_export.exporter import ExportedModel, Images, export_checkpoint

from cifar10_zoo.data.load import load
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from tests.helpers.onnx_files import few_verified, first

IMAGES = 150


@pytest.fixture(scope="session")
def trained(train_dir: Path) -> Checkpoint:
    """The newest checkpoint in ``train_dir``."""
    return checkpoint.read(train_dir / "model.ckpt-60.safetensors")


@pytest.fixture
def network(trained: Checkpoint) -> Cifar10Net:
    """The network with the EMA weights of ``trained``; each test gets its own."""
    return trained.ema_model()


@pytest.fixture(scope="session")
def few_images(drawings_dir: Path) -> Images:
    """The first images of each split."""
    test, train = load(drawings_dir, "test"), load(drawings_dir, "train")
    return Images(first(IMAGES, test), train.images[:IMAGES])


@pytest.fixture(scope="session")
def export_of(trained: Checkpoint, few_images: Images) -> Callable[[Variant], ExportedModel]:
    """A function that exports a variant of ``trained``; equal variants are exported only once."""

    @cache
    def export(variant: Variant) -> ExportedModel:
        with few_verified():
            return export_checkpoint(trained, variant, few_images)

    return export


@pytest.fixture(scope="session")
def content(model_file: Path) -> bytes:
    """The exported file."""
    return model_file.read_bytes()
