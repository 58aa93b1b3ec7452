"""Some of the damaged images, models, data sets and checkpoints that ``tests/stress/fuzz.py`` makes."""

import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("memory is measured in /proc", allow_module_level=True)
from tests.stress import fuzz


@pytest.mark.parametrize(
    ("kind", "count"), [("images", 1000), ("models", 150), ("files", 60)], ids=["images", "models", "files"]
)
def test_a_damaged_file_is_refused_cleanly_or_read_correctly(tmp_path: Path, kind: str, count: int) -> None:
    tally = fuzz.fuzz(kind, range(count), seed=0, folder=tmp_path)
    assert not tally.faults, tally.faults[0]
    assert tally.cases == count
    assert 0 < tally.accepted < count
