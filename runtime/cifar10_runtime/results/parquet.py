"""Rows as Parquet; pyarrow is imported when it is needed."""

from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from cifar10_runtime.errors import UsageError
from cifar10_runtime.results.rows import Value, columns
from cifar10_runtime.text import valid_unicode

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow
    from pyarrow.parquet import ParquetWriter

_ROWS_A_GROUP = 16_384


def require_pyarrow() -> None:
    """See whether it is installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError("Parquet files need pyarrow: pip install 'cifar10-zoo[parquet]'") from None


def writer(file: "Path | IO[bytes]", top_k: int, metadata: Mapping[bytes, bytes] | None = None) -> "ParquetWriter":
    """A writer of tables; a context manager."""
    from pyarrow.parquet import ParquetWriter

    return ParquetWriter(file, _schema(top_k).with_metadata(metadata))


def metadata(file: IO[bytes]) -> Mapping[bytes, bytes]:
    """What ``writer`` was given; nothing where the file is damaged."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        return read_schema(file).metadata or {}
    except (ArrowException, OSError):
        return {}


def table(rows: list[dict[str, Any]], top_k: int) -> "pyarrow.Table":
    """Rows by ``columns``; Parquet has no place for paths that are not UTF-8."""
    import pyarrow

    return pyarrow.Table.from_pylist([row | {"path": valid_unicode(row["path"])} for row in rows], _schema(top_k))


def rows(path: "Path") -> Iterator[list[Value]]:
    """The cells of each row of a file."""
    from pyarrow.parquet import ParquetFile

    for batch in ParquetFile(path).iter_batches(_ROWS_A_GROUP):
        yield from (list(row.values()) for row in batch.to_pylist())


def _schema(top_k: int) -> "pyarrow.Schema":
    import pyarrow

    names = columns(top_k)
    return pyarrow.schema(
        [(name, pyarrow.float64() if name.startswith("probability") else pyarrow.string()) for name in names]
    )
