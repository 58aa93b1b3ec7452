"""Fixtures of the export's tests: the trained network and a part of its data."""

from pathlib import Path

import pytest
from cifar10_export.exporter import Images

from cifar10_zoo.data.load import load
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from tests.helpers.onnx_files import first

IMAGES = 300


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
def content(model_file: Path) -> bytes:
    """The exported file."""
    return model_file.read_bytes()
