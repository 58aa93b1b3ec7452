"""CIFAR-10's Python version: its images, and an unpickler that builds nothing but data."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar10_zoo.data import cifar10, pickled
from cifar10_zoo.data.dataset import Split
from cifar10_zoo.data.load import load
from cifar10_zoo.errors import DatasetError
from tests.helpers.data_files import planes, python2_pickle, write_python_version

CLASSES = cifar10.CLASSES["cifar10"]
SPLITS: tuple[Split, ...] = ("train", "test")


def test_the_python_version_of_cifar10(tmp_path: Path) -> None:
    write_python_version(tmp_path, planes(20), [label % 10 for label in range(20)], CLASSES)
    train, test = (load(tmp_path, split) for split in SPLITS)
    assert (train.name, train.classes) == ("custom", CLASSES), "the images are not those of CIFAR-10"
    assert (train.images.numpy() == np.tile(planes(20), (5, 1)).reshape(-1, 3, 32, 32)).all()
    assert (test.images.numpy() == planes(20).reshape(-1, 3, 32, 32)).all()
    assert test.labels.tolist() == [*range(10), *range(10)]


def test_the_python_version_with_the_images_of_cifar10_is_cifar10(cifar10_dir: Path, tmp_path: Path) -> None:
    folder = write_python_version(tmp_path, planes(1), [0], CLASSES)
    for name in (*cifar10.FILES["train"], *cifar10.FILES["test"]):
        images, labels = cifar10.read_records(cifar10_dir / cifar10.FOLDER / name)
        batch = {b"labels": labels.tolist(), b"data": images.reshape(-1, 3072).numpy()}
        (folder / name.removesuffix(".bin")).write_bytes(python2_pickle(batch))
    for split in SPLITS:
        data, binary = load(tmp_path, split), load(cifar10_dir, split)
        assert (data.name, data.classes) == ("cifar10", CLASSES)
        assert torch.equal(data.images, binary.images)
        assert torch.equal(data.labels, binary.labels)


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_the_unpickler_gives_what_the_ordinary_unpickler_gives(tmp_path: Path, protocol: int | None) -> None:
    """Protocol None is Python 2; with protocol 2, Python 3 stores bytes as a call of a codec, which is refused."""
    batch = {b"labels": [1, 2, -3], b"data": planes(3), b"batch_label": b"x"}
    content = python2_pickle(batch) if protocol is None else pickle.dumps(batch, protocol)
    (tmp_path / "batch").write_bytes(content)
    if protocol == 2:
        with pytest.raises(DatasetError, match=r"it would use _codecs\.encode, but may only contain data"):
            pickled.unpickle(tmp_path / "batch")
        return
    ordinary, ours = pickle.loads(content, encoding="bytes"), pickled.unpickle(tmp_path / "batch")
    assert (ours.pop(b"data").pixels == ordinary.pop(b"data")).all()
    assert ours == ordinary == {b"labels": [1, 2, -3], b"batch_label": b"x"}


class Call:
    """Pickled, it is a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("call", "name"),
    [
        pytest.param(Call(os.system, "touch called"), "(posix|nt).system", id="system"),
        pytest.param(Call(eval, "open('called', 'w')"), "(builtins|__builtin__).eval", id="eval"),
        pytest.param(Call(np.load, "called"), "numpy.load", id="another function of numpy"),
    ],
)
def test_a_pickle_that_calls_a_function_is_refused_before_the_call(
    tmp_path: Path, call: Call, name: str, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_python_version(tmp_path, planes(1), [0], CLASSES)
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": call}, protocol))
    reason = f"cannot be used: it would use {name}, but may only contain data"
    with pytest.raises(DatasetError, match=f"data_batch_3 {reason}"):
        load(tmp_path, "train")
    assert not (tmp_path / "called").exists()


@given(content=st.binary(max_size=200), start=st.booleans())
def test_no_damaged_pickle_gives_anything_but_data_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes((python2_pickle({b"data": planes(1)})[:60] if start else b"") + content)
    message = ""
    try:
        assert isinstance(pickled.unpickle(path), dict)
    except DatasetError as error:
        message = str(error)
    assert not message or re.fullmatch(f"{path} cannot be used: .+", message)


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        pytest.param({b"labels": [0]}, r"its data are not \[N, 3072\] bytes", id="no images"),
        pytest.param({b"labels": [0], b"data": planes(1)[:, :-1]}, r"its data are not \[N, 3072\] bytes", id="shape"),
        pytest.param({b"data": planes(2), b"labels": [0]}, "it has no label for each of its 2 images", id="labels"),
        pytest.param({b"data": planes(1), b"labels": [10]}, "label 10 is none of the 10 classes", id="label"),
        pytest.param([1, 2], "it has no dict", id="list"),
    ],
)
def test_a_pickle_of_other_data_is_an_error(tmp_path: Path, batch: object, reason: str) -> None:
    folder = write_python_version(tmp_path, planes(1), [0], CLASSES)
    (folder / "test_batch").write_bytes(python2_pickle(batch))
    with pytest.raises(DatasetError, match=f"^{re.escape(str(folder))}/test_batch cannot be used: {reason}$"):
        load(tmp_path, "test")
