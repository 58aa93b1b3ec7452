"""Interrupt cifar10-infer at random moments, resume it, and compare its result with that of an uninterrupted run.

    python tests/stress/interrupt_inference.py --files 5000 --times 20 --seed 0

After each interruption, the partial file must have the first rows of an uninterrupted run. After the last one, the
result must have the same bytes as the result of the uninterrupted run.
"""

import csv
import io
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

NAMES = ["plain", 'comma, "quoted"', "line\nbreak", "carriage\rreturn", "é ✓", "not utf-8 \udcff"]
"""Parts of the names of the images."""
if sys.platform == "darwin":  # its file systems take UTF-8 only
    NAMES.pop()
COMPLETE = (0, 3)
"""Exit statuses of a complete run: 3 if some images cannot be read."""


@dataclass(frozen=True)
class Options:
    """Prove that an interrupted and resumed run writes the same bytes as an uninterrupted run."""

    files: int = 5000
    times: int = 20
    """Number of interruptions of each kind."""
    seed: int = 0


def write_images(folder: Path, count: int, seed: int = 0) -> None:
    """Write PNG files of random pixels in subfolders; every 40th is truncated, every 100th empty."""
    for number in range(count):
        path = folder / f"part {number % 7}" / f"{number:05d} {NAMES[number % len(NAMES)]}.png"
        write_pixels(path, seed + number)
        if number % 40 == 39:
            os.truncate(path, 1000)
        if number % 100 == 99:
            os.truncate(path, 0)


def write_pixels(path: Path, seed: int) -> None:
    """Write an image of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)


_START = """
import os
from cifar10_runtime.cli import main, signals
signals.on_signals(signals.stop_at_once)  # main also does this first; Python itself handles an earlier signal
os.write(2, b"started\\n")
main.main()
"""


def start(
    *words: object,
    before: Sequence[str] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start ``cifar10-infer WORDS...`` and return when it handles signals itself."""
    if sys.platform == "linux":  # under nohup, the tests would inherit an ignored SIGHUP
        before = before or ("env", "--default-signal=HUP")
    command = [*before, sys.executable, "-c", _START, *map(str, words)]
    process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, bufsize=0)
    assert process.stderr is not None
    assert process.stderr.readline() == b"started\n"
    return process


def wait_for_reader(pipe: Path, process: subprocess.Popen[bytes]) -> None:
    """Return as soon as ``process`` has opened ``pipe``."""
    opened = threading.Thread(target=lambda: open(pipe, "wb").close(), daemon=True)  # blocks until there is a reader
    opened.start()
    while opened.is_alive():
        assert process.poll() is None, "the process ended early"
        opened.join(0.05)


def end(process: subprocess.Popen[bytes], lines: int = 3) -> tuple[int, bytes]:
    """Wait for a process that prints at most ``lines`` on stderr; return its exit status and stdout."""
    stdout, stderr = process.communicate(timeout=300)
    assert b"Traceback" not in stderr, stderr.decode(errors="replace")
    assert stderr.count(b"\n") <= lines, stderr.decode(errors="replace")
    return process.returncode, stdout


def rows_of(content: bytes, suffix: str) -> list[list[str]]:
    """Return the rows of CSV or JSON lines, parsed without the code of cifar10-infer."""
    text = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
    return list(csv.reader(text)) if suffix == ".csv" else [[line] for line in text]


@dataclass(frozen=True)
class Run:
    """A command to interrupt, and the output of an uninterrupted run of it."""

    images: Path
    output: Path
    rows: bytes
    """The content of the complete partial file, before it becomes the result."""
    result: bytes
    """The content of the result file."""
    seconds: float
    """Duration of the run."""

    @property
    def words(self) -> tuple[object, ...]:
        """The command line."""
        return (self.images, "--model", "int8", "--output", self.output, "--resume")

    def assert_first_rows(self, content: bytes, may_be_incomplete: bool = False) -> None:
        """Assert that ``content`` has the first rows of the uninterrupted run, and ends with a whole row."""
        assert self.rows.startswith(content)
        if not may_be_incomplete:
            suffix = ".csv" if self.output.suffix == ".csv" else ".jsonl"
            found = rows_of(content, suffix)
            assert found == rows_of(self.rows, suffix)[: len(found)]
            assert content[-1:] in (b"", b"\n")

    def check(self, kind: str, status: int) -> str:
        """Assert that the result, or else the partial file, is right; return how much was written, for the summary."""
        killed = status == -signal.SIGKILL  # SIGKILL can hit in the middle of a write
        if self.output.exists():
            assert self.output.read_bytes() == self.result
            assert status != 1
            return f"{kind}: too late"
        assert status not in COMPLETE
        left = list(self.output.parent.iterdir()) if self.output.parent.exists() else []
        partial = [path for path in left if path.suffix == ".partial"]
        assert len(partial) <= 1
        assert left == partial or killed
        content = partial[0].read_bytes() if partial else b""
        self.assert_first_rows(content, may_be_incomplete=killed)
        return f"{kind}: {len(content) / len(self.rows):.0%} written"

    def finish(self) -> None:
        """Resume the run if necessary; assert that only the right result exists; remove it."""
        if not self.output.exists():
            self.output.parent.mkdir(exist_ok=True)
            status, _ = end(start(*self.words))
            assert status in COMPLETE
            assert list(self.output.parent.iterdir()) == [self.output]
        assert self.output.read_bytes() == self.result
        shutil.rmtree(self.output.parent)
        self.output.parent.mkdir()


def uninterrupted(images: Path, output: Path) -> Run:
    """Return the uninterrupted run. The first run fills caches and gives the rows; the second run is timed."""
    lines = output.with_suffix(".jsonl" if output.suffix == ".parquet" else output.suffix)
    seconds = 0.0
    contents = []
    for path in (lines, output):
        run = Run(images, path, b"", b"", 0)
        begin = time.perf_counter()
        status, _ = end(start(*run.words))
        assert status in COMPLETE
        seconds = time.perf_counter() - begin
        contents.append(path.read_bytes())
        path.unlink()
    return Run(images, output, contents[0], contents[1], seconds)


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait until the process ends, for at most ``seconds``."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def by_signal(number: int) -> Callable[[Run, random.Random], int]:
    """Return a function that interrupts a run by a signal and returns its exit status."""

    def interrupt(run: Run, chance: random.Random) -> int:
        process = start(*run.words)
        wait(process, chance.uniform(0, run.seconds))
        process.send_signal(number)
        status, _ = end(process)
        assert status in (-number if number == signal.SIGKILL else 128 + number, *COMPLETE)
        return status

    return interrupt


def by_removed_folder(run: Run, chance: random.Random) -> int:
    """Remove the folder of the output; with probability 1/2, create it again before the run ends."""
    process = start(*run.words)
    wait(process, chance.uniform(0, run.seconds))
    while run.output.parent.exists():  # the run may be writing to it
        shutil.rmtree(run.output.parent, ignore_errors=True)
    if chance.random() < 0.5:
        run.output.parent.mkdir()
    status, _ = end(process)
    assert status in (1, 2, *COMPLETE)
    run.output.parent.mkdir(exist_ok=True)
    return 1 if status in COMPLETE and not run.output.exists() else status  # removed after the end of the run


def by_full_disk(run: Run, chance: random.Random) -> int:
    """Leave room on the disk for a part of the rows, or for all rows and a part of the Parquet file."""
    disk = run.output.parent.parent
    used = sum(path.stat().st_size for path in run.output.parent.iterdir())
    most = len(run.rows) + (len(run.result) if run.output.suffix == ".parquet" else 0)
    resize(disk, f"{chance.randint(used, max(used, most)) // 1024 + 4}k")
    status, _ = end(start(*run.words))
    resize(disk, "1g")
    assert status in (1, *COMPLETE)
    return status


def by_size_limit(run: Run, chance: random.Random) -> int:
    """Limit the size of files; the limits are multiples of 512 bytes, and few of them fall at the end of a row."""
    blocks = chance.randint(0, len(run.rows) // 512)
    limit = ("sh", "-c", 'ulimit -f "$0" && exec "$@"', str(blocks))
    status, _ = end(start(*run.words, before=limit))
    assert status in (1, *COMPLETE)
    return status


KINDS: dict[str, Callable[[Run, random.Random], int]] = {
    **{f"SIG{name}": by_signal(getattr(signal, f"SIG{name}")) for name in ("INT", "TERM", "HUP", "KILL")},
    "folder removed": by_removed_folder,
    "size limit": by_size_limit,
    "disk full": by_full_disk,
}
"""Functions that interrupt a run that writes a file, and return its exit status."""


def close_stdout(run: Run, chance: random.Random) -> str:
    """Read some rows from stdout and close the pipe; assert that the rows are whole."""
    process = start(*run.words[:-2], "-", stdout=subprocess.PIPE)
    assert process.stdout is not None
    until = time.monotonic() + chance.uniform(0, run.seconds)
    content = b""
    while select.select([process.stdout], [], [], max(0, until - time.monotonic()))[0]:
        more = os.read(process.stdout.fileno(), 1 << 20)  # everything in the pipe
        content += more
        if not more or time.monotonic() > until:
            break
    process.stdout.close()
    status, _ = end(process)
    run.assert_first_rows(content)
    assert status in (1, *COMPLETE)
    return f"stdout closed: {len(content) / len(run.rows):.0%} written"


def signal_to_stdout(run: Run, chance: random.Random) -> str:
    """Send a signal; assert that stdout has whole rows, even if no row was read before the signal."""
    number = chance.choice([signal.SIGINT, signal.SIGTERM])
    process = start(*run.words[:-2], "-", stdout=subprocess.PIPE)
    wait(process, chance.uniform(0, run.seconds))
    process.send_signal(number)
    status, content = end(process)
    run.assert_first_rows(content)
    assert status == 128 + number or (status in COMPLETE and content == run.rows)
    return f"signal to stdout: {len(content) / len(run.rows):.0%} written"


def resize(disk: Path, size: str) -> None:
    """Change the size of the mounted ``disk``."""
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


@contextmanager
def mounted(disk: Path) -> Iterator[bool]:
    """Mount a file system in memory at ``disk`` while the block runs; yield whether this process may mount it."""
    disk.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True, check=False)
        allowed = done.returncode == 0
    except FileNotFoundError:
        allowed = False
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", disk], check=True)


def interrupt_all(folder: Path, files: int, times: int, seed: int) -> list[str]:
    """Interrupt runs, and assert that whole rows are left and resumed results are equal; return a line per run."""
    chance = random.Random(seed)
    write_images(folder / "images", files, seed)
    with mounted(folder / "disk") as can_be_full:
        output = folder / "disk" / "out"
        output.mkdir()
        runs = [uninterrupted(folder / "images", output / f"rows.{suffix}") for suffix in ("csv", "jsonl", "parquet")]
        kinds = [kind for kind in KINDS if can_be_full or kind != "disk full"] * times
        chance.shuffle(kinds)
        lines = [] if can_be_full else ["disk full: skipped, because no file system can be mounted here"]
        run = runs[0]
        for kind in kinds:
            lines.append(f"{run.output.suffix} {run.check(kind, KINDS[kind](run, chance))}")
            if run.output.exists() or chance.random() < 0.5:  # otherwise the run is interrupted again
                run.finish()
                run = chance.choice(runs)
        run.finish()
        for interrupt in (close_stdout, signal_to_stdout):
            lines += [f".csv {interrupt(runs[0], chance)}" for _ in range(times)]
    return lines


def main(options: Options) -> None:
    """Interrupt runs and print what happened."""
    with tempfile.TemporaryDirectory() as folder:
        lines = interrupt_all(Path(folder), options.files, options.times, options.seed)
    print("\n".join(lines))
    kinds = Counter(line.rpartition(":")[0].partition(" ")[2] or line for line in lines)
    hits = sum("written" in line and not line.endswith((" 0% written", "100% written")) for line in lines)
    print(f"{len(lines)} interruptions, {hits} of them half-way: all runs ended with the same bytes; {dict(kinds)}")


if __name__ == "__main__":
    main(tyro.cli(Options))
