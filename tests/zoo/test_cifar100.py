"""CIFAR-100's binary version: both kinds of labels, and an error that names the damaged file."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar10_zoo.data.dataset import LabelKind, ReadOptions
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import DatasetError
from tests.helpers.data_files import COARSE, FINE, planes, write_cifar100


@pytest.mark.parametrize(("kind", "classes"), [("fine", FINE), ("coarse", COARSE)])
@pytest.mark.parametrize("named", [True, False], ids=["names", "no names"])
def test_the_binary_version_of_cifar100(tmp_path: Path, kind: LabelKind, classes: tuple[str, ...], named: bool) -> None:
    folder = write_cifar100(tmp_path)
    if not named:
        for path in folder.glob("*.txt"):
            path.unlink()
        classes = tuple(map(str, range(len(classes))))
    data = load(tmp_path, "train", options=ReadOptions(labels=kind))
    assert (data.name, data.classes) == ("custom", classes)
    assert data.labels.tolist() == [label // (100 // len(classes)) for label in range(100)]
    assert (data.images.numpy() == planes(100).reshape(-1, 3, 32, 32)).all()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(
            lambda folder: (folder / "test.bin").unlink(), "test.bin is missing: unpack all files", id="missing"
        ),
        pytest.param(
            lambda folder: (folder / "test.bin").write_bytes(bytes(3073)),
            "test.bin cannot be used: 3073 bytes are not whole records of 3074 bytes",
            id="incomplete",
        ),
        pytest.param(
            lambda folder: (folder / "test.bin").write_bytes(bytes([0, 100, *bytes(3072)])),
            "test.bin cannot be used: record 0 has fine label 100",
            id="label",
        ),
        pytest.param(
            lambda folder: (folder / "fine_label_names.txt").write_text("a b c"),
            "fine_label_names.txt cannot be used: it has 3 names for 100 classes",
            id="names",
        ),
    ],
)
def test_a_damaged_file_of_cifar100_is_an_error(tmp_path: Path, damage: Callable[[Path], object], reason: str) -> None:
    folder = write_cifar100(tmp_path, count=1)
    damage(folder)
    with pytest.raises(DatasetError, match=f"^{re.escape(str(folder))}/{reason}"):
        load(tmp_path, "test")
