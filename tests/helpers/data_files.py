"""Small data sets of each kind that people have; equal arguments give equal bytes with every version of Pillow."""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray
from PIL import Image

from cifar10_zoo import synthetic
from cifar10_zoo.data.cifar10 import CLASSES


def pixels(seed: int, size: int = 8) -> NDArray[np.uint8]:
    """Return an image [size, size, 3] of noise."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def image_file(seed: int, size: int = 8) -> bytes:
    """Return an image of noise as a BMP file, which is never compressed."""
    Image.fromarray(pixels(seed, size)).save(file := io.BytesIO(), "BMP")
    return file.getvalue()


def write_class(folder: Path, count: int, first_seed: int = 0) -> list[Path]:
    """Write ``count`` images 0.bmp, 1.bmp, ... into a new class folder."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.bmp" for number in range(count)]
    for seed, path in enumerate(paths, first_seed):
        path.write_bytes(image_file(seed))
    return paths


def write_classes(folder: Path, counts: Mapping[str, int], first_seed: int = 0) -> Path:
    """Write class folders with these numbers of images, each another one."""
    for name, count in counts.items():
        write_class(folder / name, count, first_seed)
        first_seed += count
    return folder


def write_parquet(
    path: Path, images: Iterable[object], labels: Mapping[str, Iterable[object]], features: object = None
) -> None:
    """Write a Parquet file as Hugging Face's library does.

    Args:
        path: The file; its folder is created.
        images: The content of an image file, or a dict with the keys bytes and path, per row of the column image.
        labels: The columns of labels.
        features: The types of the columns in the library's notation, or None for a file of another program.
    """
    structs = [image if isinstance(image, dict) else {"bytes": image, "path": None} for image in images]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {"image": pyarrow.array(structs, kind)} | {name: list(values) for name, values in labels.items()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), path, row_group_size=5)


def class_label(names: Iterable[str]) -> dict[str, Any]:
    """Return the type of a column of labels with class names, in the notation of Hugging Face's library."""
    return {"names": list(names), "_type": "ClassLabel"}


FINE, COARSE = tuple(f"f{n}" for n in range(100)), tuple(f"c{n}" for n in range(20))
"""The class names that ``write_cifar100`` writes."""


def planes(count: int) -> NDArray[np.uint8]:
    """Return ``count`` images as planes R, G, B, [count, 3072]."""
    return np.stack([pixels(seed, 32).transpose(2, 0, 1).reshape(-1) for seed in range(count)])


def write_cifar100(data_dir: Path, count: int = 100) -> Path:
    """Write CIFAR-100's binary version, ``count`` images per part; image N has the labels N (fine), N // 5 (coarse)."""
    folder = data_dir / "cifar-100-binary"
    folder.mkdir(parents=True)
    fine = np.arange(count, dtype=np.uint8)[:, None]
    for part in ("train", "test"):
        np.concatenate([fine // 5, fine, planes(count)], axis=1).tofile(folder / f"{part}.bin")
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n\n")
    return folder


PYTHON_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
"""The files of CIFAR-10's Python version, without ``batches.meta``."""


def python2_pickle(value: object) -> bytes:
    """Return a pickle of protocol 2 as Python 2 and NumPy 1 wrote it: CIFAR-10's Python version has such files."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: object) -> bytes:
    """Return the opcodes of one value; pickletools.py explains them."""
    match value:
        case dict():
            return b"}(" + b"".join(_python2(key) + _python2(item) for key, item in value.items()) + b"u"
        case list():
            return b"](" + b"".join(map(_python2, value)) + b"e"
        case bytes():
            return b"T" + len(value).to_bytes(4, "little") + value
        case int():
            return b"J" + value.to_bytes(4, "little", signed=True)
        case np.ndarray():
            dtype = (
                b"cnumpy\ndtype\n"
                + b"U\x02u1K\x00K\x01\x87R"
                + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            )
            empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            shape = b"(" + b"".join(map(_python2, value.shape)) + b"t"
            return empty + b"(K\x01" + shape + dtype + b"\x89" + _python2(value.tobytes()) + b"tb"
    raise TypeError(type(value))


def write_python_version(data_dir: Path, images: NDArray[np.uint8], labels: list[int], classes: Iterable[str]) -> Path:
    """Write CIFAR-10's Python version; all batches have the same images [N, 3072] and labels."""
    folder = data_dir / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "batches.meta").write_bytes(python2_pickle({b"label_names": [name.encode() for name in classes]}))
    for name in PYTHON_BATCHES:
        write_python_batch(folder / name, images, labels)
    return folder


def write_python_batch(path: Path, images: NDArray[np.uint8], labels: list[int]) -> None:
    """Write one batch of CIFAR-10's Python version, with any number of images [N, 3072]."""
    names = [b"%d.png" % number for number in range(len(labels))]
    batch = {b"batch_label": b"a batch", b"labels": labels, b"data": images, b"filenames": names}
    path.write_bytes(python2_pickle(batch))


def write_drawings(data_dir: Path, batch_size: int, test_batch_size: int) -> None:
    """Write drawings of the synthetic data set's classes: five batches for training, and another one for testing.

    They are in CIFAR-10's Python version, because each batch of the binary version must have 10,000 images.
    """
    folder = write_python_version(data_dir, planes(1), [0], CLASSES["synthetic"])
    for seed, name in enumerate(PYTHON_BATCHES):
        random = np.random.default_rng(seed)
        count = test_batch_size if name == "test_batch" else batch_size
        labels = random.permutation(np.arange(count, dtype=np.uint16) % 10).astype(np.uint8)
        write_python_batch(folder / name, synthetic.draw(labels, random).reshape(count, -1), labels.tolist())
