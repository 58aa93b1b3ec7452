"""Where cifar10-infer puts the files of the images: nowhere, or for --sort-into in the folders of their labels."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from cifar10_runtime.images.find import shard
from cifar10_runtime.options import InferOptions
from cifar10_runtime.prediction import Prediction

if TYPE_CHECKING:
    from cifar10_runtime.results.sorter import Sorter


class NoSorter(nullcontext[None]):
    """Sorts no files; it has the methods of ``Sorter``."""

    unsorted = 0

    def __init__(self, part: tuple[int, int] | None) -> None:
        super().__init__()
        self._part = part

    def check_labels(self, labels: Iterable[str]) -> None:
        """Take any labels."""

    def outside(self, paths: Iterator[str]) -> Iterator[str]:
        """Return all paths."""
        return paths

    def left_out(self) -> str:
        """Return an empty string: no image is left out."""
        return ""

    def watch(self, paths: Iterator[str]) -> Iterator[str]:
        """Return the paths of the shard."""
        return iter(shard(paths, *self._part)) if self._part else paths

    def add(self, prediction: Prediction) -> None:
        """Do nothing."""

    def summary(self) -> str:
        """Return an empty string."""
        return ""


def new_sorter(options: InferOptions) -> "Sorter | NoSorter":
    """Return the sorter for ``options``."""
    if options.sort_into is None:
        return NoSorter(options.shard)
    from cifar10_runtime.results.sorter import Sorter  # imported late, because few runs sort

    return Sorter(Path(options.sort_into), options.sort_by == "link", options.shard)
