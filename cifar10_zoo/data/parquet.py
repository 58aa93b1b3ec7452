"""Images in Parquet files: a column of images and a column of labels, as Hugging Face stores data sets.

An image is the content of an image file, or a struct with the fields ``bytes`` and ``path``. Hugging Face's library
stores the types of the columns, with the class names, as JSON in the schema's metadata.
pyarrow is imported only when a function needs it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar10_zoo.data.dataset import LabelKind, Split
from cifar10_zoo.data.listing import Content, Listing
from cifar10_zoo.data.split import assign, part_of
from cifar10_zoo.errors import DatasetError, OptionError, one_line

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"
_METADATA = b"huggingface"
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label")
_ROWS_PER_READ = 64

Label = int | str


@dataclass(frozen=True)
class _File:
    """A Parquet file with labeled images."""

    path: Path
    image: str
    """The column of images."""
    labels: Sequence[Label]
    """The label of each row."""
    classes: tuple[str, ...] | None
    """The class names, if the metadata have them; then the labels are positions in ``classes``."""

    def contents(self) -> Iterator[str | bytes]:
        """Yield the content of the image in each row, or its path; a missing image is empty."""
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            for batch in ParquetFile(self.path).iter_batches(_ROWS_PER_READ, columns=[self.image]):
                yield from map(self._content, batch.column(0).to_pylist())
        except (ArrowException, OSError) as error:
            raise DatasetError(f"{self.path} is damaged: {one_line(error)}") from None

    def _content(self, value: Any) -> str | bytes:
        image = value if isinstance(value, dict) else {"bytes": value}
        if image["bytes"] is None and image.get("path"):
            return str(self.path.parent / image["path"])
        return image["bytes"] or b""


@dataclass(frozen=True)
class ParquetListing(Listing):
    """The images in Parquet files; all images of a file are in the same part."""

    files: Sequence[_File] = ()

    def contents(self, split: Split) -> Iterator[Content]:
        """Yield the images that may be in ``split``."""
        first = 0
        for file in filter(lambda file: file.labels, self.files):
            if self.is_test is None or self.is_test[first] == (split == "test"):
                yield from enumerate(file.contents(), first)
            first += len(file.labels)


def find(data_dir: Path, kind: LabelKind) -> Listing | None:
    """Return the images in the Parquet files below ``data_dir``, or in the Parquet file ``data_dir``; None without one.

    A file belongs to a part of the data set if its name begins with ``train``, ``test`` or ``val``, or if one of its
    folders has such a name.

    Args:
        data_dir: The directory or file.
        kind: The labels to use if a file has the columns ``fine_label`` and ``coarse_label``, as CIFAR-100.

    Raises:
        DatasetError: A file cannot be read, or has no images or no labels.
        OptionError: A file has no coarse labels.
    """
    paths = _parquet_files(data_dir)
    is_test = assign({path: _part(path, data_dir) for path in paths})
    files = [_open(path, kind) for path in is_test or paths]
    values = [label for file in files for label in file.labels]
    if not values:
        return None
    classes = _class_labels(files)
    positions = {label: position for position, label in enumerate(classes)}
    names = classes if files[0].classes is None else files[0].classes
    return ParquetListing(
        source=str(data_dir),
        classes=tuple(map(str, names)),
        names=[f"{file.path}, row {row}" for file in files for row in range(len(file.labels))],
        labels=np.array([positions[label] for label in values], np.int64),
        is_test=None if is_test is None else np.array([is_test[file.path] for file in files for _ in file.labels]),
        remarks=tuple(f"{path.name} is not used" for path in paths if path not in (is_test or paths)),
        files=files,
    )


def _parquet_files(data_dir: Path) -> list[Path]:
    paths = sorted(data_dir.rglob(f"*{SUFFIX}")) if data_dir.is_dir() else [data_dir]
    visible = (path for path in paths if not any(name.startswith(".") for name in path.relative_to(data_dir).parts))
    return [path for path in visible if path.suffix == SUFFIX and path.is_file()]


def _part(path: Path, data_dir: Path) -> str:
    """Return the part of the data set that the name of a file, or of its nearest folder with such a name, tells."""
    folders = path.relative_to(data_dir).parent.parts
    parts = [part_of(path.stem, whole=False), *(part_of(name, whole=True) for name in reversed(folders))]
    return next(filter(None, parts), "")


def _open(path: Path, kind: LabelKind) -> _File:
    """Read the labels of a Parquet file, and find out where its images are."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema, read_table
    except ImportError:
        raise DatasetError(f"{path}: Parquet files need pyarrow: pip install 'cifar10-zoo[parquet]'") from None
    try:
        schema = read_schema(path)
        class_names = _class_names(schema)
        image, label = _image_column(path, schema), _label_column(path, schema, class_names, kind)
        labels = read_table(path, columns=[label]).column(0).to_pylist()
    except (ArrowException, OSError):
        raise DatasetError(f"{path} is damaged, or no Parquet file: replace it, or move it away") from None
    classes = class_names.get(label)
    for row, value in enumerate(labels):
        if not isinstance(value, int | str) or (classes and value not in range(len(classes))):
            raise DatasetError(f"{path}, row {row}: {value!r} in the column {label} is no label: remove such rows")
    return _File(path, image, labels, classes)


def _class_names(schema: "pyarrow.Schema") -> dict[str, tuple[str, ...]]:
    """Return the class names of each column that is a ClassLabel of Hugging Face's library."""
    try:
        features = json.loads((schema.metadata or {}).get(_METADATA, b"{}"))["info"]["features"]
        labels = {name: kind for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
        return {name: tuple(map(str, kind["names"])) for name, kind in labels.items()}
    except (AttributeError, KeyError, TypeError, ValueError):  # other metadata than the library writes
        return {}


def _image_column(path: Path, schema: "pyarrow.Schema") -> str:
    candidates = [field.name for field in schema if _is_image(field.type)]
    return _choose(path, schema, "image", candidates, _IMAGE_COLUMNS)


def _is_image(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _is_image(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(
    path: Path, schema: "pyarrow.Schema", class_names: Mapping[str, Sequence[str]], kind: LabelKind
) -> str:
    candidates = list(class_names) or [name for name in _LABEL_COLUMNS if name in schema.names]
    if kind == "coarse" and "coarse_label" not in candidates:
        raise OptionError(f"--labels coarse: {path} has no column coarse_label")
    return _choose(path, schema, "label", candidates, (f"{kind}_label", *_LABEL_COLUMNS))


def _choose(path: Path, schema: "pyarrow.Schema", what: str, candidates: Sequence[str], names: Sequence[str]) -> str:
    """Return the only candidate, or the first of ``names`` that is one."""
    chosen = candidates if len(candidates) == 1 else [name for name in names if name in candidates]
    if not chosen:
        raise DatasetError(
            f"{path} has the columns {', '.join(schema.names)}: name the column of {what}s {what}"
            + (", with the content of image files" if what == "image" else "")
        )
    return chosen[0]


def _class_labels(files: Sequence[_File]) -> Sequence[Label]:
    """Return the labels of the classes, in the order of the classes."""
    classes = files[0].classes
    if different := [file.path for file in files if file.classes != classes]:
        raise DatasetError(f"{different[0]} has other class names than {files[0].path}: keep one of the two")
    if classes is not None:
        return range(len(classes))
    distinct = {label for file in files for label in file.labels}
    return sorted(distinct, key=lambda label: (isinstance(label, str), label))
