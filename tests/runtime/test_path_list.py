"""Lists of paths in UTF-16, as PowerShell writes them, are read or refused as a whole."""

import codecs
import os
from pathlib import Path

import pytest
from cifar10_runtime import UsageError
from cifar10_runtime.images.find import read_path_list
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.command_line import assert_fails_cleanly, infer

PATHS = ["images/a.png", "Bücher/größe.jpg", "写真/猫.png", "emoji/🐱.png", "with space.png"]
MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


@pytest.mark.parametrize("encoding", MARKS)
@pytest.mark.parametrize("separator", ["\r\n", "\n", "\0"], ids=["CRLF", "LF", "NUL"])
@pytest.mark.parametrize("end", [True, False], ids=["with the last separator", "without the last separator"])
def test_a_utf16_list_with_a_byte_order_mark_gives_its_paths(
    tmp_path: Path, encoding: str, separator: str, end: bool
) -> None:
    text = separator.join(PATHS) + separator * end
    (tmp_path / "list.txt").write_bytes(MARKS[encoding] + text.encode(encoding))
    assert list(read_path_list(str(tmp_path / "list.txt"))) == PATHS


@given(
    paths=st.lists(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), min_size=1)),
    encoding=st.sampled_from(sorted(MARKS)),
)
def test_any_utf16_list_gives_the_paths_of_the_same_list_in_utf8(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], encoding: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = "".join(f"{path}\r\n" for path in paths)
    (folder / "utf16").write_bytes(MARKS[encoding] + text.encode(encoding))
    (folder / "utf8").write_bytes(codecs.BOM_UTF8 + text.encode())
    assert list(read_path_list(str(folder / "utf16"))) == list(read_path_list(str(folder / "utf8"))) == paths


@pytest.mark.parametrize("encoding", MARKS)
@pytest.mark.parametrize("end", ["\r\n", "\n"], ids=["CRLF", "LF"])
def test_a_utf16_list_without_a_mark_is_refused_before_its_first_path(tmp_path: Path, encoding: str, end: str) -> None:
    (tmp_path / "list.txt").write_bytes("".join(f"{path}{end}" for path in PATHS).encode(encoding))
    with pytest.raises(UsageError, match=r"list\.txt looks like UTF-16 without a byte order mark: write it in UTF-8"):
        next(read_path_list(str(tmp_path / "list.txt")))


@pytest.mark.parametrize("cut", [1, 3], ids=["in a character", "in a character of four bytes"])
def test_a_utf16_list_that_was_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    (tmp_path / "list.txt").write_bytes(codecs.BOM_UTF16_LE + "a.png\n🐱".encode("utf-16-le")[:-cut])
    with pytest.raises(UsageError, match=r"list\.txt is not valid UTF-16"):
        list(read_path_list(str(tmp_path / "list.txt")))


def test_a_null_separated_list_of_one_letter_names_is_no_utf16(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\0b\0./\n\0c\0")
    assert list(read_path_list(str(tmp_path / "list.txt"))) == ["a", "b", "./\n", "c"]


def test_the_command_classifies_the_files_of_a_powershell_list(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "größe.png").write_bytes(photo.read_bytes())
    (tmp_path / "list.txt").write_bytes(codecs.BOM_UTF16_LE + "größe.png\r\n".encode("utf-16-le"))
    result = infer("--files-from", "list.txt", "--output", "-", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == ["path", "größe.png"]
    (tmp_path / "list.txt").write_bytes("größe.png\r\n".encode("utf-16-le"))
    result = infer("--files-from", "list.txt", "--output", tmp_path / "out.csv", cwd=tmp_path)
    assert_fails_cleanly(result, 2, "--files-from list.txt", "UTF-8")
    assert sorted(os.listdir(tmp_path)) == ["größe.png", "list.txt"]


@pytest.mark.parametrize("pillow_format", ["JPEG", "PNG", "GIF"])
def test_an_image_is_no_list_of_paths(tmp_path: Path, pillow_format: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "image", pillow_format)
    with pytest.raises(UsageError, match="image is an image, not a list of paths"):
        list(read_path_list(str(tmp_path / "image")))
