"""Damaged files of every kind, a few of those that ``fuzz.py`` makes."""

import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("memory is measured as Linux does", allow_module_level=True)
from tests.stress import fuzz


@pytest.mark.parametrize(("kind", "count"), [("images", 1000), ("models", 150), ("files", 60)])
def test_damaged_files_are_refused_cleanly_or_taken_for_what_they_are(tmp_path: Path, kind: str, count: int) -> None:
    tally = fuzz.fuzz(kind, range(count), seed=0, folder=tmp_path)
    assert not tally.faults, tally.faults[0]
    assert tally.cases == count
    assert 0 < tally.accepted < count
