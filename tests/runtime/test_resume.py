"""cifar10-infer is interrupted, resumed, refused and run in parallel: no row is lost, torn or duplicated."""

import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from cifar10_runtime import Classifier, OutputError, Prediction, UsageError
from cifar10_runtime.images.find import find
from cifar10_runtime.results import parquet
from cifar10_runtime.results.resume import RowSettings
from cifar10_runtime.results.rows import Columns, Csv
from cifar10_runtime.results.stream import StreamWriter
from cifar10_runtime.results.writer import Writer, result_writer
from typing_extensions import Buffer

from tests.helpers.command_line import CIFAR10_INFER, SHORT_DOCTOR, assert_fails_cleanly, infer
from tests.stress.interrupt_inference import end, interrupt_all, rows_of, start, wait_for_reader, write_images

pytestmark = pytest.mark.posix

MODEL = ("--model", "int8")
OK, FATAL, USAGE, SOME_FAILED = 0, 1, 2, 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 200 files, 6 of them damaged; the files in its first subfolder are good."""
    folder = tmp_path_factory.mktemp("images") / "all"
    write_images(folder, 200)
    return folder


@pytest.fixture(scope="module")
def good(images: Path) -> list[Path]:
    """Images that can be read."""
    return sorted(path for path in images.rglob("*.png") if path.stat().st_size > 1000)


@pytest.fixture(scope="module")
def uninterrupted(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The CSV file that an uninterrupted run writes for all images."""
    output = tmp_path_factory.mktemp("uninterrupted") / "out.csv"
    assert infer(images, *MODEL, "--output", output).returncode == SOME_FAILED
    return output.read_bytes()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of a file that does not exist yet, in an empty folder."""
    folder = tmp_path / "results"
    folder.mkdir()
    return folder / "out.csv"


def leave_partial(images: Path, output: Path, *words: object) -> Path:
    """The partial file of a run that stopped at the first damaged image."""
    result = infer(images, *MODEL, "--output", output, "--batch-size", 4, "--strict", *words)
    assert result.returncode == FATAL, result.stderr
    (partial,) = output.parent.iterdir()
    assert partial.name.endswith(".partial")
    return partial


def contents(folder: Path) -> dict[str, bytes]:
    """Names and contents of the files in ``folder``."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_interrupted_and_resumed_runs_end_with_the_same_bytes(tmp_path: Path) -> None:
    """Interrupted by signals, a removed folder, full disks and a reader that goes away; some runs several times."""
    print("\n".join(interrupt_all(tmp_path, files=600, times=1, seed=0)))


def test_resume_starts_a_new_run_or_continues_an_interrupted_one(
    images: Path, output: Path, uninterrupted: bytes
) -> None:
    words = (images, *MODEL, "--output", output)
    assert infer(*words, "--resume").returncode == SOME_FAILED
    assert contents(output.parent) == {output.name: uninterrupted}
    output.unlink()
    assert infer(*words, "--strict").returncode == FATAL
    result = infer(*words, "--resume", "--report", output.with_suffix(".html"))
    assert result.returncode == SOME_FAILED
    assert "200 images, 6 failed" in result.stderr, "the images of the first run are counted, too"
    assert output.read_bytes() == uninterrupted
    assert sorted(contents(output.parent)) == ["out.csv", "out.html"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        pytest.param([], "--resume continues it", id="neither --resume nor --overwrite"),
        pytest.param(["--resume", "--top-k", "2"], "another model or other options", id="other options"),
        pytest.param(["--resume", "--model", "tutorial"], "another model or other options", id="another model"),
    ],
)
def test_a_run_does_not_touch_the_partial_file_of_another_run(
    images: Path, output: Path, words: list[str], part: str
) -> None:
    leave_partial(images, output)
    before = contents(output.parent)
    assert_fails_cleanly(infer(images, *MODEL, "--output", output, "--batch-size", 4, *words), USAGE, part)
    assert contents(output.parent) == before


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["without --resume", "with --resume"])
def test_a_file_with_other_content_is_not_replaced(good: list[Path], output: Path, resume: list[str]) -> None:
    output.write_text("precious")
    assert_fails_cleanly(infer(good[0], *MODEL, "--output", output, *resume), USAGE, "--overwrite replaces it")
    assert contents(output.parent) == {output.name: b"precious"}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_resume_of_a_complete_result_reads_its_rows(images: Path, output: Path, suffix: str) -> None:
    """The exit status is the same and the report shows all images; other images are refused."""
    output = output.with_suffix(suffix)
    words = (*MODEL, "--output", output, "--top-k", 2)
    assert infer(images, *words).returncode == SOME_FAILED
    before = output.read_bytes()
    result = infer(images, *words, "--resume", "--report", output.with_suffix(".html"))
    assert result.returncode == SOME_FAILED
    assert "is complete" in result.stderr
    assert "200 images, 6 failed" in result.stderr
    assert "194 images" in output.with_suffix(".html").read_text()
    for paths, part in (((images, images), "is complete without"), ((images / "part 0",), "now there is none")):
        assert_fails_cleanly(infer(*paths, *words, "--resume"), USAGE, part)
    assert contents(output.parent).keys() == {output.name, "out.html"}
    assert output.read_bytes() == before


def test_an_interrupted_run_with_overwrite_can_be_resumed(images: Path, output: Path, uninterrupted: bytes) -> None:
    output.write_text("old")
    words = (images, *MODEL, "--output", output)
    result = infer(*words, "--overwrite", "--strict", "--batch-size", 4)
    assert result.returncode == FATAL
    assert "--resume --overwrite continues" in result.stderr
    assert output.read_text() == "old"
    assert_fails_cleanly(infer(*words, "--resume", "--batch-size", 4), USAGE, "--resume --overwrite")
    assert infer(*words, "--resume", "--overwrite", "--batch-size", 4).returncode == SOME_FAILED
    assert contents(output.parent) == {output.name: uninterrupted}


def test_overwrite_replaces_the_result_and_removes_partial_files(
    images: Path, output: Path, uninterrupted: bytes
) -> None:
    """Partial files of the same result, with any options, but not the partial file of a longer name."""
    leave_partial(images, output, "--top-k", 2).with_suffix(".tmp").touch()
    other = output.with_name("out.csv.old.csv.01234567.partial")
    other.touch()
    output.write_text("old")
    assert infer(images, *MODEL, "--output", output, "--overwrite", "--strict").returncode == FATAL
    assert output.read_text() == "old", "until the new result is complete"
    assert infer(images, *MODEL, "--output", output, "--overwrite").returncode == SOME_FAILED
    assert contents(output.parent) == {output.name: uninterrupted, other.name: b""}


def test_resume_refuses_other_images(good: list[Path], output: Path, tmp_path: Path) -> None:
    """A new image, a missing image. The rows stay, so that the run can continue once the images are back."""
    folder = tmp_path / "some"
    folder.mkdir()
    for number, path in enumerate(good[:12]):
        (folder / f"{number:02d}.png").hardlink_to(path)
    (folder / "12.png").touch()  # the run stops here
    leave_partial(folder, output)
    before = contents(output.parent)
    words = (folder, *MODEL, "--output", output, "--batch-size", 4, "--resume")
    (folder / "00b.png").touch()
    assert_fails_cleanly(infer(*words), USAGE, "the images have changed", "01.png", "00b.png")
    (folder / "00b.png").unlink()
    (folder / "03.png").rename(folder / "99.png")
    assert_fails_cleanly(infer(*words), USAGE, "the images have changed", "03.png", "04.png")
    (folder / "99.png").rename(folder / "03.png")
    assert contents(output.parent) == before
    assert infer(*words).returncode == SOME_FAILED


def test_resume_replaces_an_incomplete_row(images: Path, output: Path) -> None:
    """The partial file is empty, cut in the header, in the last row, in a quoted path, or followed by garbage."""
    whole = leave_partial(images, output)
    rows = whole.read_bytes()
    words = (images, *MODEL, "--output", output, "--batch-size", 4)
    assert infer(*words, "--resume").returncode == SOME_FAILED
    result = output.read_bytes()
    for content in (b"", rows[:10], rows[:-1], rows[: rows.index(b"\nbreak")], rows + b'"\xff\n\0'):
        output.unlink()
        whole.write_bytes(content)
        assert infer(*words, "--resume").returncode == SOME_FAILED
        assert contents(output.parent) == {output.name: result}


class FullDisk(io.BytesIO):
    """A file that takes at most ``room`` bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, content: Buffer) -> int:
        """Write as much as fits."""
        taken = bytes(content)[: self.room - self.tell()]
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(taken)


def test_a_full_disk_ends_with_a_whole_row() -> None:
    """The writer removes the part of a row that did not fit, for a disk of any size."""
    predictions = [Prediction(f"{number}\n.png", (("cat", 0.5),)) for number in range(400)]
    rows = [Csv(Columns(1)).row(prediction) for prediction in predictions]

    def fill(disk: FullDisk) -> None:
        with StreamWriter(disk, Csv(Columns(1)), "disk") as writer:
            for prediction in predictions:
                writer.add(prediction)
            writer.commit()

    for room in range(40, len(b"".join(rows)), 37):
        disk = FullDisk(room)
        with pytest.raises(OutputError, match="disk cannot be written: No space left on device"):
            fill(disk)
        content = disk.getvalue().removeprefix(Csv(Columns(1)).header())
        assert b"".join(rows).startswith(content)
        assert content == b"" or content.endswith(b"cat,0.5,\n")


def test_appending_to_a_file_on_a_full_disk_keeps_its_earlier_content(images: Path, tmp_path: Path) -> None:
    """cifar10-infer ... >> rows.jsonl, where the file has 500 bytes and the disk gets full at once or later."""
    target = tmp_path / "rows.jsonl"
    for blocks in (1, 9):
        target.write_bytes(b"#" * 499 + b"\n")
        code = f'ulimit -f {blocks}; exec "$@" >> "$0"'
        command = ("sh", "-c", code, target, CIFAR10_INFER, images, *MODEL, "--output", "-", "--format", "jsonl")
        result = subprocess.run(list(map(str, command)), stderr=subprocess.PIPE, text=True, check=False)
        assert result.returncode == FATAL
        assert "stdout cannot be written" in result.stderr
        precious, *rows = target.read_bytes().splitlines()
        assert precious == b"#" * 499
        assert [Path(json.loads(row)["path"]).parent.name for row in rows] == ["part 0"] * len(rows)


def writer_of(output: Path, device: str = "cpu", resume: bool = False, overwrite: bool = False) -> Writer:
    """A writer of rows with one label, in batches of four; another device gives the rows another id."""
    settings = RowSettings("0" * 64, ("cat",), device, False, 4, "white", 1 << 26, 1)
    return result_writer(output, settings, resume, overwrite)


def test_only_one_process_writes_a_file(output: Path) -> None:
    """Neither --resume nor --overwrite nor other options let a second one in."""
    one = Prediction("a.png", (("cat", 0.5),))
    others = [writer_of(output, device, flag, not flag) for device in ("cpu", "cuda") for flag in (True, False)]
    late = writer_of(output)
    with writer_of(output, overwrite=True) as writer:
        assert not list(writer.resume())
        writer.add(one)
        for other in (*others[:2], others[3], late):
            with pytest.raises(UsageError, match="being written by another process"), other:
                pass
        writer.commit()
    assert output.read_bytes() == Csv(Columns(1)).header() + Csv(Columns(1)).row(one)
    with pytest.raises(UsageError, match="exists"), late:
        pass
    assert contents(output.parent) == {output.name: Csv(Columns(1)).header() + Csv(Columns(1)).row(one)}


def test_a_partial_file_is_locked_until_the_parquet_file_is_complete(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = output.with_suffix(".parquet")
    convert = parquet.from_json_lines

    def convert_while_another_run_resumes(source: Path, target: Path, columns: Columns) -> None:
        with pytest.raises(UsageError, match="being written"), writer_of(output, resume=True):
            pass
        convert(source, target, columns)

    monkeypatch.setattr(parquet, "from_json_lines", convert_while_another_run_resumes)
    with writer_of(output) as writer:
        assert not list(writer.resume())
        writer.add(Prediction("a.png", (("cat", 0.5),)))
        writer.commit()
    assert list(output.parent.iterdir()) == [output]


@contextmanager
def waiting(good: list[Path], output: Path, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has written some rows and is waiting for more paths on stdin."""
    words = ("--files-from", "-", *MODEL, "--batch-size", 1, "--output", output)
    process = start(*words, before=before, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"".join(os.fsencode(path) + b"\0" for path in good))
    while not any(path.stat().st_size > 1000 for path in output.parent.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    yield process


def test_a_second_process_that_writes_the_same_file_is_refused(good: list[Path], output: Path) -> None:
    with waiting(good, output) as process:
        for words in (["--resume"], ["--overwrite"], ["--overwrite", "--top-k", 2]):
            second = infer(good[0], *MODEL, "--batch-size", 1, "--output", output, *words)
            assert_fails_cleanly(second, USAGE, "being written by another process")
    assert end(process)[0] == OK
    assert len(rows_of(output.read_bytes(), ".csv")) == 1 + len(good)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_a_waiting_run_keeps_all_its_rows(good: list[Path], output: Path, name: str) -> None:
    number = signal.Signals[name]
    with waiting(good, output) as process:
        process.send_signal(number)
        process.wait()
    assert end(process)[0] == 128 + number
    (partial,) = output.parent.iterdir()
    rows = rows_of(partial.read_bytes(), ".csv")[1:]
    assert [row[0] for row in rows] == [str(path) for path in good[: len(rows)]]


def test_ignored_signals_stay_ignored(good: list[Path], output: Path) -> None:
    """``nohup`` ignores SIGHUP for the command; a shell ignores SIGINT for a background job."""
    with waiting(good, output, before=("sh", "-c", 'trap "" HUP INT; exec "$0" "$@"')) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
    assert end(process)[0] == OK


def test_an_interrupt_during_startup_prints_no_traceback(images: Path) -> None:
    """Libraries are being imported, or the model is being loaded."""
    for moment in range(10):
        process = start(images, *MODEL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment * 0.02)
        process.send_signal(signal.SIGINT)
        assert end(process)[0] in (128 + signal.SIGINT, SOME_FAILED)


def test_an_interrupt_ends_the_command_in_the_middle_of_a_large_batch(good: list[Path], tmp_path: Path) -> None:
    """A batch of 5,000 images in ten-crop takes a minute; its last file, a pipe, tells when the others are decoded."""
    pipe = tmp_path / "last.png"
    os.mkfifo(pipe)
    paths = tmp_path / "paths"
    paths.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in [*good[:100] * 50, pipe][1:]))
    process = start("--files-from", paths, "--model", "views10", "--batch-size", 5000)
    wait_for_reader(pipe, process)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 128 + signal.SIGINT
    assert time.monotonic() - begin < 2


def test_strict_and_max_failures_limit_the_failures(images: Path, output: Path, uninterrupted: bytes) -> None:
    """The rows before the failure that exceeds the limit are kept; a run within the limit completes."""
    words = (images, *MODEL, "--output", output)
    assert_fails_cleanly(infer(*words, "--strict"), FATAL, "00119", "--strict")
    assert_fails_cleanly(infer(*words, "--resume", "--max-failures", 5), FATAL, "--max-failures 5")
    (partial,) = output.parent.iterdir()
    assert uninterrupted.startswith(partial.read_bytes())
    assert [bool(row[3]) for row in rows_of(partial.read_bytes(), ".csv")[1:]].count(True) == 5
    result = infer(*words, "--resume", "--max-failures", 6)
    assert result.returncode == SOME_FAILED, result.stderr
    assert output.read_bytes() == uninterrupted


@pytest.mark.parametrize("source", ["file", "stdin"])
@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"], ids=["LF", "CRLF", "NUL"])
def test_files_from_reads_a_list_from_a_file_or_stdin(
    good: list[Path], tmp_path: Path, separator: bytes, source: str
) -> None:
    """Names may have all characters except the separator; the last separator may be missing; one file is missing."""
    names = [os.fsencode(path) for path in good[:20]] + [b"gone.png"]
    if separator != b"\0":
        names = [name for name in names if b"\n" not in name and b"\r" not in name]
    content = separator.join([*names, b"", names[0]])
    paths = tmp_path / "paths"
    paths.write_bytes(content)
    command = [CIFAR10_INFER, "--files-from", paths if source == "file" else "-", *MODEL, "--output", "-"]
    result = subprocess.run(list(map(str, command)), input=content, capture_output=True, check=False)
    assert result.returncode == SOME_FAILED, result.stderr
    rows = rows_of(result.stdout, ".csv")[1:]
    assert [os.fsencode(row[0]) for row in rows] == [*names, names[0]]
    assert [row[0] for row in rows if row[3]] == ["gone.png"]


def test_a_vanished_file_or_folder_gives_a_row_with_an_error(good: list[Path], tmp_path: Path) -> None:
    """A file vanishes after its folder was read, a folder before it is read; the other images are classified."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.png").hardlink_to(good[number])
    paths = find([str(tmp_path / "first"), str(tmp_path / "second")])
    first = next(paths)
    (tmp_path / "first" / "1.png").unlink()
    shutil.rmtree(tmp_path / "second")
    with Classifier("int8", device="cpu") as classifier:
        rows = list(classifier.classify(chain([first], paths)))
    assert [os.path.relpath(row.path, tmp_path) for row in rows] == [
        "first/0.png",
        "first/1.png",
        "first/2.png",
        "second",
    ]
    assert [row.error for row in rows] == ["", "No such file or directory", "", "No such file or directory"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        pytest.param(["{image}", "--output", "{output}"], OK, id="output to a file"),
        pytest.param(["{image}"], USAGE, id="table to stdout"),
        pytest.param(["{image}", "--output", "-"], USAGE, id="CSV to stdout"),
        pytest.param(["--files-from", "-", "--output", "{output}"], USAGE, id="paths from stdin"),
        pytest.param(["{image}", "--unknown"], USAGE, id="unknown option"),
        pytest.param(["{image}", "--model", "nothing", "--output", "{output}"], FATAL, id="missing model"),
        pytest.param(["--help"], OK, id="help"),
        pytest.param(["-c", SHORT_DOCTOR], OK, id="doctor"),
    ],
)
def test_the_exit_status_is_right_when_the_standard_streams_are_closed(
    good: list[Path], output: Path, words: list[str], status: int
) -> None:
    """Nobody can read a message, and no file that the command opens takes the place of a stream."""
    words = [word.replace("{image}", str(good[0])).replace("{output}", str(output)) for word in words]
    program = sys.executable if words[0] == "-c" else str(CIFAR10_INFER)
    command = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', program, *words]
    assert subprocess.run(command, check=False).returncode == status
    if words[-1] == str(output) and status == OK:
        assert len(rows_of(output.read_bytes(), ".csv")) == 2
    else:
        assert not list(output.parent.iterdir())


def test_a_classifier_in_a_forked_child_is_an_error(good: list[Path]) -> None:
    """The child must not wait for threads that only its parent has."""
    with Classifier("int8", device="cpu") as classifier:
        before = list(classifier.classify(good[:70]))
        begun = classifier.classify(good, batch_size=1)
        next(begun)

        def use() -> None:
            with suppress(UsageError):
                list(begun)
                os._exit(1)
            with suppress(UsageError):
                classifier.classify(good)
                os._exit(1)
            with suppress(UsageError):
                classifier.probabilities(np.zeros((100, 32, 32, 3), np.uint8))
                os._exit(1)
            os._exit(0)

        child = multiprocessing.get_context("fork").Process(target=use)
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert list(classifier.classify(good[:70])) == before


@pytest.mark.parametrize("count", [2, 8], ids=["two processes", "eight processes"])
def test_concurrent_processes_in_one_folder_do_not_disturb_each_other(
    images: Path, output: Path, uninterrupted: bytes, count: int
) -> None:
    """Each process writes the same file as a single one."""
    names = [output.with_name(f"{number}.csv") for number in range(count)]
    for process in [start(images, *MODEL, "--output", name) for name in names]:
        assert end(process)[0] == SOME_FAILED
    assert contents(output.parent) == {name.name: uninterrupted for name in names}
