"""Rows as Parquet files. pyarrow is imported only when a function needs it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cifar10_runtime.errors import UsageError
from cifar10_runtime.results.rows import Columns, Value
from cifar10_runtime.text import valid_unicode

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

_ROWS_PER_READ = 16_384
_BYTES_PER_ROW_GROUP = 1 << 20
"""JSON lines that become one row group, in bytes."""


def require_pyarrow() -> None:
    """Check that pyarrow is installed.

    Raises:
        UsageError: The package pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError("Parquet files need pyarrow: pip install 'cifar10-zoo[parquet]'") from None


def writer(file: Path | IO[bytes], columns: Columns, metadata: Mapping[bytes, bytes] | None = None) -> "ParquetWriter":
    """Open a writer of tables, to be used as a context manager.

    Args:
        file: The Parquet file, as a path or open for writing.
        columns: The columns of the tables.
        metadata: Key-value pairs to store in the schema.
    """
    from pyarrow.parquet import ParquetWriter

    return ParquetWriter(file, _schema(columns).with_metadata(metadata))


def metadata(file: IO[bytes]) -> Mapping[bytes, bytes]:
    """Return the metadata that ``writer`` stored in ``file``; empty if the file is damaged."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        return read_schema(file).metadata or {}
    except (ArrowException, OSError):
        return {}


def table(rows: list[dict[str, Any]], columns: Columns) -> "pyarrow.Table":
    """Table of ``rows``, each a dict by ``columns.names``; bytes of paths that are not UTF-8 are escaped."""
    import pyarrow

    return pyarrow.Table.from_pylist([row | {"path": valid_unicode(row["path"])} for row in rows], _schema(columns))


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a Parquet file."""
    from pyarrow.parquet import read_schema

    names: list[str] = read_schema(path).names
    return names


def rows(path: Path) -> Iterator[list[Value]]:
    """Yield the values of each row of a Parquet file."""
    from pyarrow.parquet import ParquetFile

    for batch in ParquetFile(path).iter_batches(_ROWS_PER_READ):
        yield from (list(row.values()) for row in batch.to_pylist())


def from_json_lines(source: Path, target: Path, columns: Columns) -> None:
    """Write the rows of the JSON lines file ``source`` to the Parquet file ``target``.

    Raises:
        OSError: A file cannot be read or written; ``target`` may be incomplete.
    """
    with open(source, "rb") as lines, writer(target, columns) as tables:
        while group := lines.readlines(_BYTES_PER_ROW_GROUP):
            tables.write_table(table([json.loads(line) for line in group], columns))


def _schema(columns: Columns) -> "pyarrow.Schema":
    import pyarrow

    types = {"probability": pyarrow.float64(), "features": pyarrow.list_(pyarrow.float32())}
    return pyarrow.schema([(name, types.get(name.partition("_")[0], pyarrow.string())) for name in columns.names])
