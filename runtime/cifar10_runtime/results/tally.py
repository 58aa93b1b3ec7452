"""The counts that sum up a run."""

from collections.abc import Iterable, Mapping

from cifar10_runtime.prediction import Prediction


class Tally:
    """Images, and how many of them failed; those in folders named after labels, and how many of them are right."""

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels = frozenset(labels)
        self.images = self.failed = self.in_class_folders = self.correct = 0

    def add(self, prediction: Prediction) -> None:
        """Count one."""
        self.images += 1
        if prediction.error:
            self.failed += 1
            return
        if (folder := prediction.folder) in self.labels:
            self.in_class_folders += 1
            self.correct += folder == prediction.label

    def counts(self) -> dict[str, int]:
        """All four, by name."""
        return {name: getattr(self, name) for name in ("images", "failed", "in_class_folders", "correct")}

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Those of another tally."""
        for name, count in self.counts().items():
            setattr(self, name, count + int(counts[name]))

    def summary(self) -> str:
        """How many, and how many failed."""
        return f"{self.images} image{'s' * (self.images != 1)}, {self.failed} failed"

    def accuracy(self) -> str:
        """The accuracy, where there are folders named after labels."""
        share = self.correct / self.in_class_folders
        return f"accuracy {share:.4f} ({self.correct} of {self.in_class_folders} images in folders named after classes)"
