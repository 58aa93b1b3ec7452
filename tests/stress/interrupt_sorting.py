"""Kill cifar10-infer --sort-into at random moments, resume it, and compare the tree with that of an uninterrupted run.

    python tests/stress/interrupt_sorting.py --images photos/ --times 20 --sort-by copy

After each SIGKILL, every file in the tree must be a complete file of the uninterrupted run. After the last one, the
resumed run must give the same names, contents and times, and the same rows.
"""

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tests.stress import interrupt_inference
from tests.stress.interrupt_inference import COMPLETE, end, rows_of, start, wait, write_pixels

WORK = ".cifar10-infer"
"""The beginning of the names of files that exist only while a run sorts."""


@dataclass(frozen=True)
class Options:
    """Prove that an interrupted and resumed run gives the same tree as an uninterrupted run."""

    images: Path | None = None
    """Folder of images; without one, files with unusual and equal names are written, and some are damaged."""
    files: int = 10_000
    """Number of files to write."""
    times: int = 20
    """Number of interruptions."""
    sort_by: Literal["copy", "link"] = "copy"
    seed: int = 0


def write_images(folder: Path, count: int, seed: int = 0) -> None:
    """Write the files of ``interrupt_inference``, and give every fifth the name of a file in another folder."""
    interrupt_inference.write_images(folder, count - count // 5, seed)
    for number in range(count // 5):
        write_pixels(folder / f"part {number % 3}" / f"{number // 3}" / "same.png", seed + count + number)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of each file below ``folder``, by its path in ``folder``."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    """Return the modification time of each file below ``folder``, by its path in ``folder``."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Run:
    """A command to interrupt, and what an uninterrupted run of it gives."""

    words: tuple[object, ...]
    output: Path
    sorted: Path
    rows: bytes
    tree: Mapping[str, bytes]
    times: Mapping[str, int]

    def count(self) -> int:
        """Return the number of files in the tree."""
        return sum(len(names) for _, _, names in os.walk(self.sorted))

    def check_whole_files(self) -> int:
        """Assert that the tree has only complete files of the uninterrupted run; return their number."""
        found = {name: content for name, content in tree(self.sorted).items() if not name.startswith(WORK)}
        assert found.items() <= self.tree.items(), found.keys() - self.tree.keys()
        return len(found)

    def finish(self) -> None:
        """Resume the run; assert that its rows and its tree are right; remove them."""
        status, _ = end(start(*self.words), lines=4)
        assert status in COMPLETE
        assert self.output.read_bytes() == self.rows
        assert tree(self.sorted) == self.tree
        assert times(self.sorted) == self.times
        self.output.unlink()
        shutil.rmtree(self.sorted)


def uninterrupted(images: Path, folder: Path, sort_by: str) -> Run:
    """Return the run, with what it gives if it is not interrupted."""
    output, target = folder / "rows.csv", folder / "sorted"
    model = ("--model", "int8", "--device", "cpu")
    words = (images, *model, "--output", output, "--sort-into", target, "--sort-by", sort_by, "--resume")
    status, _ = end(start(*words))
    assert status in COMPLETE
    run = Run(words, output, target, output.read_bytes(), tree(target), times(target))
    output.unlink()
    shutil.rmtree(target)
    return run


def interrupt_sorting(images: Path, folder: Path, count: int, seed: int = 0, sort_by: str = "copy") -> None:
    """Kill a run ``count`` times and print how far it came; start again when the run was too fast."""
    chance = random.Random(seed)
    run = uninterrupted(images, folder, sort_by)
    assert len(run.tree) == len(rows_of(run.rows, ".csv")) - 1
    kills = 0
    while kills < count:
        process = start(*run.words)
        goal = run.count() + chance.randint(0, 2 * len(run.tree) // (count + 1))
        while process.poll() is None and run.count() < goal:
            wait(process, 0.005)
        wait(process, chance.uniform(0, 0.005))
        process.send_signal(signal.SIGKILL)
        status, _ = end(process, lines=4)
        if status in COMPLETE:
            run.finish()
            continue
        assert status == -signal.SIGKILL
        kills += 1
        print(f"kill {kills}: {run.check_whole_files()} of {len(run.tree)} files sorted", flush=True)
    run.finish()


def main(options: Options) -> None:
    """Interrupt runs and print what happened."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.images:
            write_images(folder / "images", options.files, options.seed)
        interrupt_sorting(options.images or folder / "images", folder, options.times, options.seed, options.sort_by)
    print("all runs ended with the same tree and the same rows")


if __name__ == "__main__":
    main(tyro.cli(Options))
