"""Classify 200,000 files and prove that memory and throughput do not depend on the number of files.

    python tests/stress/soak.py --files 200000

The files are hard links to 1,000 PNG files. The exit status is 1 if all files take more than 1.1 times the memory of a
tenth of the files, or if the throughput in the last three tenths is below 0.95 times that in the first three tenths.
"""

import io
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import tyro

from tests.helpers.command_line import CIFAR10_INFER
from tests.stress.interrupt_inference import write_pixels

DIFFERENT_FILES = 1000
FILES_PER_FOLDER = 2000
MAX_MEMORY_RATIO, MIN_SPEED_RATIO = 1.1, 0.95
_SECONDS_PER_SAMPLE = 0.2


@dataclass(frozen=True)
class Options:
    """Prove that memory and throughput do not depend on the number of files."""

    files: int = 200_000


@dataclass(frozen=True)
class Samples:
    """The measurements of one run of cifar10-infer."""

    peak: int
    """Peak memory in KiB."""
    resident: list[int]
    """Memory in KiB, every 0.2 s."""
    progress: list[tuple[float, int]]
    """(time in seconds, rows written so far), from the first row to the last."""

    def speed(self, begin: float, end: float) -> float:
        """Return the rows per second between two positions in the run, as fractions of all rows from 0 to 1."""
        rows = self.progress[-1][1]
        return (end - begin) * rows / (self._seconds(end * rows) - self._seconds(begin * rows))

    def _seconds(self, rows: float) -> float:
        """Return the time at which ``rows`` rows were written, interpolated between samples."""
        for (before, fewer), (after, more) in pairwise(self.progress):
            if fewer <= rows <= more and more > fewer:
                return before + (after - before) * (rows - fewer) / (more - fewer)
        return self.progress[0][0]


def link_files(folder: Path, count: int) -> None:
    """Create ``count`` hard links in subfolders of ``folder/all``, 2,000 per subfolder."""
    originals = [folder / "originals" / f"{number}.png" for number in range(DIFFERENT_FILES)]
    for number, path in enumerate(originals):
        write_pixels(path, number)
    for number in range(count):
        path = folder / "all" / f"{number // FILES_PER_FOLDER:05d}" / f"{number:07d}.png"
        if number % FILES_PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.hardlink_to(originals[number % DIFFERENT_FILES])


def sample(folders: list[Path], output: Path) -> Samples:
    """Run cifar10-infer; return samples of its memory and of the number of rows that it has written."""
    command = [str(CIFAR10_INFER), *map(str, folders), "--output", str(output)]
    peak, resident, progress = 0, [], []
    with subprocess.Popen(command) as process, ExitStack() as files:
        partial: IO[bytes] = io.BytesIO()
        rows = 0
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            if sizes := dict(re.findall(r"(VmHWM|VmRSS):\s+(\d+)", status)):  # a process that has ended has no sizes
                peak = int(sizes["VmHWM"])
                resident.append(int(sizes["VmRSS"]))
            if not rows:
                for path in output.parent.glob("*.partial"):
                    partial = files.enter_context(open(path, "rb"))
            rows += partial.read().count(b"\n")
            if rows > 1:
                progress.append((time.perf_counter(), rows))
            time.sleep(_SECONDS_PER_SAMPLE)
    assert process.returncode == 0
    return Samples(peak, resident, progress)


def main(options: Options) -> int:
    """Classify a tenth of the files, then all files; compare the two runs and return the exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        link_files(folder, options.files)
        folders = sorted((folder / "all").iterdir())
        (folder / "results").mkdir()
        few = sample(folders[: len(folders) // 10], folder / "results" / "few.csv")
        many = sample(folders, folder / "results" / "many.csv")
    memory = many.peak / few.peak
    first, last, whole = many.speed(0, 0.3), many.speed(0.7, 1), many.speed(0, 1)
    speed = last / first
    resident = [max(many.resident[start:]) for start in (0, len(many.resident) // 2)]
    print(
        f"peak memory: {few.peak >> 10} MiB for {options.files // 10} files, {many.peak >> 10} MiB for {options.files}"
    )
    print(f"largest resident memory: {resident[0] >> 10} MiB, in the second half {resident[1] >> 10} MiB")
    print(f"images/s: {first:.0f} in the first three tenths, {last:.0f} in the last three, {whole:.0f} in all")
    print(
        f"memory ratio: {memory:.3f}, at most {MAX_MEMORY_RATIO}; speed ratio: {speed:.3f}, at least {MIN_SPEED_RATIO}"
    )
    return int(memory > MAX_MEMORY_RATIO or speed < MIN_SPEED_RATIO)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
