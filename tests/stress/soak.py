"""Classify very many files and prove that neither memory nor throughput depends on how many there were before.

    python tests/stress/soak.py --files 200000

The files are hard links to 1,000 PNG files. Exits with 1 where all of them take more than 1.1 times the memory of a
tenth of them, or where the last three tenths are classified at less than 0.95 times the speed of the first three.
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

DIFFERENT, A_FOLDER = 1000, 2000
"""Files with other content than all others; files in a folder."""
MOST_MEMORY, LEAST_SPEED = 1.1, 0.95
_SECONDS_A_SAMPLE = 0.2


@dataclass(frozen=True)
class Options:
    """Prove that memory and throughput are constant."""

    files: int = 200_000


@dataclass(frozen=True)
class Samples:
    """What was seen of a run."""

    peak: int
    """KiB of memory at most."""
    resident: list[int]
    """KiB of memory, each 0.2 s."""
    progress: list[tuple[float, int]]
    """Seconds and rows; from the first row to the last."""

    def speed(self, begin: float, end: float) -> float:
        """Rows a second between two shares of all rows."""
        rows = self.progress[-1][1]
        return (end - begin) * rows / (self._seconds(end * rows) - self._seconds(begin * rows))

    def _seconds(self, rows: float) -> float:
        """When there were so many rows, between two samples."""
        for (before, fewer), (after, more) in pairwise(self.progress):
            if fewer <= rows <= more and more > fewer:
                return before + (after - before) * (rows - fewer) / (more - fewer)
        return self.progress[0][0]


def link_files(folder: Path, count: int) -> None:
    """``count`` files in subfolders of 2,000."""
    originals = [folder / "originals" / f"{number}.png" for number in range(DIFFERENT)]
    for number, path in enumerate(originals):
        write_pixels(path, number)
    for number in range(count):
        path = folder / "all" / f"{number // A_FOLDER:05d}" / f"{number:07d}.png"
        if number % A_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.hardlink_to(originals[number % DIFFERENT])


def sample(folders: list[Path], output: Path) -> Samples:
    """Run the command and watch its memory and its rows."""
    command = [str(CIFAR10_INFER), *map(str, folders), "--output", str(output)]
    peak, resident, progress = 0, [], []
    with subprocess.Popen(command) as process, ExitStack() as files:
        partial: IO[bytes] = io.BytesIO()
        rows = 0
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            if sizes := dict(re.findall(r"(VmHWM|VmRSS):\s+(\d+)", status)):  # there are none once it has ended
                peak = int(sizes["VmHWM"])
                resident.append(int(sizes["VmRSS"]))
            if not rows:
                for path in output.parent.glob("*.partial"):
                    partial = files.enter_context(open(path, "rb"))
            rows += partial.read().count(b"\n")
            if rows > 1:
                progress.append((time.perf_counter(), rows))
            time.sleep(_SECONDS_A_SAMPLE)
    assert process.returncode == 0
    return Samples(peak, resident, progress)


def main(options: Options) -> int:
    """Run with a tenth of the files, then with all; returns the exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        link_files(folder, options.files)
        folders = sorted((folder / "all").iterdir())
        (folder / "results").mkdir()
        few = sample(folders[: len(folders) // 10], folder / "results" / "few.csv")
        many = sample(folders, folder / "results" / "many.csv")
    memory = many.peak / few.peak
    first, last = many.speed(0, 0.3), many.speed(0.7, 1)
    steady = [max(many.resident[start:]) for start in (0, len(many.resident) // 2)]
    print(
        f"peak memory: {few.peak >> 10} MiB for {options.files // 10} files, {many.peak >> 10} MiB for {options.files}"
    )
    print(f"resident, greatest: {steady[0] >> 10} MiB, in the second half {steady[1] >> 10} MiB")
    whole = many.speed(0, 1)
    print(f"images/s: {first:.0f} in the first three tenths, {last:.0f} in the last three, {whole:.0f} on the whole")
    print(f"memory {memory:.3f}x (at most {MOST_MEMORY}x), throughput {last / first:.3f}x (at least {LEAST_SPEED}x)")
    return int(memory > MOST_MEMORY or last / first < LEAST_SPEED)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
