"""The command cifar10-infer against a plain loop with Pillow and loops with a torch DataLoader."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from cifar10_runtime import Classifier
from cifar10_runtime.images.decode import decode
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from release.models import MODELS

from benchmarks.peers import export_by_default
from benchmarks.timing import Interleaved, timed
from cifar10_zoo import synthetic
from cifar10_zoo.data import cifar10

HERE = Path(__file__).parent
INFER = Path(sys.executable).with_name("cifar10-infer")
FILES = 10_000
PHOTOS, PHOTO_SIZE = 200, (4000, 3000)
DIFFERENT_PHOTOS = 40
"""The other files are hard links to these."""
ROUNDS = 5
PHOTO_ROUNDS = 3
START_ROUNDS = 9
PEAK_OF_COMMAND = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Prints the seconds and the peak memory in KiB of a command. It is a small process of its own, because a child
starts with the memory of the process that forks it."""


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The test images [10000, 32, 32, 3] of CIFAR-10 if it is available, otherwise of the synthetic data set."""
    folder = cifar10.default_data_dir()
    if not cifar10.is_present(folder):
        folder = tmp_path_factory.mktemp("data")
        synthetic.write(folder)
    return cifar10.load(folder, "test").images.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def default_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_by_default(tmp_path_factory.mktemp("peer") / "default.onnx")


def write_files(pixels: np.ndarray, folder: Path, suffix: str) -> Path:
    """Write each image as a file in one of ten folders; return ``folder``."""
    for number, image in enumerate(pixels):
        path = folder / str(number % 10) / f"{number:05d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=90)
    return folder


def write_photos(pixels: np.ndarray, folder: Path) -> Path:
    """Write photographs of 12 megapixels, which are enlarged images with grain; return ``folder``."""
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


def command(*words: object) -> Callable[[], object]:
    """Return a function that runs a command to its end."""
    return lambda: subprocess.run([str(word) for word in words], check=True, capture_output=True)


def infer(model: str, source: Path, output: Path) -> list[object]:
    """The words of cifar10-infer with one model on the CPU."""
    return [INFER, source, "--model", model, "--device", "cpu", "--output", output, "--overwrite"]


def loop(script: str, model: Path, folder: Path, *flags: str) -> Callable[[], object]:
    """Return a function that classifies a folder with one of the scripts beside this file."""
    return command(sys.executable, HERE / script, model, folder, folder.parent / "out.csv", *flags)


def loops(default_export: Path, folder: Path) -> dict[str, Callable[[], object]]:
    """Return the peers of cifar10-infer for small images: loops with Pillow and ONNX Runtime."""
    return {
        "plain loop": loop("plain_loop.py", default_export, folder),
        "plain loop, fp32.onnx": loop("plain_loop.py", MODELS / "fp32.onnx", folder),
        "DataLoader": loop("dataloader_loop.py", default_export, folder),
    }


def compare_commands(
    benchmark: BenchmarkFixture, folder: Path, peers: dict[str, Callable[[], object]], count: int, rounds: int
) -> dict[str, float]:
    """Time cifar10-infer with fp32 and int8, interleaved with its peers, from start to end of each process.

    Returns:
        The median seconds of each contestant.
    """
    output = folder.parent / "out.csv"
    ours = {name: command(*infer(name, folder, output)) for name in ("fp32", "int8")}
    contest = Interleaved({**ours, **peers})  # runs each once: from here on the files are in the page cache
    benchmark.pedantic(contest.run_round, rounds=rounds)
    seconds = contest.medians()
    benchmark.extra_info["seconds"] = {name: round(t, 3) for name, t in seconds.items()}
    benchmark.extra_info["images_per_s"] = {name: round(count / t) for name, t in seconds.items()}
    benchmark.extra_info["fp32_times_the_peer"] = {name: round(seconds[name] / seconds["fp32"], 2) for name in peers}
    return seconds


def model_alone(name: str) -> float:
    """Return the images/s of a bundled model without any files."""
    batch = np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3), dtype=np.uint8)
    with Classifier(name, device="cpu") as classifier:
        classifier.probabilities(batch)
        return len(batch) / median(timed(lambda: classifier.probabilities(batch)) for _ in range(9))


@pytest.mark.benchmark(group="cifar10-infer, 10,000 files")
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_small_files(
    benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray, default_export: Path, suffix: str
) -> None:
    folder = write_files(pixels[:FILES], tmp_path / "images", suffix)
    seconds = compare_commands(benchmark, folder, loops(default_export, folder), FILES, ROUNDS)
    benchmark.extra_info["of_the_model_alone"] = {
        name: round(FILES / seconds[name] / model_alone(name), 2) for name in ("fp32", "int8")
    }


@pytest.mark.benchmark(group="cifar10-infer, 200 photographs of 12 megapixels")
def test_photos(benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray, default_export: Path) -> None:
    folder = write_photos(pixels, tmp_path / "photos")
    peers = {
        "plain loop": loop("plain_loop.py", default_export, folder),
        "DataLoader with draft": loop("dataloader_loop.py", default_export, folder, "--draft"),
    }
    compare_commands(benchmark, folder, peers, PHOTOS, PHOTO_ROUNDS)


@pytest.mark.benchmark(group="cifar10-infer, start to the first prediction")
def test_start(benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray, default_export: Path) -> None:
    folder = write_files(pixels[:1], tmp_path / "images", ".png")
    compare_commands(benchmark, folder, loops(default_export, folder), 1, START_ROUNDS)


@pytest.mark.benchmark(group="cifar10-infer, 100,000 files")
def test_many_files(benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray) -> None:
    """The largest resident set for 1,000 files and for 100,000 hard links to them, and the throughput of the links.

    The throughput of the model is measured before and after: a long run meets another machine than a short one.
    """
    few, many = write_files(pixels[:1000], tmp_path / "few", ".png"), tmp_path / "many"
    for path in list(few.rglob("*.png")):
        for copy in range(100):
            link = many / str(copy) / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)

    def measure() -> dict[str, tuple[float, float]]:
        return {folder.name: seconds_and_mib(*infer("int8", folder, tmp_path / "out.csv")) for folder in (few, many)}

    before = model_alone("int8")
    measured = benchmark.pedantic(measure, rounds=1)
    alone = (before + model_alone("int8")) / 2
    (_, small_peak), (seconds, peak) = measured["few"], measured["many"]
    benchmark.extra_info["peak_mib"] = {name: round(mib) for name, (_, mib) in measured.items()}
    benchmark.extra_info["ratio"] = round(peak / small_peak, 3)
    benchmark.extra_info["images_per_s"] = round(100_000 / seconds)
    benchmark.extra_info["of_the_model_alone"] = round(100_000 / seconds / alone, 2)


def seconds_and_mib(*words: object) -> tuple[float, float]:
    """Run a command; return the seconds that it takes and its peak memory in MiB."""
    small = [sys.executable, "-c", PEAK_OF_COMMAND, *map(str, words)]
    seconds, kib = subprocess.run(small, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), int(kib) / 1024


@pytest.mark.benchmark(group="decoding")
def test_reduced_decoding(benchmark: BenchmarkFixture, tmp_path: Path, pixels: np.ndarray) -> None:
    """How many top-1 predictions change because large JPEG files are decoded at a reduced size; 1,000 of 1024x768."""
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
    full = np.stack([decode(completely_decoded(path), 32) for path in paths])
    with Classifier("fp32", device="cpu") as classifier:
        reduced_classes, full_classes = (classifier.probabilities(batch).argmax(axis=1) for batch in (reduced, full))
    benchmark.extra_info["different_best_class"] = int((reduced_classes != full_classes).sum())
    benchmark.extra_info["of_files"] = len(paths)


def completely_decoded(path: Path) -> bytes:
    """Return an image as a BMP file, a format that is never decoded at a reduced size."""
    with Image.open(path) as image:
        image.save(file := io.BytesIO(), "BMP")
    return file.getvalue()
