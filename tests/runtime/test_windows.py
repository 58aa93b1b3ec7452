"""cifar10-infer without what Windows lacks or refuses, and with paths, statuses and errors of Windows."""

import ntpath
import os
import subprocess
import sys
import time
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest
from cifar10_runtime import ModelError, Prediction, atomic, prediction
from cifar10_runtime.cluster import sources
from cifar10_runtime.engine import probe
from cifar10_runtime.images import find

from tests.helpers.command_line import CIFAR10_INFER, assert_fails_cleanly, infer, like_windows, windows_command
from tests.helpers.image_files import picture

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="Windows is imitated on Linux")

MODEL = ("--model", "int8", "--device", "cpu", "--batch-size", 4)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 20 images, the last of them damaged; one name is not in the letters of Western Europe."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(19):
        picture(32, 32, "RGB").save(folder / f"{number:02d} ✓.png")
    (folder / "19.png").touch()
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_interrupted_run_resumes_to_the_bytes_of_posix(images: Path, tmp_path: Path, suffix: str) -> None:
    expected, output = tmp_path / f"posix{suffix}", tmp_path / "windows" / f"out{suffix}"
    output.parent.mkdir()
    assert infer(images, *MODEL, "--output", expected).returncode == 3
    words = (CIFAR10_INFER, images, *MODEL, "--output", output)
    assert_fails_cleanly(like_windows(*words, "--strict"), 1, "--strict")
    (partial,) = output.parent.iterdir()
    assert partial.suffix == ".partial"
    result = like_windows(*words, "--resume")
    assert result.returncode == 3, result.stderr
    assert output.read_bytes() == expected.read_bytes()
    assert list(output.parent.iterdir()) == [output]


def test_sorted_files_are_those_of_posix(images: Path, tmp_path: Path) -> None:
    """Without fcntl, and although open files can be neither renamed nor removed."""
    result = like_windows(CIFAR10_INFER, images, images, *MODEL, "--sort-into", tmp_path / "out")
    assert result.returncode == 3, result.stderr
    assert "40 files copied" in result.stderr
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {f"{number:02d} ✓{end}.png" for number in range(19) for end in ("", "-2")} | {"19.png", "19-2.png"}


def test_a_run_without_rows_leaves_no_file(images: Path, tmp_path: Path) -> None:
    words = (images / "19.png", *MODEL, "--output", tmp_path / "out.csv", "--strict")
    assert_fails_cleanly(like_windows(CIFAR10_INFER, *words), 1, "--strict")
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_refused_without_fcntl(images: Path, tmp_path: Path) -> None:
    """Neither --resume nor --overwrite nor other options let it in. The first run waits for paths on stdin."""
    output = tmp_path / "out.csv"
    words = [CIFAR10_INFER, "--files-from", "-", *MODEL, "--output", output]
    with subprocess.Popen(windows_command(*words), stdin=subprocess.PIPE) as first:
        assert first.stdin is not None
        for path in sorted(images.glob("* ✓.png")) * 20:
            first.stdin.write(os.fsencode(path) + b"\0")
        first.stdin.flush()
        while not any(path.stat().st_size > 500 for path in tmp_path.glob("*.partial")):
            assert first.poll() is None
            time.sleep(0.01)
        for options in (["--resume"], ["--overwrite"], ["--overwrite", "--top-k", 2]):
            second = like_windows(CIFAR10_INFER, images, *MODEL, "--output", output, *options)
            assert_fails_cleanly(second, 2, "being written by another process")
        first.stdin.close()
        assert first.wait() == 0
    assert list(tmp_path.iterdir()) == [output]
    assert len(output.read_bytes().splitlines()) == 1 + 19 * 20


def test_the_table_and_the_summary_take_any_name(images: Path) -> None:
    result = like_windows(CIFAR10_INFER, images, *MODEL)
    assert result.returncode == 3, result.stderr
    assert "00 ✓.png" in result.stdout
    assert "20 images, 1 failed" in result.stderr


def test_a_list_of_paths_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    """Programs for Windows often write the code page of the system."""
    (tmp_path / "list.txt").write_bytes("é.png\n".encode("cp1252"))
    result = like_windows(CIFAR10_INFER, "--files-from", tmp_path / "list.txt", *MODEL)
    assert_fails_cleanly(result, 2, "--files-from", "list.txt is not valid UTF-8")


def test_a_name_with_half_a_surrogate_pair_keeps_its_row() -> None:
    """NTFS permits such names, and Python on Windows gives them as they are."""
    code = """
import io, sys
sys.getfilesystemencodeerrors = lambda: "surrogatepass"
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results.rows import Columns, Csv
row = Csv(Columns(1)).row(Prediction("\\ud83d.png", (("cat", 0.5),)))
assert [stored.prediction.path for stored in Csv(Columns(1)).read(io.BytesIO(row))] == ["\\ud83d.png"]
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_class_folder_of_a_path_with_backslashes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    path = PureWindowsPath("C:/images/cat/1.png")
    monkeypatch.setattr(prediction, "os", SimpleNamespace(path=ntpath))
    assert str(path) == r"C:\images\cat\1.png"
    assert Prediction(str(path), ()).folder == path.parent.name


def test_parts_of_an_earlier_job_are_no_images_for_paths_with_backslashes(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PureWindowsPath("C:/data")
    found = [str(folder / name) for name in ("a.png", r"out\part-000000.parquet", r"other\part-000000.parquet")]
    monkeypatch.setattr(sources, "os", SimpleNamespace(path=ntpath, sep=ntpath.sep))
    monkeypatch.setattr(find, "find", lambda *_: found)
    _, root = sources.file_system(str(folder / "out"))
    assert root == (folder / "out").as_posix()
    partitions = list(sources.partitions([str(folder)], 10, root))
    assert [path for partition in partitions for path in partition.paths] == [found[0], found[2]]


@pytest.mark.parametrize(
    ("status", "name"),
    [
        pytest.param(0xC0000005, "exit status 0xc0000005", id="access violation on Windows"),
        pytest.param(3, "exit status 0x3", id="abort on Windows"),
        pytest.param(-8, "SIGFPE", id="division by zero on POSIX"),
        pytest.param(-63, "exit status -63", id="signal without a name"),
    ],
)
def test_a_crash_of_the_probe_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, name: str
) -> None:
    (tmp_path / "model.onnx").touch()
    finished: subprocess.CompletedProcess[bytes] = subprocess.CompletedProcess([], status)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: finished)
    with pytest.raises(ModelError, match=rf"crashes ONNX Runtime \({name}\)"):
        probe.probe_in_subprocess(str(tmp_path / "model.onnx"), "cpu", None)


def test_a_file_that_a_virus_scanner_has_open_is_replaced_a_moment_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replace, refusals = os.replace, iter([5, 32])

    def refuse_twice(source: Path, target: Path) -> None:
        if code := next(refusals, 0):
            error = PermissionError(13, "The process cannot access the file")
            error.winerror = code  # type: ignore[attr-defined]
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse_twice)
    atomic.write_file(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"new")]


def test_a_file_that_may_not_be_replaced_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attempts = []

    def refuse(*paths: Path) -> None:
        attempts.append(paths)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Permission denied"):
        atomic.write_file(tmp_path / "file", b"new")
    assert len(attempts) == 1
    assert list(tmp_path.iterdir()) == []
