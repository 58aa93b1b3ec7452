"""The counts in the summary of a run."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from cifar10_runtime.prediction import Prediction
from cifar10_runtime.text import printable

_NUMBERS = ("images", "failed", "in_class_folders", "correct")


class Tally:
    """Counts of images, failures and correct predictions.

    Args:
        labels: The classes of the model. An image in a folder named after one of them counts for the accuracy. A folder
            whose name differs from a class in upper and lower case does not count; ``other_case`` has its images.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels = frozenset(labels)
        self._folded = frozenset(label.casefold() for label in self.labels)
        self.images = self.failed = self.in_class_folders = self.correct = 0
        self.other_case: Counter[str] = Counter()
        """Number of images per folder whose name differs from a class in upper and lower case."""

    def add(self, prediction: Prediction) -> None:
        """Count one prediction."""
        self.images += 1
        if prediction.error:
            self.failed += 1
            return
        if (folder := prediction.folder) in self.labels:
            self.in_class_folders += 1
            self.correct += folder == prediction.label
        elif folder.casefold() in self._folded:
            self.other_case[folder] += 1

    def counts(self) -> dict[str, Any]:
        """Return the counts by name: four numbers, and the numbers in ``other_case``."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {**numbers, "other_case": dict(self.other_case)}

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        """Add the ``counts()`` of another tally; earlier versions did not count ``other_case``."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + int(counts[name]))
        self.other_case.update(counts.get("other_case", {}))

    def summary(self) -> str:
        """Return the number of images and of failures, in words."""
        return f"{_images(self.images)}, {self.failed} failed"

    def class_folders(self) -> list[str]:
        """Return lines about the folders named after classes: the accuracy, then the folders that do not count."""
        lines = []
        if self.in_class_folders:
            of_images = f"{self.correct} of {self.in_class_folders} images in folders named after classes"
            lines.append(f"accuracy {self.correct / self.in_class_folders:.4f} ({of_images})")
        if self.other_case:
            folders = ", ".join(f"{printable(folder)} ({count})" for folder, count in sorted(self.other_case.items()))
            left_out = f"{_images(self.other_case.total())} in folders that differ from a class only in case"
            lines.append(f"the accuracy leaves out {left_out}: {folders}")
        return lines


def _images(number: int) -> str:
    return f"{number} image{'s' * (number != 1)}"
