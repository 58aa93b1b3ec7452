"""The counts in the summary of a run."""

from collections.abc import Iterable, Mapping

from cifar10_runtime.prediction import Prediction


class Tally:
    """Counts of images, failures and correct predictions.

    Args:
        labels: The classes of the model. An image in a folder named after one of them counts for the accuracy.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels = frozenset(labels)
        self.images = self.failed = self.in_class_folders = self.correct = 0

    def add(self, prediction: Prediction) -> None:
        """Count one prediction."""
        self.images += 1
        if prediction.error:
            self.failed += 1
            return
        if (folder := prediction.folder) in self.labels:
            self.in_class_folders += 1
            self.correct += folder == prediction.label

    def counts(self) -> dict[str, int]:
        """Return the four counts by name."""
        return {name: getattr(self, name) for name in ("images", "failed", "in_class_folders", "correct")}

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Add the ``counts()`` of another tally."""
        for name, count in self.counts().items():
            setattr(self, name, count + int(counts[name]))

    def summary(self) -> str:
        """Return the number of images and of failures, in words."""
        return f"{self.images} image{'s' * (self.images != 1)}, {self.failed} failed"

    def accuracy(self) -> str:
        """Return the top-1 accuracy in words; ``in_class_folders`` must not be 0."""
        share = self.correct / self.in_class_folders
        return f"accuracy {share:.4f} ({self.correct} of {self.in_class_folders} images in folders named after classes)"
