"""cifar10-infer --shard I/N: the rows of all shards, one after another, are the rows of an unsharded run."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cifar10_runtime.images.find import shard
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.command_line import CIFAR10_INFER, assert_fails_cleanly, infer


@given(paths=st.lists(st.text()), count=st.integers(1, 20))
def test_shards_have_nearly_equal_sizes_and_contain_every_path_once(paths: list[str], count: int) -> None:
    parts = [shard(iter(paths), number, count) for number in range(1, count + 1)]
    assert [path for part in parts for path in part] == paths
    assert {len(part) - len(paths) // count for part in parts} <= {0, 1}


@pytest.fixture(scope="module")
def images(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 images, after a file that is not an image."""
    images = shutil.copytree(folder, tmp_path_factory.mktemp("shard") / "images")
    (images / "0.png").write_bytes(b"no image")
    return images


@pytest.fixture(scope="module")
def whole(images: Path) -> bytes:
    output = images.parent / "whole.csv"
    assert infer(images, "--output", output).returncode == 3
    return output.read_bytes()


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_rows_of_all_shards_are_the_rows_of_an_unsharded_run(
    images: Path, whole: bytes, tmp_path: Path, count: int
) -> None:
    rows = []
    for number in range(1, count + 1):
        output = tmp_path / f"{number}.csv"
        result = infer(images, "--shard", f"{number}/{count}", "--output", output)
        assert result.returncode == (3 if number == 1 else 0), result.stderr
        header, *lines = output.read_bytes().splitlines(keepends=True)
        rows += lines
    assert header + b"".join(rows) == whole


def test_a_list_on_stdin_is_sharded_too_and_a_shard_can_be_empty(folder: Path) -> None:
    listed = "".join(f"{path}\n" for path in sorted(folder.rglob("*.png"))[:2])

    def paths_of_shard(number: int) -> list[str]:
        words: list[str | Path] = [CIFAR10_INFER, "--files-from", "-", "--shard", f"{number}/3", "--output", "-"]
        result = subprocess.run(words, input=listed, capture_output=True, text=True, check=True)
        return [line.split(",")[0] for line in result.stdout.splitlines()[1:]]

    assert [paths_of_shard(number) for number in (1, 2, 3)] == [[], *([path] for path in listed.split())]


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/3/5", ""], ids=repr)
def test_an_impossible_shard_is_an_error(folder: Path, part: str) -> None:
    assert_fails_cleanly(infer(folder, f"--shard={part}"), 2, "--shard", "I/N")
