"""Data set files: reading returns exactly the written values, and an error names the damaged file."""

import hashlib
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


def batch_file(tmp_path: Path, name: str, content: bytes, downloaded: bool) -> Path:
    """Write a file of a data set; the archive of a downloaded data set is beside its folder."""
    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    if downloaded:
        write_archive(tmp_path)
    (folder / name).write_bytes(content)
    return folder / name


def write_archive(data_dir: Path, size: int = cifar10.ARCHIVE.size) -> None:
    """Write a sparse file of the size of the official archive."""
    with open(data_dir / cifar10.ARCHIVE.file_name, "wb") as file:
        file.truncate(size)


ORIGIN = pytest.mark.parametrize("downloaded", [True, False], ids=["downloaded", "own data"])


def message(path: Path, reason: str, downloaded: bool) -> str:
    """The whole message about a file; only a downloaded file may be called damaged and be deleted."""
    if downloaded:
        return f"{path} is damaged: {reason}; delete {path.parent} to unpack the archive again"
    return f"{path} cannot be used: {reason}"


@ORIGIN
@pytest.mark.parametrize(
    "size",
    [0, 1, RECORD_BYTES - 1, RECORD_BYTES + 1],
    ids=["empty", "one byte", "one byte less than a record", "one byte more than a record"],
)
def test_an_incomplete_record_is_an_error_that_names_the_file(tmp_path: Path, size: int, downloaded: bool) -> None:
    path = batch_file(tmp_path, "data_batch_1.bin", bytes(size), downloaded)
    with pytest.raises(DatasetError) as error:
        cifar10.read_records(path)
    assert str(error.value) == message(path, f"{size} bytes are not whole records of 3073 bytes", downloaded)


@ORIGIN
def test_a_label_above_9_is_an_error_that_names_the_record(tmp_path: Path, downloaded: bool) -> None:
    content = bytes(RECORD_BYTES) + bytes([10]) + bytes(RECORD_BYTES - 1)
    path = batch_file(tmp_path, "test_batch.bin", content, downloaded)
    with pytest.raises(DatasetError) as error:
        cifar10.read_records(path)
    assert str(error.value) == message(path, "record 1 has label 10, above 9", downloaded)


@ORIGIN
def test_a_missing_batch_file_is_named(synthetic_dir: Path, tmp_path: Path, downloaded: bool) -> None:
    folder = link_data_set(synthetic_dir, tmp_path, without="data_batch_3.bin")
    if downloaded:
        write_archive(tmp_path)
    advice = f"delete {folder} to unpack the archive again" if downloaded else "add it"
    with pytest.raises(DatasetError) as error:
        cifar10.load(tmp_path, "train")
    assert str(error.value) == f"{folder / 'data_batch_3.bin'} is missing: {advice}, or name another --data-dir"


@ORIGIN
def test_a_batch_file_truncated_between_records_is_named(synthetic_dir: Path, tmp_path: Path, downloaded: bool) -> None:
    complete = (synthetic_dir / cifar10.FOLDER / "test_batch.bin").read_bytes()
    path = batch_file(tmp_path, "test_batch.bin", complete[:-RECORD_BYTES], downloaded)
    with pytest.raises(DatasetError) as error:
        cifar10.load(tmp_path, "test")
    assert str(error.value) == message(path, "it has 9999 records, not 10000", downloaded)


def test_own_data_beside_another_archive_is_not_called_damaged(tmp_path: Path) -> None:
    path = batch_file(tmp_path, "test_batch.bin", b"", downloaded=False)
    write_archive(tmp_path, size=1000)
    with pytest.raises(DatasetError, match="cannot be used: 0 bytes"):
        cifar10.load(tmp_path, "test")
    assert path.exists()


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
    ("meta", "classes"),
    [
        pytest.param(None, tuple("0123456789"), id="no class names"),
        pytest.param("\n".join(CLASSES["cifar10"]), CLASSES["cifar10"], id="class names of CIFAR-10"),
    ],
)
def test_other_images_are_never_called_cifar10(
    synthetic_dir: Path, tmp_path: Path, meta: str | None, classes: tuple[str, ...]
) -> None:
    folder = link_data_set(synthetic_dir, tmp_path, without=META_FILE)
    if meta:
        (folder / META_FILE).write_text(meta)
    data = cifar10.load(tmp_path, "test")
    assert (data.name, data.classes) == ("custom", classes)


SHA256 = {
    "data_batch_1.bin": "c91cf7fdb0217be25eb789127162538291cdf9c4f1ff809a55b62913b603ae3a",
    "data_batch_2.bin": "5bd766007f7076876a5ebc12024572541c621e2ca25f7e633539590a321f5616",
    "data_batch_3.bin": "6317a7bbe72e672614c7c273b9c2733885bd340e54ce9d8f587020842a9d7513",
    "data_batch_4.bin": "4ddf78362656a1355ea8c962aa9aa6203e9c31da672c883b50b113964e934dbe",
    "data_batch_5.bin": "6036a00d6f9e9c06069fdaf2bd6f85f5488a5974af11b41d76732619d51ba56f",
    "test_batch.bin": "e77c5637964245a4d56cca7c705f611087b24ed87b2dc4c05ebc02d3d16a14ac",
}
"""SHA-256 of the whole files in the official archive."""


def test_cifar10_is_recognized_by_its_content_without_class_names(cifar10_dir: Path, tmp_path: Path) -> None:
    folder = link_data_set(cifar10_dir, tmp_path, without=META_FILE)
    for name, sha256 in SHA256.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256, "these are the official files"
    for split in ("train", "test"):
        data = cifar10.load(tmp_path, split)
        assert (data.name, data.classes) == ("cifar10", CLASSES["cifar10"])


@pytest.mark.parametrize("offset", [0, 1500], ids=["other labels", "other pixels"])
def test_cifar10_with_a_few_changed_records_is_custom_data_in_both_splits(
    cifar10_dir: Path, tmp_path: Path, offset: int
) -> None:
    """As in data sets of corrected labels or images: 3 % of the test records differ."""
    folder = link_data_set(cifar10_dir, tmp_path, without="test_batch.bin")
    records = np.fromfile(cifar10_dir / cifar10.FOLDER / "test_batch.bin", np.uint8).reshape(-1, RECORD_BYTES)
    changed = np.random.default_rng(0).choice(10_000, 300, replace=False)
    records[changed, offset] = (records[changed, offset] + 1) % 10
    records.tofile(folder / "test_batch.bin")
    for split in ("train", "test"):
        data = cifar10.load(tmp_path, split)
        assert (data.name, data.classes) == ("custom", CLASSES["cifar10"])


def test_cifar10_without_the_files_of_the_other_split_is_cifar10(cifar10_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    (folder / "test_batch.bin").symlink_to(cifar10_dir / cifar10.FOLDER / "test_batch.bin")
    assert cifar10.load(tmp_path, "test").name == "cifar10"


def test_a_folder_of_other_files_is_refused_and_nothing_is_downloaded_into_it(tmp_path: Path) -> None:
    for name in ("photos", ".hidden"):
        (tmp_path / name).mkdir()
    archive = tmp_path.parent / "never-read.tar.gz"
    with pytest.raises(DatasetError, match=f"--data-dir {tmp_path} has no cifar-10-batches-bin/, but other .*photos"):
        cifar10.load(tmp_path, "test", archive.as_uri())
    assert {path.name for path in tmp_path.iterdir()} == {"photos", ".hidden"}


def test_a_file_as_data_dir_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=f"--data-dir {tmp_path / 'file'} is not a directory"):
        cifar10.load(tmp_path / "file", "test")


def test_a_directory_with_a_partial_download_and_hidden_files_is_downloaded_into(tmp_path: Path) -> None:
    for name in (".DS_Store", ".lock", f"{cifar10.ARCHIVE.file_name}.part"):
        (tmp_path / name).touch()
    with pytest.raises(DatasetError, match="cannot download file:///nowhere"):
        cifar10.load(tmp_path, "test", "file:///nowhere")


@ORIGIN
@pytest.mark.parametrize(
    "names",
    [b"a b c d e f g h i", b"a b c d e f g h i i", b"a b c d e f g h i ../j", b"a b c d e f g h i /j", b"\xff a b c d"],
    ids=["nine names", "a duplicate name", "a relative path", "an absolute path", "not UTF-8"],
)
def test_invalid_class_names_are_an_error(tmp_path: Path, names: bytes, downloaded: bool) -> None:
    path = batch_file(tmp_path, META_FILE, names, downloaded)
    with pytest.raises(DatasetError) as error:
        cifar10.read_classes(path)
    reason = "it must name ten different classes, one per line, in letters and digits"
    assert str(error.value) == message(path, reason, downloaded)


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
