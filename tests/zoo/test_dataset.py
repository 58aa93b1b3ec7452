"""Data-set files: what is read is what was written, and damage is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar10_zoo import synthetic
from cifar10_zoo.data import cifar10 as dataset
from cifar10_zoo.errors import DatasetError


@given(labels=st.lists(st.integers(0, 9), min_size=1, max_size=20), seed=st.integers(0, 2**32 - 1))
def test_records_round_trip(tmp_path_factory: pytest.TempPathFactory, labels: list[int], seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    path = tmp_path_factory.getbasetemp() / "records.bin"
    path.write_bytes(b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)))
    read_images, read_labels = dataset.read_records(path)
    assert torch.equal(read_images, torch.from_numpy(images))
    assert read_labels.tolist() == labels


@pytest.mark.parametrize("size", [0, 1, dataset.RECORD_BYTES - 1, dataset.RECORD_BYTES + 1])
def test_a_file_of_broken_records_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(DatasetError, match=rf"data_batch_1\.bin is damaged: {size} bytes"):
        dataset.read_records(path)


def test_a_label_above_9_is_named_with_its_record(tmp_path: Path) -> None:
    path = tmp_path / "test_batch.bin"
    path.write_bytes(bytes(dataset.RECORD_BYTES) + bytes([10]) + bytes(dataset.RECORD_BYTES - 1))
    with pytest.raises(DatasetError, match=r"test_batch\.bin is damaged: record 1 has label 10"):
        dataset.read_records(path)


def test_a_missing_batch_is_named(synthetic_dir: Path, tmp_path: Path) -> None:
    copy_without(synthetic_dir, tmp_path, "data_batch_3.bin")
    with pytest.raises(DatasetError, match=r"data_batch_3\.bin is missing"):
        dataset.load(tmp_path, "train")


def test_a_batch_cut_between_records_is_named(synthetic_dir: Path, tmp_path: Path) -> None:
    folder = copy_without(synthetic_dir, tmp_path, "test_batch.bin")
    whole = (synthetic_dir / dataset.FOLDER / "test_batch.bin").read_bytes()
    (folder / "test_batch.bin").write_bytes(whole[: -dataset.RECORD_BYTES])
    with pytest.raises(DatasetError, match=r"test_batch\.bin is damaged: it has 9999 records, not 10000"):
        dataset.load(tmp_path, "test")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\n".join(dataset.CLASSES["cifar10"]) + "\n\n", "cifar10"),
        ("\n".join(dataset.CLASSES["synthetic"]), "synthetic"),
        ("\n".join("abcdefghij"), "custom"),
    ],
)
def test_class_names_tell_the_data_set(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / dataset.META_FILE
    path.write_text(text)
    assert dataset.read_classes(path) == (name, tuple(text.split()))


@pytest.mark.parametrize(
    "names",
    [b"a b c d e f g h i", b"a b c d e f g h i i", b"a b c d e f g h i ../j", b"a b c d e f g h i /j", b"\xff a b c d"],
    ids=["nine", "one twice", "a path", "an absolute path", "no text"],
)
def test_class_names_that_cannot_be_are_an_error(tmp_path: Path, names: bytes) -> None:
    path = tmp_path / dataset.META_FILE
    path.write_bytes(names)
    with pytest.raises(DatasetError, match=dataset.META_FILE):
        dataset.read_classes(path)


def test_the_folder_of_the_batches_itself_is_told_from_its_parent(synthetic_dir: Path) -> None:
    with pytest.raises(DatasetError, match="the folder of the batches itself"):
        dataset.load(synthetic_dir / dataset.FOLDER, "test")


def test_the_synthetic_data_set_is_deterministic_balanced_and_says_what_it_is(synthetic_dir: Path) -> None:
    data = dataset.load(synthetic_dir, "test")
    assert data.name == "synthetic"
    assert data.images.shape == (10_000, 3, 32, 32)
    assert data.labels.bincount().tolist() == [1000] * 10
    assert len(dataset.load(synthetic_dir, "train").images) == 50_000
    labels = data.labels[:100].numpy().astype(np.uint8)
    drawn = [synthetic.draw(labels, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()


def test_the_synthetic_data_set_never_replaces_another(synthetic_dir: Path) -> None:
    with pytest.raises(DatasetError, match="exists already"):
        synthetic.write(synthetic_dir)


def copy_without(data_dir: Path, target: Path, missing: str) -> Path:
    """Link the data set to ``target`` but for one file."""
    folder = target / dataset.FOLDER
    folder.mkdir()
    for path in (data_dir / dataset.FOLDER).iterdir():
        if path.name != missing:
            (folder / path.name).symlink_to(path)
    return folder
