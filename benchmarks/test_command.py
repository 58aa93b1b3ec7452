"""cifar10-infer as a whole, from the shell, against a loop with Pillow and one with a torch DataLoader."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from cifar10_runtime import Classifier
from cifar10_runtime.images.decode import crop_and_resize, decode
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.peers import timed, usual_export
from cifar10_zoo import synthetic
from cifar10_zoo.data import cifar10 as dataset

HERE = Path(__file__).parent
INFER = Path(sys.executable).with_name("cifar10-infer")
FILES = 10_000
PHOTOS, PHOTO_SIZE = 200, (4000, 3000)
DIFFERENT_PHOTOS = 40
"""The others are links to these."""
ROUNDS = 5
PEAK_OF_COMMAND = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""KiB of memory at most. In a small process of its own: what a child begins with is that of the process that forks."""


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The test images [10000, 32, 32, 3] of CIFAR-10 where they are at hand, else of the drawn data set."""
    folder = dataset.default_data_dir()
    if not dataset.is_present(folder):
        folder = tmp_path_factory.mktemp("data")
        synthetic.write(folder)
    return dataset.load(folder, "test").images.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return usual_export(tmp_path_factory.mktemp("peer") / "usual.onnx")


def write_files(pixels: np.ndarray, folder: Path, suffix: str) -> Path:
    """Each image as a file in one of ten folders."""
    for number, image in enumerate(pixels):
        path = folder / str(number % 10) / f"{number:05d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=90)
    return folder


def write_photos(pixels: np.ndarray, folder: Path) -> Path:
    """Photographs of 12 megapixels: images enlarged, with grain."""
    random = np.random.default_rng(0)
    grain = random.normal(0, 6, (PHOTO_SIZE[1] + 64, PHOTO_SIZE[0] + 64, 1)).astype(np.float32)
    folder.mkdir()
    for number in range(PHOTOS):
        path = folder / f"{number:03d}.jpg"
        if number >= DIFFERENT_PHOTOS:
            os.link(folder / f"{number % DIFFERENT_PHOTOS:03d}.jpg", path)
            continue
        y, x = random.integers(0, 64, 2)
        large = np.asarray(Image.fromarray(pixels[number]).resize(PHOTO_SIZE, Image.Resampling.BICUBIC))
        noisy = large + grain[y : y + PHOTO_SIZE[1], x : x + PHOTO_SIZE[0]]
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


def command(*words: object) -> Callable[[], None]:
    """Runs a command to its end."""
    return lambda: subprocess.run([str(word) for word in words], check=True, capture_output=True)  # type: ignore[return-value]


def compare_commands(benchmark: BenchmarkFixture, folder: Path, usual: Path, count: int, rounds: int) -> None:
    """Wall time of the whole commands, all in turn."""
    output = folder.parent / "out.csv"
    contestants = {
        name: command(INFER, folder, "--model", name, "--device", "cpu", "--output", output, "--overwrite")
        for name in ("fp32", "int8")
    }
    contestants["plain loop"] = command(sys.executable, HERE / "plain_loop.py", usual, folder, output)
    contestants["DataLoader"] = command(sys.executable, HERE / "dataloader_loop.py", usual, folder, output)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():  # the files are in memory from here on
        run()

    def one_round() -> None:
        for name, run in contestants.items():
            times[name].append(timed(run))

    benchmark.pedantic(one_round, rounds=rounds)
    medians = {name: median(t) for name, t in times.items()}
    benchmark.extra_info["seconds"] = {name: round(t, 3) for name, t in medians.items()}
    benchmark.extra_info["images_per_s"] = {name: round(count / t) for name, t in medians.items()}
    benchmark.extra_info["fp32_times_the_peer"] = {
        name: round(medians[name] / medians["fp32"], 2) for name in ("plain loop", "DataLoader")
    }
    if count == FILES:
        benchmark.extra_info["of_the_model_alone"] = {
            name: round(count / medians[name] / model_alone(name), 2) for name in ("fp32", "int8")
        }


def model_alone(name: str) -> float:
    """Images/s of a bundled model without any files."""
    batch = np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3), dtype=np.uint8)
    with Classifier(name, device="cpu") as classifier:
        classifier.probabilities(batch)
        return len(batch) / median(timed(lambda: classifier.probabilities(batch)) for _ in range(9))


@pytest.mark.benchmark(group="cifar10-infer, 10,000 files")
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_small_files(benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray, usual: Path, suffix: str) -> None:
    folder = write_files(pixels[:FILES], tmp_path / "images", suffix)
    compare_commands(benchmark, folder, usual, FILES, ROUNDS)


@pytest.mark.benchmark(group="cifar10-infer, 200 photographs of 12 megapixels")
def test_photos(benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray, usual: Path) -> None:
    folder = write_photos(pixels, tmp_path / "photos")
    compare_commands(benchmark, folder, usual, PHOTOS, rounds=1)


@pytest.mark.benchmark(group="cifar10-infer, start to the first prediction")
def test_start(benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray, usual: Path) -> None:
    folder = write_files(pixels[:1], tmp_path / "images", ".png")
    compare_commands(benchmark, folder, usual, 1, rounds=9)


@pytest.mark.benchmark(group="cifar10-infer, peak memory")
def test_memory(benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray) -> None:
    """Largest resident set for 1,000 files and for 100,000 (hard links to them)."""
    few = write_files(pixels[:1000], tmp_path / "few", ".png")
    for path in list(few.rglob("*.png")):
        for copy in range(100):
            link = tmp_path / "many" / str(copy) / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
    peaks = {}

    def measure() -> None:
        for folder in (few, tmp_path / "many"):
            words = [
                INFER,
                folder,
                "--model",
                "int8",
                "--device",
                "cpu",
                "--output",
                tmp_path / "out.csv",
                "--overwrite",
            ]
            small = [sys.executable, "-c", PEAK_OF_COMMAND, *map(str, words)]
            result = subprocess.run(small, check=True, capture_output=True, text=True)
            peaks[folder.name] = int(result.stdout) / 1024

    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["peak_mib"] = {name: round(peak) for name, peak in peaks.items()}
    benchmark.extra_info["ratio"] = round(peaks["many"] / peaks["few"], 3)


@pytest.mark.benchmark(group="decoding")
def test_reduced_decoding(benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray) -> None:
    """How often the answer changes where a large JPEG file is decoded at a part of its size; 1,000 of 1024 x 768."""
    random = np.random.default_rng(0)
    paths = []
    for number, image in enumerate(pixels[:1000]):
        large = np.asarray(Image.fromarray(image).resize((1024, 768), Image.Resampling.BICUBIC))
        noisy = (large + random.normal(0, 6, (768, 1024, 1))).clip(0, 255).astype(np.uint8)
        paths.append(tmp_path / f"{number}.jpg")
        Image.fromarray(noisy).save(paths[-1], quality=90)

    def decode_all() -> np.ndarray:
        return np.stack([decode(str(path), 32) for path in paths])

    reduced = benchmark.pedantic(decode_all, rounds=1)
    full = np.stack([np.asarray(crop_and_resize(Image.open(path), 32)) for path in paths])
    with Classifier("fp32", device="cpu") as classifier:
        classes = [classifier.probabilities(batch).argmax(axis=1) for batch in (reduced, full)]
    benchmark.extra_info["different_best_class"] = int((classes[0] != classes[1]).sum())
    benchmark.extra_info["of_files"] = len(paths)
