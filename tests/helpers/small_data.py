"""Small data sets, so that tests can evaluate a whole split in a moment."""

from pathlib import Path

import pytest

from cifar10_zoo.data import cifar10


def write_small_data(source: Path, target: Path, records_per_file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the first records of each data file in ``source`` to ``target``, and make the loader accept this size."""
    monkeypatch.setattr(cifar10, "RECORDS_PER_FILE", records_per_file)
    (target / cifar10.FOLDER).mkdir(parents=True)
    for path in (source / cifar10.FOLDER).iterdir():
        content = path.read_bytes()
        if path.suffix == ".bin":
            content = content[: records_per_file * cifar10.RECORD_BYTES]
        (target / cifar10.FOLDER / path.name).write_bytes(content)
