"""Each kind of data set gives the images, labels and classes that it contains, with the pixels of cifar10-infer."""

import csv
import io
import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cifar10_runtime.images.decode import decode
from PIL import Image

from cifar10_zoo.data import cifar10
from cifar10_zoo.data.dataset import Dataset, LabelKind, ReadOptions
from cifar10_zoo.data.load import load
from tests.helpers.data_files import (
    COARSE,
    FINE,
    class_label,
    image_file,
    pixels,
    planes,
    write_cifar100,
    write_class,
    write_classes,
    write_parquet,
    write_python_version,
)
from tests.helpers.image_files import image_seeds

CLASSES = cifar10.CLASSES["cifar10"]

SMALL = ReadOptions(image_size=8)
HALF = ReadOptions(image_size=8, test_fraction=0.5)


def contents(data: Dataset) -> set[tuple[bytes, str]]:
    """Return the pixels and the class of each image."""
    arrays = data.images.permute(0, 2, 3, 1).contiguous().numpy()
    assert len(arrays) == len(data.labels)
    return {(array.tobytes(), data.classes[label]) for array, label in zip(arrays, data.labels.tolist(), strict=True)}


def expected(seeds: dict[str, range]) -> set[tuple[bytes, str]]:
    """Return the pixels and the class of the images with these seeds."""
    return {(pixels(seed).tobytes(), name) for name, some in seeds.items() for seed in some}


def both(data_dir: Path, options: ReadOptions = SMALL) -> tuple[Dataset, Dataset]:
    return load(data_dir, "train", options=options), load(data_dir, "test", options=options)


def test_class_folders_with_a_train_and_a_test_part(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"rose": 6, "daisy": 4})
    write_classes(tmp_path / "test", {"rose": 2, "daisy": 1}, first_seed=10)
    train, test = both(tmp_path)
    assert contents(train) == expected({"rose": range(6), "daisy": range(6, 10)})
    assert contents(test) == expected({"rose": range(10, 12), "daisy": range(12, 13)})
    assert train.classes == test.classes == ("daisy", "rose")
    assert (train.name, train.test_fraction) == ("custom", None)
    assert train.images.is_contiguous()
    assert (str(train.images.dtype), str(train.labels.dtype)) == ("torch.uint8", "torch.int64")


@pytest.mark.parametrize(("train", "test"), [("train", "val"), ("Training", "Testing"), ("train", "validation")])
def test_other_names_of_the_parts(tmp_path: Path, train: str, test: str) -> None:
    write_classes(tmp_path / train, {"rose": 3, "daisy": 3})
    write_classes(tmp_path / test, {"rose": 1, "daisy": 1}, first_seed=6)
    assert [len(data.images) for data in both(tmp_path)] == [6, 2]


def test_a_validation_part_beside_a_test_part_is_not_used_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for first, part in enumerate(("train", "test", "val")):
        write_classes(tmp_path / part, {"rose": 2, "daisy": 2}, first_seed=4 * first)
    assert contents(both(tmp_path)[1]) == expected({"rose": range(4, 6), "daisy": range(6, 8)})
    assert "; val/ is not used\n" in capsys.readouterr().err


def test_class_folders_without_parts_are_divided(tmp_path: Path) -> None:
    write_classes(tmp_path, {"rose": 30, "daisy": 20})
    train, test = both(tmp_path, HALF)
    assert contents(train) | contents(test) == expected({"rose": range(30), "daisy": range(30, 50)})
    assert len(train.images) + len(test.images) == 50
    assert min(len(train.images), len(test.images)) >= 10
    assert train.test_fraction == test.test_fraction == 0.5


def test_a_single_folder_train_is_divided(tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "train", {"rose": 30, "daisy": 20})
    assert contents(both(tmp_path / "data", HALF)[1]) == contents(both(tmp_path / "data" / "train", HALF)[1])


def test_classes_may_be_called_train_and_bus(tmp_path: Path) -> None:
    write_classes(tmp_path, {"bus": 30, "train": 20})
    assert both(tmp_path, HALF)[0].classes == ("bus", "train")


def test_folders_in_class_folders_links_and_hidden_files(tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "train", {"rose": 2, "daisy": 2})
    write_classes(tmp_path / "data" / "test", {"rose": 2, "daisy": 2}, first_seed=10)
    write_class(tmp_path / "data" / "train" / "rose" / "deep" / "deeper", 3, first_seed=20)
    write_class(tmp_path / "data" / "train" / ".hidden", 1, first_seed=30)
    (tmp_path / "data" / "train" / "daisy" / "._1.bmp").write_bytes(b"a resource fork of macOS")
    write_class(tmp_path / "elsewhere", 2, first_seed=40)
    (tmp_path / "data" / "train" / "tulip").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "test" / "tulip").symlink_to(tmp_path / "elsewhere")
    seeds = expected({"rose": range(2), "daisy": range(2, 4), "tulip": range(40, 42)})
    train = load(tmp_path / "data", "train", options=SMALL)
    assert contents(train) == seeds | expected({"rose": range(20, 23)})


@pytest.mark.parametrize("name", ["été", "猫", "a b", "it's", "100%", "$x", "[ab]", "-flag", "x,y", "*"])
def test_any_printable_folder_name_is_a_class_name(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path / "train", {name: 2, "other": 2})
    write_classes(tmp_path / "test", {name: 1, "other": 1}, first_seed=4)
    train = load(tmp_path, "train", options=SMALL)
    assert (pixels(0).tobytes(), name) in contents(train)


def write_csv(path: Path, rows: Sequence[tuple[object, str]], delimiter: str = ",", encoding: str = "utf-8") -> None:
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("number", "label", "path"), *((n, label, p) for n, (p, label) in enumerate(rows))])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_file_lists_images_by_relative_and_absolute_paths(tmp_path: Path, delimiter: str, encoding: str) -> None:
    paths = write_class(tmp_path / "data" / "images", 40)
    names = [path if seed % 2 else path.relative_to(tmp_path / "data") for seed, path in enumerate(paths)]
    rows = [(name, "été" if seed < 20 else "ship, sea") for seed, name in enumerate(names)]
    write_csv(tmp_path / "data" / "labels.csv", rows, delimiter, encoding)
    for data_dir in (tmp_path / "data", tmp_path / "data" / "labels.csv"):
        train, test = both(data_dir, HALF)
        assert contents(train) | contents(test) == expected({"été": range(20), "ship, sea": range(20, 40)})
        assert train.test_fraction == 0.5


def test_csv_files_of_two_parts(tmp_path: Path) -> None:
    paths = write_class(tmp_path / "images", 12)
    write_csv(tmp_path / "train_labels.csv", [(path, "ab"[n % 2]) for n, path in enumerate(paths[:8])])
    write_csv(tmp_path / "test_labels.csv", [(path, "ab"[n % 2]) for n, path in enumerate(paths[8:])])
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    train, test = both(tmp_path)
    assert contents(train) == expected({"a": range(0, 8, 2), "b": range(1, 8, 2)})
    assert contents(test) == expected({"a": range(8, 12, 2), "b": range(9, 12, 2)})


def test_a_csv_file_wins_over_class_folders_except_results_of_cifar10_infer(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"rose": 2, "daisy": 2})
    write_classes(tmp_path / "test", {"rose": 2, "daisy": 2}, first_seed=4)
    (tmp_path / "predictions.csv").write_text("path,label,probability,error\ntrain/rose/0.bmp,cat,0.9,\n")
    assert load(tmp_path, "train", options=SMALL).classes == ("daisy", "rose")
    for part in ("train", "test"):
        rows = [(path.relative_to(tmp_path), "ab"[n % 2]) for n, path in enumerate((tmp_path / part).glob("*/*"))]
        write_csv(tmp_path / f"{part}.csv", rows)
    assert load(tmp_path, "train", options=SMALL).classes == ("a", "b")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        pytest.param(["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
                     ["data/test-00000-of-00001.parquet"], id="names of files"),
        pytest.param(["plain_text/train/0000.parquet", "plain_text/train/0001.parquet"],
                     ["plain_text/test/0000.parquet"], id="names of folders"),
    ],
)  # fmt: skip
def test_parquet_files_in_hugging_faces_layout(tmp_path: Path, train: list[str], test: list[str]) -> None:
    features = {"image": {"_type": "Image"}, "label": class_label(["rose", "daisy"])}
    for first, name in zip((0, 8, 16), [*train, *test], strict=True):
        seeds = range(first, first + 8)
        write_parquet(tmp_path / name, map(image_file, seeds), {"label": [seed % 2 for seed in seeds]}, features)
    train_data, test_data = both(tmp_path)
    assert train_data.classes == ("rose", "daisy"), "in the order of the metadata"
    assert contents(train_data) == expected({"rose": range(0, 16, 2), "daisy": range(1, 16, 2)})
    assert contents(test_data) == expected({"rose": range(16, 24, 2), "daisy": range(17, 24, 2)})


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        pytest.param(("b", "a"), ("a", "b"), id="texts"),
        pytest.param((10, 9), ("9", "10"), id="numbers"),
    ],
)
def test_a_parquet_file_without_class_names(
    tmp_path: Path, values: tuple[object, object], classes: tuple[str, str]
) -> None:
    path = tmp_path / "some.parquet"
    write_parquet(path, map(image_file, range(40)), {"label": [values[seed // 20] for seed in range(40)]})
    for data_dir in (tmp_path, path):
        train, test = both(data_dir, HALF)
        assert train.classes == classes
        names = {str(values[0]): range(20), str(values[1]): range(20, 40)}
        assert contents(train) | contents(test) == expected(names)


def test_images_of_parquet_files_may_be_paths_or_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_class(tmp_path / "images", 40)
    structs: list[object] = [{"bytes": None, "path": f"images/{number}.bmp"} for number in range(40)]
    structs += [{"bytes": None, "path": None}, {"bytes": None, "path": "images/none.bmp"}]
    write_parquet(tmp_path / "all.parquet", structs, {"label": [seed % 2 for seed in range(42)]})
    train, test = both(tmp_path / "all.parquet", HALF)
    assert contents(train) | contents(test) == expected({"0": range(0, 40, 2), "1": range(1, 40, 2)})
    assert f"warning: {tmp_path / 'all.parquet'}, row 41: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "classes", "per_class"), [("fine", FINE, 1), ("coarse", COARSE, 5)])
def test_cifar100_has_two_kinds_of_labels_in_parquet_files(
    tmp_path: Path, kind: LabelKind, classes: tuple[str, ...], per_class: int
) -> None:
    features = {"img": {"_type": "Image"}, "fine_label": class_label(FINE), "coarse_label": class_label(COARSE)}
    for first, part in ((0, "train"), (100, "test")):
        images = map(image_file, range(first, first + 100))
        labels = {"fine_label": range(100), "coarse_label": [label // 5 for label in range(100)]}
        write_parquet(tmp_path / "cifar100" / f"{part}-00000-of-00001.parquet", images, labels, features)
    train, _ = both(tmp_path, ReadOptions(image_size=8, labels=kind))
    assert train.classes == classes
    assert contents(train) == expected(
        {name: range(n * per_class, (n + 1) * per_class) for n, name in enumerate(classes)}
    )


def stderr_of(data_dir: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> list[str]:
    """Load the training images, and return the lines on stderr."""
    load(data_dir, "train", options=ReadOptions(**options))
    return capsys.readouterr().err.replace(f"{data_dir}/", "").replace(str(data_dir), "flowers").splitlines()


def test_one_line_says_what_the_data_set_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_classes(tmp_path / "train", {"daisy": 5, "rose": 7, "tulip": 1200})
    write_classes(tmp_path / "test", {"daisy": 1, "rose": 1, "tulip": 1}, first_seed=2000)
    (tmp_path / "train" / "rose" / "notes.txt").touch()
    (tmp_path / "train" / "rose" / "film.mov").touch()
    line = (
        "flowers: 3 classes: daisy 6, rose 8, tulip 1,201; 1,215 images, 3 of them for testing; "
        "2 other files: 1 .mov, 1 .txt"
    )
    assert stderr_of(tmp_path, capsys) == [line]


def test_many_classes_are_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, first in (("train", 0), ("test", 500)):
        write_classes(tmp_path / part, {f"c{number:02}": 1 + number % 3 for number in range(17)}, first)
    assert stderr_of(tmp_path, capsys) == [
        "flowers: 17 classes: c00 2, c01 4, c02 6, c03 2, c04 4, 12 more with 2 to 6 images each; "
        "66 images, 33 of them for testing"
    ]


def test_unreadable_files_are_counted_and_the_first_ones_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path / "train", {"daisy": 9, "rose": 4})
    write_classes(tmp_path / "test", {"daisy": 1, "rose": 1}, first_seed=20)
    for number in range(7):
        (tmp_path / "train" / "daisy" / f"{number}.bmp").write_bytes(b"")
    (tmp_path / "train" / "rose" / "0.bmp").unlink()
    (tmp_path / "train" / "rose" / "0.bmp").symlink_to("nowhere")
    assert stderr_of(tmp_path, capsys) == [
        *(f"warning: train/daisy/{number}.bmp: the file is empty" for number in range(5)),
        "warning: 3 more files that cannot be read",
        "flowers: 2 classes: daisy 3, rose 4; 7 images, 2 of them for testing; 8 unreadable",
    ]
    assert len(load(tmp_path, "train", options=SMALL, quiet=True).images) == 5
    assert capsys.readouterr().err == ""


def test_the_same_picture_in_two_classes_is_a_warning_with_both_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path / "train", {"daisy": 4, "rose": 4})
    write_classes(tmp_path / "test", {"daisy": 1, "rose": 1}, first_seed=20)
    for source, copy in (("daisy/2.bmp", "daisy/9.bmp"), ("daisy/3.bmp", "rose/9.bmp"), ("daisy/3.bmp", "rose/8.bmp")):
        shutil.copy(tmp_path / "train" / source, tmp_path / "train" / copy)
    first, _ = stderr_of(tmp_path, capsys)
    assert first == "warning: train/daisy/3.bmp and train/rose/8.bmp are the same picture in two classes"


FORMATS = list(image_seeds())
"""An image file of each kind: format, compression, pixel type, size."""


def write_formats_as_folders(data_dir: Path) -> None:
    for part, number in itertools.product(("train", "test"), range(len(FORMATS))):
        folder = data_dir / part / f"{number:03d}"
        folder.mkdir(parents=True)
        (folder / "image.png").write_bytes(FORMATS[number])


def write_formats_as_table(data_dir: Path) -> None:
    write_formats_as_folders(data_dir / "images")
    for part in ("train", "test"):
        rows = [(f"images/{part}/{n:03d}/image.png", f"{n:03d}") for n in range(len(FORMATS))]
        write_csv(data_dir / f"{part}.csv", rows)


def write_formats_as_parquet(data_dir: Path) -> None:
    for part in ("train", "test"):
        labels = {"label": [f"{number:03d}" for number in range(len(FORMATS))]}
        write_parquet(data_dir / f"{part}.parquet", FORMATS, labels)


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(write_formats_as_folders, id="class folders"),
        pytest.param(write_formats_as_table, id="CSV"),
        pytest.param(write_formats_as_parquet, id="Parquet"),
    ],
)
def test_the_pixels_of_each_image_file_are_those_of_inference(
    tmp_path: Path, write: Callable[[Path], None], size: int
) -> None:
    write(tmp_path)
    data = load(tmp_path, "train", options=ReadOptions(image_size=size, strict=True))
    assert len(data.images) == len(FORMATS) > 20
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        assert (image.permute(1, 2, 0).numpy() == decode(FORMATS[label], size)).all()


def png(array: np.ndarray) -> bytes:
    Image.fromarray(array).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.mark.parametrize("size", [32, 48, 20])
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda data_dir: write_python_version(data_dir, planes(10), [*range(10)], CLASSES), id="Python"),
        pytest.param(lambda data_dir: write_cifar100(data_dir, count=10), id="CIFAR-100"),
    ],
)
def test_the_pixels_of_data_sets_without_files_are_those_of_inference_on_png_files(
    tmp_path: Path, write: Callable[[Path], object], size: int
) -> None:
    write(tmp_path)
    data = load(tmp_path, "test", options=ReadOptions(image_size=size))
    assert data.images.shape == (10, 3, size, size)
    for seed, image in enumerate(data.images):
        assert (image.permute(1, 2, 0).numpy() == decode(png(pixels(seed, 32)), size)).all()


def test_the_binary_files_of_cifar10_are_resized_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "RECORDS_PER_FILE", 3)
    (tmp_path / cifar10.FOLDER).mkdir()
    np.insert(planes(3), 0, 7, axis=1).tofile(tmp_path / cifar10.FOLDER / "test_batch.bin")
    small, large = (load(tmp_path, "test", options=ReadOptions(image_size=size)) for size in (32, 64))
    assert torch.equal(small.images, cifar10.load(tmp_path, "test").images)
    for before, after in zip(small.images, large.images, strict=True):
        assert (after.permute(1, 2, 0).numpy() == decode(png(before.permute(1, 2, 0).numpy()), 64)).all()
