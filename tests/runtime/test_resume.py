"""cifar10-infer is interrupted, resumed, refused and run in parallel: no row is lost, torn or there twice."""

import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from cifar10_runtime import Classifier, Prediction, UsageError
from cifar10_runtime.images import find as files
from cifar10_runtime.results.rows import Csv
from cifar10_runtime.results.writer import OutputFile, to_stream
from typing_extensions import Buffer

from tests.helpers.command_line import CIFAR10_INFER, assert_fails_cleanly, infer
from tests.stress.interrupt_inference import end, interrupt_all, rows_of, start, write_images

MODEL = ("--model", "int8")
OK, FATAL, USAGE, SOME_FAILED = 0, 1, 2, 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 200 files, 6 of them damaged; those of its first subfolder are good."""
    folder = tmp_path_factory.mktemp("images") / "all"
    write_images(folder, 200)
    return folder


@pytest.fixture(scope="module")
def good(images: Path) -> list[Path]:
    """Images that can be read."""
    return sorted(path for path in images.rglob("*.png") if path.stat().st_size > 1000)


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The CSV file of all images."""
    output = tmp_path_factory.mktemp("undisturbed") / "out.csv"
    assert infer(images, *MODEL, "--output", output).returncode == SOME_FAILED
    return output.read_bytes()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A file that is not there yet, alone in its folder."""
    folder = tmp_path / "results"
    folder.mkdir()
    return folder / "out.csv"


def leave_partial(images: Path, output: Path, *words: object) -> Path:
    """Rows of a run that stopped at the first damaged image, as it leaves them."""
    result = infer(images, *MODEL, "--output", output, "--batch-size", 4, "--strict", *words)
    assert result.returncode == FATAL, result.stderr
    (partial,) = output.parent.iterdir()
    assert partial.name.endswith(".partial")
    return partial


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in ``folder``."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_interrupted_runs_end_with_the_same_bytes(tmp_path: Path) -> None:
    """By signals, a removed folder, full disks, a reader that goes away; some several times."""
    print("\n".join(interrupt_all(tmp_path, files=600, times=1, seed=0)))


def test_resume_begins_where_there_is_nothing_and_goes_on_where_there_is_something(
    images: Path, output: Path, undisturbed: bytes
) -> None:
    words = (images, *MODEL, "--output", output)
    assert infer(*words, "--resume").returncode == SOME_FAILED
    assert contents(output.parent) == {output.name: undisturbed}
    output.unlink()
    assert infer(*words, "--strict").returncode == FATAL
    result = infer(*words, "--resume", "--report", output.with_suffix(".html"))
    assert result.returncode == SOME_FAILED
    assert "200 images, 6 failed" in result.stderr, "those of the first run are counted"
    assert output.read_bytes() == undisturbed
    assert sorted(contents(output.parent)) == ["out.csv", "out.html"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "--resume goes on with it"),
        (["--resume", "--top-k", "2"], "another model or other options"),
        (["--resume", "--model", "tutorial"], "another model or other options"),
    ],
)
def test_what_an_interrupted_run_left_is_not_touched_by_other_runs(
    images: Path, output: Path, words: list[str], part: str
) -> None:
    leave_partial(images, output)
    before = contents(output.parent)
    assert_fails_cleanly(infer(images, *MODEL, "--output", output, "--batch-size", 4, *words), USAGE, part)
    assert contents(output.parent) == before


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_what_is_no_result_of_the_command_is_not_touched(good: list[Path], output: Path, resume: list[str]) -> None:
    output.write_text("precious")
    assert_fails_cleanly(infer(good[0], *MODEL, "--output", output, *resume), USAGE, "--overwrite replaces it")
    assert contents(output.parent) == {output.name: b"precious"}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_complete_result_is_resumed_by_looking_at_it(images: Path, output: Path, suffix: str) -> None:
    """The status is the same again, and a report can be made of it; other images are refused."""
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


def test_a_run_that_was_to_overwrite_can_be_resumed(images: Path, output: Path, undisturbed: bytes) -> None:
    output.write_text("old")
    words = (images, *MODEL, "--output", output)
    result = infer(*words, "--overwrite", "--strict", "--batch-size", 4)
    assert result.returncode == FATAL
    assert "--resume --overwrite goes on" in result.stderr
    assert output.read_text() == "old"
    assert_fails_cleanly(infer(*words, "--resume", "--batch-size", 4), USAGE, "--resume --overwrite")
    assert infer(*words, "--resume", "--overwrite", "--batch-size", 4).returncode == SOME_FAILED
    assert contents(output.parent) == {output.name: undisturbed}


def test_overwrite_replaces_results_and_what_was_left(images: Path, output: Path, undisturbed: bytes) -> None:
    """A result, rows of the same command and of others; not those of a file with a longer name."""
    leave_partial(images, output, "--top-k", 2).with_suffix(".tmp").touch()
    other = output.with_name("out.csv.old.csv.01234567.partial")
    other.touch()
    output.write_text("old")
    assert infer(images, *MODEL, "--output", output, "--overwrite", "--strict").returncode == FATAL
    assert output.read_text() == "old", "until there is a new one"
    assert infer(images, *MODEL, "--output", output, "--overwrite").returncode == SOME_FAILED
    assert contents(output.parent) == {output.name: undisturbed, other.name: b""}


def test_resume_refuses_other_images(good: list[Path], output: Path, tmp_path: Path) -> None:
    """One that is gone, one that came before the end; the rows stay for those who bring the images back."""
    folder = tmp_path / "some"
    folder.mkdir()
    for number, path in enumerate(good[:12]):
        (folder / f"{number:02d}.png").hardlink_to(path)
    (folder / "12.png").touch()  # where it stops
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


def test_a_torn_row_is_written_anew(images: Path, output: Path) -> None:
    """Wherever the rows were cut, and whatever follows."""
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
    """A file that takes ``room`` bytes, and no more."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, content: Buffer) -> int:
        """As much as there is room for."""
        taken = bytes(content)[: self.room - self.tell()]
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(taken)


def test_a_full_disk_has_whole_rows() -> None:
    """Wherever it ends: what was written of the last row is taken back."""
    predictions = [Prediction(f"{number}\n.png", (("cat", 0.5),)) for number in range(400)]
    rows = [Csv(1).row(prediction) for prediction in predictions]

    def fill(disk: FullDisk) -> None:
        with to_stream(disk, Csv(1)) as destination:
            for prediction in predictions:
                destination.add(prediction)

    for room in range(40, len(b"".join(rows)), 37):
        disk = FullDisk(room)
        with pytest.raises(OSError, match="No space"):
            fill(disk)
        content = disk.getvalue().removeprefix(Csv(1).header())
        assert b"".join(rows).startswith(content)
        assert content == b"" or content.endswith(b"cat,0.5,\n")


def test_what_stdout_had_before_stays(images: Path, tmp_path: Path) -> None:
    """As in cifar10-infer ... >> rows.jsonl, on a disk that gets full at once or later: 500 bytes are there already."""
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


def test_a_file_is_written_by_one_at_a_time(output: Path) -> None:
    """Neither with --resume nor with --overwrite, nor with other options, can there be two."""
    one = Prediction("a.png", (("cat", 0.5),))
    others = [OutputFile(output, 1, identity, 4, resume, not resume) for identity in "ab" for resume in (True, False)]
    late = OutputFile(output, 1, "a", 4)
    with OutputFile(output, 1, "a", 4, overwrite=True).open() as (finished, rows):
        assert not list(finished)
        rows.add(one)
        for other in (*others[:2], others[3], late):
            with pytest.raises(UsageError, match="being written by another process"), other.open():
                pass
    assert output.read_bytes() == Csv(1).header() + Csv(1).row(one)
    with pytest.raises(UsageError, match="exists"), late.open():
        pass
    assert contents(output.parent) == {output.name: Csv(1).header() + Csv(1).row(one)}


def test_nobody_resumes_what_is_made_parquet(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = output.with_suffix(".parquet")
    make_parquet = OutputFile._to_parquet

    def disturbed(file: OutputFile) -> None:
        with pytest.raises(UsageError, match="being written"), OutputFile(output, 1, "a", 4, resume=True).open():
            pass
        make_parquet(file)

    monkeypatch.setattr(OutputFile, "_to_parquet", disturbed)
    with OutputFile(output, 1, "a", 4).open() as (_, rows):
        rows.add(Prediction("a.png", (("cat", 0.5),)))
    assert list(output.parent.iterdir()) == [output]


@contextmanager
def waiting(good: list[Path], output: Path, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has written some rows and waits for more paths on stdin."""
    words = ("--files-from", "-", *MODEL, "--batch-size", 1, "--output", output)
    process = start(*words, before=before, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"".join(os.fsencode(path) + b"\0" for path in good))
    while not any(path.stat().st_size > 1000 for path in output.parent.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    yield process


def test_the_second_of_two_processes_is_refused(good: list[Path], output: Path) -> None:
    with waiting(good, output) as process:
        for words in (["--resume"], ["--overwrite"], ["--overwrite", "--top-k", 2]):
            second = infer(good[0], *MODEL, "--batch-size", 1, "--output", output, *words)
            assert_fails_cleanly(second, USAGE, "being written by another process")
    assert end(process)[0] == OK
    assert len(rows_of(output.read_bytes(), ".csv")) == 1 + len(good)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_that_waits_with_all_its_rows(good: list[Path], output: Path, number: int) -> None:
    with waiting(good, output) as process:
        process.send_signal(number)
        process.wait()
    assert end(process)[0] == 128 + number
    (partial,) = output.parent.iterdir()
    rows = rows_of(partial.read_bytes(), ".csv")[1:]
    assert [row[0] for row in rows] == [str(path) for path in good[: len(rows)]]


def test_ignored_signals_stay_ignored(good: list[Path], output: Path) -> None:
    """As nohup and a shell's background jobs want it."""
    with waiting(good, output, before=("sh", "-c", 'trap "" HUP INT; exec "$0" "$@"')) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
    assert end(process)[0] == OK


def test_an_early_interrupt_is_quiet(images: Path) -> None:
    """While libraries are imported and the model is loaded, too."""
    for moment in range(10):
        process = start(images, *MODEL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment * 0.02)
        process.send_signal(signal.SIGINT)
        assert end(process)[0] in (128 + signal.SIGINT, SOME_FAILED)


def test_an_interrupt_does_not_wait_for_a_large_batch(good: list[Path], tmp_path: Path) -> None:
    """Of 5,000 images in ten views, which take a minute."""
    paths = tmp_path / "paths"
    paths.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in good[:100] * 50))
    process = start("--files-from", paths, "--model", "views10", "--batch-size", 5000)
    with suppress(subprocess.TimeoutExpired):
        process.wait(2)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 128 + signal.SIGINT
    assert time.monotonic() - begin < 2


def test_strict_and_max_failures(images: Path, output: Path, undisturbed: bytes) -> None:
    """Rows before the failure that was one too many are kept; so many failures as are allowed are no error."""
    words = (images, *MODEL, "--output", output)
    assert_fails_cleanly(infer(*words, "--strict"), FATAL, "00119", "--strict")
    assert_fails_cleanly(infer(*words, "--resume", "--max-failures", 5), FATAL, "--max-failures 5")
    (partial,) = output.parent.iterdir()
    assert undisturbed.startswith(partial.read_bytes())
    assert [bool(row[3]) for row in rows_of(partial.read_bytes(), ".csv")[1:]].count(True) == 5
    result = infer(*words, "--resume", "--max-failures", 6)
    assert result.returncode == SOME_FAILED, result.stderr
    assert output.read_bytes() == undisturbed


@pytest.mark.parametrize("source", ["file", "stdin"])
@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_files_from_lists(good: list[Path], tmp_path: Path, separator: bytes, source: str) -> None:
    """Names of any characters but those that separate them; the last separator may be missing; some files are gone."""
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


def test_what_vanishes_while_it_is_read_is_a_row_with_an_error(good: list[Path], tmp_path: Path) -> None:
    """A file after its folder was read, a folder before; the others have their answers."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.png").hardlink_to(good[number])
    paths = files.find([str(tmp_path / "first"), str(tmp_path / "second")])
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
        (["{image}", "--output", "{output}"], OK),
        (["{image}"], USAGE),
        (["{image}", "--output", "-"], USAGE),
        (["--files-from", "-", "--output", "{output}"], USAGE),
        (["{image}", "--unknown"], USAGE),
        (["{image}", "--model", "nothing", "--output", "{output}"], FATAL),
        (["--help"], OK),
        (["doctor"], OK),
    ],
)
def test_closed_standard_streams(good: list[Path], output: Path, words: list[str], status: int) -> None:
    """Nobody can read a message: the status tells, and no file of ours takes the place of a stream."""
    words = [word.format(image=good[0], output=output) for word in words]
    command = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', str(CIFAR10_INFER), *words]
    assert subprocess.run(command, check=False).returncode == status
    if words[-1] == str(output) and status == OK:
        assert len(rows_of(output.read_bytes(), ".csv")) == 2
    else:
        assert not list(output.parent.iterdir())


def test_a_forked_child_is_told_to_make_its_own_classifier(good: list[Path]) -> None:
    """Instead of waiting for threads that it does not have."""
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


@pytest.mark.parametrize("count", [2, 8])
def test_processes_at_once_in_one_folder(images: Path, output: Path, undisturbed: bytes, count: int) -> None:
    """Their files are what one process alone writes."""
    names = [output.with_name(f"{number}.csv") for number in range(count)]
    for process in [start(images, *MODEL, "--output", name) for name in names]:
        assert end(process)[0] == SOME_FAILED
    assert contents(output.parent) == {name.name: undisturbed for name in names}
