"""Images that a CSV file lists, with the columns ``path`` and ``label``, as annotation tools write it."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar10_zoo.data.listing import Listing
from cifar10_zoo.data.split import assign, part_of
from cifar10_zoo.errors import DatasetError, one_line

SUFFIX = ".csv"
COLUMNS = ("path", "label")
_RESULT_COLUMN = "probability"
"""A column that cifar10-infer writes: the labels in such a file are predictions."""
_DELIMITERS = (",", ";", "\t")
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class _Row:
    """One row of a CSV file."""

    line: int
    path: Path
    label: str


def find(data_dir: Path) -> Listing | None:
    """Return the images that a CSV file in ``data_dir`` lists, or the CSV file ``data_dir``; None without a CSV file.

    Two files whose names begin with ``train`` and ``test`` (or ``val``) are the two parts of the data set. Relative
    paths start at the directory of the CSV file. Files without the two columns are ignored.

    Raises:
        DatasetError: A file cannot be read or has no rows, an image does not exist, or a label is missing.
    """
    tables = [path for path in _csv_files(data_dir) if _delimiter(_first_line(path))]
    is_test = assign({path: part_of(path.stem, whole=False) for path in tables})
    if is_test is None and len(tables) > 1:
        raise DatasetError(f"{data_dir} has {tables[0].name} and {tables[1].name}: name one of the files as --data-dir")
    rows = [(row, is_test is not None and is_test[path]) for path in is_test or tables for row in _read(path)]
    if not rows:
        return None
    classes = tuple(sorted({row.label for row, _ in rows}))
    labels = {name: label for label, name in enumerate(classes)}
    return Listing(
        source=str(tables[0] if is_test is None else data_dir),
        classes=classes,
        names=[str(row.path) for row, _ in rows],
        labels=np.array([labels[row.label] for row, _ in rows], np.int64),
        is_test=None if is_test is None else np.array([test for _, test in rows], np.bool_),
        remarks=tuple(f"{path.name} is not used" for path in tables if path not in (is_test or tables)),
    )


def require_columns(data_dir: Path) -> None:
    """Raise DatasetError if ``data_dir`` has CSV files, or is one: call this function if none of them can be used."""
    for path in _csv_files(data_dir):
        columns = next(csv.reader([_first_line(path)]), [])
        if _RESULT_COLUMN in columns:
            raise DatasetError(f"{path} is a result of cifar10-infer: its labels are predictions")
        found = f"the columns {', '.join(columns)}" if columns else "no columns"
        raise DatasetError(f"{path} has {found}: name the columns with images and classes {' and '.join(COLUMNS)}")


def _csv_files(data_dir: Path) -> list[Path]:
    paths = sorted(data_dir.iterdir()) if data_dir.is_dir() else [data_dir]
    return [
        path for path in paths if path.suffix.lower() == SUFFIX and not path.name.startswith(".") and path.is_file()
    ]


def _first_line(path: Path) -> str:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.readline(_LONGEST_HEADER).rstrip("\n")


def _columns(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _delimiter(line: str) -> str:
    """Return the delimiter of a file with this first line; empty if it has not the columns of a list of images."""
    for delimiter in _DELIMITERS:
        columns = _columns(line, delimiter)
        if set(COLUMNS) <= set(columns) and _RESULT_COLUMN not in columns:
            return delimiter
    return ""


def _read(path: Path) -> list[_Row]:
    """Return the rows of a CSV file, each with a label and an existing file."""
    try:
        rows = list(_rows(path))
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not text in UTF-8: save it in this encoding") from None
    except csv.Error as error:
        raise DatasetError(f"{path} is not a CSV file: {one_line(error)}") from None
    if not rows:
        raise DatasetError(f"{path} has no rows: add a row for each image")
    if missing := [row for row in rows if not row.path.is_file()]:
        first, count = missing[0], f"{len(missing):,} of {len(rows):,} images are missing"
        raise DatasetError(f"{path}, line {first.line}: {first.path} does not exist; {count}")
    return rows


def _rows(path: Path) -> Iterator[_Row]:
    delimiter = _delimiter(_first_line(path))
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        columns = [cell.strip() for cell in next(reader)]
        for cells in filter(None, reader):
            row = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
            if empty := [name for name in COLUMNS if not row.get(name)]:
                raise DatasetError(f"{path}, line {reader.line_num} has no {empty[0]}: add it, or remove the line")
            yield _Row(reader.line_num, path.parent / row["path"], row["label"])
