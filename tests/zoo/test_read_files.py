"""Reading image files in threads: bounded memory, and a progress bar on a terminal only."""

import io
import sys
from collections.abc import Iterator

import pytest
import torch

from cifar10_zoo.data.images import read_files
from cifar10_zoo.data.listing import Content
from tests.helpers.data_files import image_file, pixels


@pytest.mark.parametrize("threads", [1, 4])
def test_few_files_are_taken_ahead_so_that_memory_is_bounded(threads: int) -> None:
    count, content = 2000, image_file(0)
    decided: list[bytes] = []
    ahead: list[int] = []

    def contents() -> Iterator[Content]:
        for number in range(count):
            ahead.append(number - len(decided))
            yield number, content

    def is_wanted(sha256: bytes) -> bool:
        decided.append(sha256)
        return True

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pictures = read_files(contents(), count, 8, is_wanted, quiet=True)
    finally:
        torch.set_num_threads(before)
    assert max(ahead) <= 16 * (2 * threads + 2)
    assert pictures.numbers == list(range(count))
    assert (pictures.images == pixels(0).transpose(2, 0, 1)).all()


class Console(io.StringIO):
    """Text that says whether it is a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        """Return what the constructor was told."""
        return self.is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "quiet", "has_bar"),
    [
        pytest.param(True, False, True, id="terminal"),
        pytest.param(True, True, False, id="quiet"),
        pytest.param(False, False, False, id="file"),
    ],
)
def test_only_a_terminal_shows_a_progress_bar(
    is_terminal: bool, quiet: bool, has_bar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(is_terminal)
    monkeypatch.setattr(sys, "stderr", console)
    read_files([(0, image_file(0))], 1, 8, lambda _: True, quiet)
    assert ("reading images:   0%" in console.getvalue()) == has_bar
