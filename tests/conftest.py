"""Options and data that several test modules share."""

import importlib.util
import os
import signal
import sys
from functools import cache
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from cifar10_zoo import image_folders, synthetic, train
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data import cifar10
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.load import load
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from tests.helpers.command_line import run_here
from tests.helpers.data_files import write_drawings
from tests.helpers.golden_reference import GOLDEN
from tests.helpers.gpu import can_use_gpu
from tests.helpers.shapes import Trained, colored_images

hypothesis.settings.register_profile("untimed", deadline=None)  # a slow machine is no failure
hypothesis.settings.load_profile("untimed")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores Ctrl-C, and so would its children


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", type=Path, default=GOLDEN, help="folder of seedN folders with golden numbers")


collect_ignore = [] if importlib.util.find_spec("ray") else ["runtime/test_ray.py"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose marks name a system or a GPU that this machine lacks."""
    if item.get_closest_marker("linux") and sys.platform != "linux":
        pytest.skip("needs file names or interfaces that only Linux has")
    if item.get_closest_marker("posix") and os.name == "nt":
        pytest.skip("needs links, pipes, signals or file names that Windows lacks")
    mark = item.get_closest_marker("gpu")
    if mark and not can_use_gpu(mark.args[0]):
        pytest.skip(f"needs a CUDA GPU that {mark.args[0]} can use")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_folder" in metafunc.fixturenames:
        golden = metafunc.config.getoption("--golden")
        folders = sorted(golden.glob("seed[0-9]*"))
        if not folders:
            raise pytest.UsageError(f"--golden {golden}: it has no seedN folders")
        metafunc.parametrize("golden_folder", folders, ids=lambda folder: folder.name, scope="module")


@pytest.fixture(scope="session")
def synthetic_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the synthetic data set: as many images as CIFAR-10, in the same format."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic.write(folder)
    return folder


@pytest.fixture(scope="session")
def drawings_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with 500 training and 300 test images, drawn like the images of the synthetic data set."""
    folder = tmp_path_factory.mktemp("drawings")
    write_drawings(folder, batch_size=100, test_batch_size=300)
    return folder


@pytest.fixture(scope="session")
def cifar10_dir() -> Path:
    """A data directory with CIFAR-10; without one the test is skipped, or fails if CIFAR10_TESTS_NEED_DATA is set."""
    folder = cifar10.default_data_dir()
    if not cifar10.is_present(folder):
        message = f"CIFAR-10 is not in {folder}: set CIFAR10_DATA_DIR"
        if os.environ.get("CIFAR10_TESTS_NEED_DATA"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def train_dir(drawings_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a short run on ``drawings_dir``, with checkpoints of steps 40 and 60."""
    folder = tmp_path_factory.mktemp("train")
    recipe = Hyperparameters(batch_size=16)
    for steps in (40, 60):
        options = train.Options(data_dir=drawings_dir, train_dir=folder, max_steps=steps, hyperparameters=recipe)
        train.train(options)
    return folder


@pytest.fixture(scope="session")
def model_file(train_dir: Path, drawings_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that ``python -m cifar10_export`` writes for the newest checkpoint, in a folder without other files."""
    output = tmp_path_factory.mktemp("export") / "model.onnx"
    result = run_here(
        *("cifar10_export", "--checkpoint-dir", train_dir, "--data-dir", drawings_dir, "--output", output)
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    return output


@pytest.fixture(scope="session")
def folder(drawings_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 300 test images of ``drawings_dir`` as PNG files in class folders."""
    target = tmp_path_factory.mktemp("images") / "test"
    image_folders.write(load(drawings_dir, "test"), target)
    return target


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG file of 40 x 60 pixels."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="session")
def trained_shape(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A function that trains for a moment on images of one color per class; equal arguments train only once."""

    @cache
    def train_shape(classes: int, size: int) -> tuple[Checkpoint, Dataset]:
        data = colored_images(classes, size, max(classes, 32))
        recipe = Hyperparameters(batch_size=8, initial_learning_rate=0.02, moving_average_decay=0.5)
        train_dir = tmp_path_factory.mktemp("shape")
        options = train.Options(train_dir=train_dir, max_steps=4, summary_frequency=0, hyperparameters=recipe)
        train.train(options, data)
        return checkpoint.read_newest(train_dir), data

    return train_shape
