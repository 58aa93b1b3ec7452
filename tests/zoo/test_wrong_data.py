"""Each mistake on docs/your-images.md gives the one-line answer that the page prints."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from cifar10_zoo.data import folders
from cifar10_zoo.data.dataset import ReadOptions
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import ZooError
from tests.helpers.command_line import ROOT, assert_fails_cleanly, zoo
from tests.helpers.data_files import (
    class_label,
    image_file,
    planes,
    write_class,
    write_classes,
    write_parquet,
    write_python_version,
)

FLOWERS = Path("flowers")
DAMAGED = b"\x89PNG\r\n\x1a\n"

MISTAKES: dict[str, tuple[Callable[[], object], dict[str, Any]]] = {}
"""A function per row of the table on the page, which makes the mistake in the folder flowers, and options."""


def mistake(row: str, **options: Any) -> Callable[[Callable[[], object]], Callable[[], object]]:
    def register(make: Callable[[], object]) -> Callable[[], object]:
        MISTAKES[row] = make, options
        return make

    return register


def two_parts(train: Mapping[str, int], test: Mapping[str, int]) -> None:
    write_classes(FLOWERS / "train", train)
    write_classes(FLOWERS / "test", test, first_seed=100)


def table(*lines: str, name: str = "labels.csv") -> None:
    if not FLOWERS.exists():
        write_class(FLOWERS / "images", 2)
    (FLOWERS / name).write_text("\n".join(lines) + "\n")


def parquet(labels: Mapping[str, list[Any]], features: object = None) -> None:
    count = len(next(iter(labels.values())))
    write_parquet(FLOWERS / "train.parquet", map(image_file, range(count)), labels, features)


@mistake("one class")
def _() -> None:
    write_classes(FLOWERS, {"rose": 3})


@mistake("class folders in another folder, as in many archives")
def _() -> None:
    write_classes(FLOWERS / "all", {"daisy": 3, "rose": 3})


@mistake("an empty class folder")
def _() -> None:
    write_classes(FLOWERS, {"daisy": 3, "rose": 3, "tulip": 0})


@mistake("images in no class folder")
def _() -> None:
    write_class(FLOWERS, 3)


@mistake("images beside the class folders")
def _() -> None:
    write_classes(FLOWERS, {"daisy": 3, "rose": 3})
    (FLOWERS / "cover.bmp").write_bytes(image_file(9))


@mistake("images directly in `train/`")
def _() -> None:
    write_class(FLOWERS / "train", 3)
    write_classes(FLOWERS / "test", {"daisy": 3, "rose": 3})


@mistake("few images, none of them for testing")
def _() -> None:
    write_classes(FLOWERS, {"daisy": 30, "rose": 5}, first_seed=4)


@mistake("a class with one image")
def _() -> None:
    write_classes(FLOWERS, {"daisy": 30, "rose": 1})


@mistake("a class that only `train/` has")
def _() -> None:
    two_parts({"daisy": 3, "rose": 3, "tulip": 3}, {"daisy": 1, "rose": 1})


@mistake("a class without test images in `test/`")
def _() -> None:
    two_parts({"daisy": 3, "rose": 3}, {"daisy": 1, "rose": 0})


@mistake("only damaged images of a class")
def _() -> None:
    two_parts({"daisy": 3, "rose": 1}, {"daisy": 1, "rose": 1})
    (FLOWERS / "train" / "rose" / "0.bmp").write_bytes(DAMAGED)


@mistake("a damaged image with `--strict`", strict=True)
def _() -> None:
    two_parts({"daisy": 3, "rose": 3}, {"daisy": 1, "rose": 1})
    (FLOWERS / "train" / "rose" / "1.bmp").write_bytes(DAMAGED)


@mistake("more than 1,000 classes")
def _() -> None:
    write_classes(FLOWERS, {f"{number:04}": 1 for number in range(1001)})


@mistake("a class name with a control character")
def _() -> None:
    write_classes(FLOWERS, {"daisy": 3, "ro\tse": 3})


@mistake("a CSV file with other columns")
def _() -> None:
    table("file,class", "images/0.bmp,rose")


@mistake("a CSV file that names missing files")
def _() -> None:
    table("path,label", "images/0.bmp,rose", "photos/1.bmp,daisy", "photos/2.bmp,daisy")


@mistake("a CSV row without a label")
def _() -> None:
    table("path,label", "images/0.bmp,rose", "images/1.bmp,")


@mistake("a CSV label with a slash, in `cifar10-fit`, `image_folders` and `evaluate --report`")
def _() -> None:
    for name in ("train.csv", "test.csv"):
        table("path,label", "images/0.bmp,rose/red", "images/1.bmp,tulip", name=name)


@mistake("a CSV file without rows")
def _() -> None:
    table("path,label")


@mistake("two CSV files that are not `train...` and `test...`")
def _() -> None:
    table("path,label", "images/0.bmp,rose")
    table("path,label", "images/0.bmp,rose", name="more.csv")


@mistake("results of cifar10-infer as labels")
def _() -> None:
    table("path,label,probability,error", "images/0.bmp,cat,0.9,")


@mistake("a CSV file in another encoding than UTF-8")
def _() -> None:
    table()
    (FLOWERS / "labels.csv").write_bytes("path,label\nimages/0.bmp,ros\xe9\n".encode("latin-1"))


@mistake("a Parquet file without a column of images")
def _() -> None:
    FLOWERS.mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"url": ["a"], "label": ["rose"]}), FLOWERS / "train.parquet")


@mistake("a Parquet file without a column of labels")
def _() -> None:
    parquet({"caption": ["a rose"]})


@mistake("a Parquet file with rows without a label")
def _() -> None:
    parquet({"label": [0, 1, -1]}, {"label": class_label(["daisy", "rose"])})


@mistake("a damaged Parquet file")
def _() -> None:
    FLOWERS.mkdir()
    (FLOWERS / "train.parquet").write_bytes(b"PAR1")


@mistake("a pickle that calls a function")
def _() -> None:
    folder = write_python_version(FLOWERS, planes(1), [0], ["daisy", "rose"])
    (folder / "data_batch_1").write_bytes(b"cos\nsystem\n(U\x04trueU\x00tR.")


@mistake("coarse labels of other data than CIFAR-100", labels="coarse")
def _() -> None:
    write_classes(FLOWERS, {"daisy": 3, "rose": 3})


@mistake("a test fraction that is a percentage", test_fraction=10)
def _() -> None:
    write_classes(FLOWERS, {"daisy": 3, "rose": 3})


@mistake("a directory of other files")
def _() -> None:
    FLOWERS.mkdir()
    (FLOWERS / "notes.txt").write_text("buy flowers")


@mistake("a file that is no data set")
def _() -> None:
    FLOWERS.write_text("buy flowers")


def answers() -> dict[str, str]:
    """Return the rows of the table on the page."""
    page = (ROOT / "docs" / "your-images.md").read_text(encoding="utf-8")
    rows = page.partition("| mistake | answer |\n|---|---|\n")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| (.+) \| `(.+)` \|$", rows, re.MULTILINE))


def test_the_page_lists_every_mistake() -> None:
    assert list(answers()) == list(MISTAKES)
    assert len(MISTAKES) >= 20


@pytest.mark.parametrize("row", MISTAKES)
def test_a_mistake_gives_the_answer_on_the_page(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, options = MISTAKES[row]
    make()
    with pytest.raises(ZooError) as error:
        folders.require_directory_names(load(FLOWERS, "train", "file:///nowhere", ReadOptions(**options)).classes)
    assert str(error.value) == answers()[row]
    assert "\n" not in str(error.value)


def test_a_mistake_ends_a_command_with_one_line_and_writes_nothing(tmp_path: Path) -> None:
    write_classes(tmp_path / "flowers", {"daisy": 3, "rose": 3, "tulip": 0})
    result = zoo("train", "--data-dir", tmp_path / "flowers", "--train-dir", tmp_path / "train")
    assert_fails_cleanly(result, 1, f"{tmp_path / 'flowers' / 'tulip'} has no image")
    assert not (tmp_path / "train").exists()
    assert result.stdout == ""
