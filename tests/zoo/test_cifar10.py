"""Data set files: reading returns exactly the written values, and an error names the damaged file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar10_zoo import synthetic
from cifar10_zoo.data import cifar10
from cifar10_zoo.data.cifar10 import CLASSES, META_FILE, RECORD_BYTES
from cifar10_zoo.errors import DatasetError


@given(labels=st.lists(st.integers(0, 9), min_size=1, max_size=20), seed=st.integers(0, 2**32 - 1))
def test_records_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, labels: list[int], seed: int
) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    path = tmp_path_factory.getbasetemp() / "records.bin"
    path.write_bytes(b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)))
    read_images, read_labels = cifar10.read_records(path)
    assert torch.equal(read_images, torch.from_numpy(images))
    assert read_labels.tolist() == labels


@pytest.mark.parametrize(
    "size",
    [0, 1, RECORD_BYTES - 1, RECORD_BYTES + 1],
    ids=["empty", "one byte", "one byte less than a record", "one byte more than a record"],
)
def test_an_incomplete_record_is_an_error_that_names_the_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(DatasetError, match=rf"data_batch_1\.bin is damaged: {size} bytes"):
        cifar10.read_records(path)


def test_a_label_above_9_is_an_error_that_names_the_record(tmp_path: Path) -> None:
    path = tmp_path / "test_batch.bin"
    path.write_bytes(bytes(RECORD_BYTES) + bytes([10]) + bytes(RECORD_BYTES - 1))
    with pytest.raises(DatasetError, match=r"test_batch\.bin is damaged: record 1 has label 10"):
        cifar10.read_records(path)


def test_a_missing_batch_file_is_named(synthetic_dir: Path, tmp_path: Path) -> None:
    link_data_set(synthetic_dir, tmp_path, without="data_batch_3.bin")
    with pytest.raises(DatasetError, match=r"data_batch_3\.bin is missing"):
        cifar10.load(tmp_path, "train")


def test_a_batch_file_truncated_between_records_is_named(synthetic_dir: Path, tmp_path: Path) -> None:
    folder = link_data_set(synthetic_dir, tmp_path, without="test_batch.bin")
    complete = (synthetic_dir / cifar10.FOLDER / "test_batch.bin").read_bytes()
    (folder / "test_batch.bin").write_bytes(complete[:-RECORD_BYTES])
    with pytest.raises(DatasetError, match=r"test_batch\.bin is damaged: it has 9999 records, not 10000"):
        cifar10.load(tmp_path, "test")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("\n".join(CLASSES["cifar10"]) + "\n\n", "cifar10", id="cifar10"),
        pytest.param("\n".join(CLASSES["synthetic"]), "synthetic", id="synthetic"),
        pytest.param("\n".join("abcdefghij"), "custom", id="custom"),
    ],
)
def test_the_class_names_identify_the_data_set(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / META_FILE
    path.write_text(text)
    assert cifar10.read_classes(path) == (name, tuple(text.split()))


@pytest.mark.parametrize(
    "names",
    [b"a b c d e f g h i", b"a b c d e f g h i i", b"a b c d e f g h i ../j", b"a b c d e f g h i /j", b"\xff a b c d"],
    ids=["nine names", "a duplicate name", "a relative path", "an absolute path", "not UTF-8"],
)
def test_invalid_class_names_are_an_error(tmp_path: Path, names: bytes) -> None:
    path = tmp_path / META_FILE
    path.write_bytes(names)
    with pytest.raises(DatasetError, match=META_FILE):
        cifar10.read_classes(path)


def test_the_folder_of_the_batch_files_as_data_dir_is_an_error_that_asks_for_its_parent(synthetic_dir: Path) -> None:
    with pytest.raises(DatasetError, match="is the folder of the batch files: name its parent folder"):
        cifar10.load(synthetic_dir / cifar10.FOLDER, "test")


def test_the_synthetic_data_set_is_labeled_balanced_and_deterministic(synthetic_dir: Path) -> None:
    data = cifar10.load(synthetic_dir, "test")
    assert data.name == "synthetic"
    assert data.images.shape == (10_000, 3, 32, 32)
    assert data.labels.bincount().tolist() == [1000] * 10
    assert len(cifar10.load(synthetic_dir, "train").images) == 50_000
    labels = data.labels[:100].numpy().astype(np.uint8)
    first, again, other_seed = (synthetic.draw(labels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other_seed).any()


def test_the_synthetic_data_set_never_overwrites_a_data_set(synthetic_dir: Path) -> None:
    with pytest.raises(DatasetError, match="exists already"):
        synthetic.write(synthetic_dir)


def link_data_set(data_dir: Path, target: Path, without: str) -> Path:
    """Link all files of the data set in ``data_dir``, except ``without``, into a new data set in ``target``."""
    folder = target / cifar10.FOLDER
    folder.mkdir()
    for path in (data_dir / cifar10.FOLDER).iterdir():
        if path.name != without:
            (folder / path.name).symlink_to(path)
    return folder
