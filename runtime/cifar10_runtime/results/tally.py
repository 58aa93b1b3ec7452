"""The counts in the summary of a run."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from cifar10_runtime.prediction import Prediction
from cifar10_runtime.text import printable

_NUMBERS = ("images", "failed", "unknown", "in_class_folders", "unknown_in_class_folders", "correct")


class Tally:
    """Counts of images, failures, unknown images and correct predictions.

    Args:
        labels: The classes of the model. An image in a folder named after one of them counts for the accuracy. A folder
            whose name differs from a class in upper and lower case does not count; ``other_case`` has its images.
        has_unknown: Whether images can be unknown; the summary then counts them, and the accuracy is that of the other
            images.
    """

    def __init__(self, labels: Iterable[str], has_unknown: bool = False) -> None:
        self.labels = frozenset(labels)
        self._has_unknown = has_unknown
        self._folded = frozenset(label.casefold() for label in self.labels)
        self.images = self.failed = self.unknown = 0
        self.in_class_folders = self.unknown_in_class_folders = self.correct = 0
        self.other_case: Counter[str] = Counter()
        """Number of images per folder whose name differs from a class in upper and lower case."""

    def add(self, prediction: Prediction) -> None:
        """Count one prediction."""
        self.images += 1
        if prediction.error:
            self.failed += 1
            return
        is_unknown = bool(prediction.unknown_label)
        self.unknown += is_unknown
        if (folder := prediction.folder) in self.labels:
            self.in_class_folders += 1
            self.unknown_in_class_folders += is_unknown
            self.correct += folder == prediction.label
        elif folder.casefold() in self._folded:
            self.other_case[folder] += 1

    def counts(self) -> dict[str, Any]:
        """Return the counts by name: the numbers, and the numbers in ``other_case``."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {**numbers, "other_case": dict(self.other_case)}

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        """Add the ``counts()`` of another tally; those of earlier versions have fewer names."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + int(counts.get(name, 0)))
        self.other_case.update(counts.get("other_case", {}))

    def summary(self) -> str:
        """Return the numbers of images, failures and unknown images, in words."""
        return f"{_images(self.images)}, {self.failed} failed{f', {self.unknown} unknown' * self._has_unknown}"

    def class_folders(self) -> list[str]:
        """Return lines about the folders named after classes: the accuracy, then the folders that do not count."""
        lines = []
        if self.in_class_folders:
            lines.append(self._accuracy())
        if self.other_case:
            folders = ", ".join(f"{printable(folder)} ({count})" for folder, count in sorted(self.other_case.items()))
            left_out = f"{_images(self.other_case.total())} in folders that differ from a class only in case"
            lines.append(f"the accuracy leaves out {left_out}: {folders}")
        return lines

    def _accuracy(self) -> str:
        """Return the accuracy of the images that got a class, and the share of these images, in words."""
        answered = self.in_class_folders - self.unknown_in_class_folders
        accuracy = f"{self.correct / answered:.4f}" if answered else "undefined"
        if not self._has_unknown:
            return f"accuracy {accuracy} ({self.correct} of {answered} images in folders named after classes)"
        return (
            f"accuracy {accuracy} ({self.correct} of {answered} answered images in folders named after classes), "
            f"answered {answered / self.in_class_folders:.4f} ({answered} of {self.in_class_folders})"
        )


def _images(number: int) -> str:
    return f"{number} image{'s' * (number != 1)}"
