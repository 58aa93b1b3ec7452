"""Kill a worker of cifar10-infer-ray, and compare the rows with the rows of cifar10-infer.

    python tests/stress/ray_sources.py --images 20000

The same images come from folders, tar shards and Parquet files; one image is corrupt. The exit status is 1 if a row
differs.
"""

import argparse
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import torch
from pyarrow import parquet

from cifar10_zoo import image_folders, synthetic
from cifar10_zoo.data.cifar10 import CLASSES
from cifar10_zoo.data.dataset import Dataset

INFER = Path(sys.executable).with_name("cifar10-infer")
INFER_ON_RAY = Path(sys.executable).with_name("cifar10-infer-ray")
Rows = list[tuple[object, ...]]


def write_images(folder: Path, count: int) -> list[Path]:
    """Write PNG files in class folders, one of them corrupt; return them in the order of cifar10-infer."""
    written = min(count, 10_000)
    labels = (np.arange(written) % 10).astype(np.uint8)
    drawings = torch.from_numpy(synthetic.draw(labels, np.random.default_rng(0)))
    image_folders.write(Dataset("synthetic", CLASSES["synthetic"], drawings, torch.from_numpy(labels).long()), folder)
    files = sorted(folder.rglob("*.png"))
    for number in range(count - written):  # hard links instead of more drawings
        original = files[number % written]
        os.link(original, original.with_name(f"{number:06d}-{original.name}"))
    files = sorted(folder.rglob("*.png"))
    corrupt = files[len(files) // 3]
    content = corrupt.read_bytes()
    corrupt.unlink()  # other hard links to the file must keep the whole content
    corrupt.write_bytes(content[: len(content) // 2])
    return files


def write_tars(folder: Path, files: list[Path], count: int) -> None:
    """Write WebDataset shards of ``count`` images; each sample has a key, an image and a class."""
    folder.mkdir()
    for number, part in enumerate(parts(files, count)):
        with tarfile.open(folder / f"shard-{number:06d}.tar", "w") as tar:
            for index, path in enumerate(part):
                for suffix, content in (("cls", path.parent.name.encode()), ("png", path.read_bytes())):
                    member = tarfile.TarInfo(f"{index:06d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def write_parquet(folder: Path, files: list[Path], count: int) -> None:
    """Write Parquet files of ``count`` images: half of them plain bytes, half the structs of Hugging Face datasets."""
    folder.mkdir()
    for number, part in enumerate(parts(files, count)):
        contents = [path.read_bytes() for path in part]
        images = [{"bytes": content, "path": None} for content in contents] if number % 2 else contents
        parquet.write_table(
            pyarrow.table({"id": range(len(images)), "image": images}), folder / f"{number:06d}.parquet"
        )


def parts(files: list[Path], count: int) -> Iterator[list[Path]]:
    """Yield the files in groups of ``count``."""
    return (files[start : start + count] for start in range(0, len(files), count))


def rows_of(path: Path) -> Rows:
    """Return the rows of a Parquet file, or of all parts in a folder, without the path."""
    names = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    found = [row for name in names for row in parquet.read_table(name).to_pylist()]
    return [tuple(value for name, value in row.items() if name != "path") for row in found]


def actors(driver: int) -> list[int]:
    """Return the process IDs of a command's workers; Ray writes the name of their class into their command line."""
    return [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if b"PartitionWorker" in read(process / "cmdline") and driver in ancestors(int(process.name))
    ]


def ancestors(process: int) -> Iterator[int]:
    """Yield the parent of ``process``, its parent, and so on."""
    while process > 1:
        about = read(Path(f"/proc/{process}/stat")).rpartition(b")")[2].split()
        process = int(about[1]) if about else 0
        yield process


def read(path: Path) -> bytes:
    """Return the content of a file in /proc; empty if the process has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def classify_and_kill(source: str, output: Path, size: int) -> float:
    """Run the command, kill a worker once the first part exists, and return the seconds of the whole run."""
    words: list[str | Path] = [INFER_ON_RAY, source, "--output", output, "--partition-size", str(size)]
    start = time.perf_counter()
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    killed = False
    while process.poll() is None:
        if not killed and list(output.glob("part-*.parquet")) and (workers := actors(process.pid)):
            os.kill(workers[0], signal.SIGKILL)
            killed = True
        time.sleep(0.01)
    assert process.stderr is not None
    print("   ", process.stderr.read().strip().replace("\n", "; "))
    if not killed or process.returncode != 3:
        sys.exit(f"{source}: killed: {killed}, exit status {process.returncode} where 3 was expected")
    return time.perf_counter() - start


def main() -> None:
    """Run the comparison for each source."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=20_000)
    count: int = options.parse_args().images
    folder = Path(tempfile.mkdtemp(prefix="ray-sources-"))
    try:
        files = write_images(folder / "images", count)
        write_tars(folder / "tar", files, count // 20)
        write_parquet(folder / "parquet", files, count // 20)
        start = time.perf_counter()
        subprocess.run([INFER, folder / "images", "--output", folder / "cli.parquet"], check=False)
        print(f"cifar10-infer: {count} images in {time.perf_counter() - start:.1f} s")
        expected = rows_of(folder / "cli.parquet")
        for source in ("images", "tar", "parquet"):
            output = folder / f"out-{source}"
            seconds = classify_and_kill(str(folder / source), output, count // 20)
            same = rows_of(output) == expected
            print(f"{source}: {count} images in {seconds:.1f} s, a worker killed, rows {'equal' if same else 'DIFFER'}")
            if not same:
                sys.exit(1)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
