"""The numbers on the report page: counts, accuracy, confusion matrix and histogram of confidence."""

from collections import Counter
from collections.abc import Sequence

from cifar10_runtime.prediction import Prediction

BINS = 20
"""Number of bins of the histogram, each 1 / BINS wide."""


class Statistics:
    """Counts any number of predictions in constant memory.

    Args:
        labels: The classes of the model, in its order. If the folder of an image has the name of a class, this class is
            the true class of the image.
    """

    read: int
    """Number of images that were classified."""
    failed: int
    """Number of files that could not be read."""
    bins: list[int]
    """Number of images per bin of confidence."""
    wrong_bins: list[int]
    """Number of images per bin whose prediction is not the true class."""
    predicted: Counter[str]
    """Number of images per predicted class."""
    confusion: Counter[tuple[str, str]]
    """Number of images per pair of true class and predicted class."""
    in_folder: Counter[str]
    """Number of images per true class: the row sums of ``confusion``."""
    in_folders_predicted: Counter[str]
    """Number of images with a true class per predicted class: the column sums of ``confusion``."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(dict.fromkeys(labels))
        self.read = self.failed = 0
        self.bins, self.wrong_bins = [0] * BINS, [0] * BINS
        self.predicted, self.confusion = Counter(), Counter()
        self.in_folder, self.in_folders_predicted = Counter(), Counter()
        self._known = frozenset(labels)
        self._confidence = 0.0

    def add(self, prediction: Prediction) -> None:
        """Count one prediction."""
        if not prediction.ranking:
            self.failed += 1
            return
        label, confidence = prediction.label, confidence_of(prediction)
        column = min(int(confidence * BINS), BINS - 1)
        self.read += 1
        self._confidence += confidence
        self.bins[column] += 1
        self.predicted[label] += 1
        self.wrong_bins[column] += self.is_mistake(prediction)
        truth = prediction.folder
        if truth in self._known:
            self.confusion[truth, label] += 1
            self.in_folder[truth] += 1
            self.in_folders_predicted[label] += 1

    def is_mistake(self, prediction: Prediction) -> bool:
        """Return whether the true class is known and another class was predicted."""
        return prediction.folder in self._known and prediction.folder != prediction.label

    @property
    def correct(self) -> int:
        """Number of images whose predicted class is their true class."""
        return sum(self.confusion[label, label] for label in self.labels)

    @property
    def known(self) -> int:
        """Number of images whose true class is known."""
        return self.confusion.total()

    @property
    def mean_confidence(self) -> float:
        """Mean probability of the predicted class, 0 to 1; ``read`` must not be 0."""
        return self._confidence / self.read

    def most_frequent(self, count: int) -> list[str]:
        """Return the ``count`` most frequently predicted classes, in the order of ``labels``."""
        frequent = set(sorted(self.labels, key=lambda label: -self.predicted[label])[:count])
        return [label for label in self.labels if label in frequent]


def confidence_of(prediction: Prediction) -> float:
    """Return the probability of the predicted class, clamped to [0, 1]; NaN becomes 0."""
    return min(1.0, max(0.0, prediction.probability))  # max(0.0, NaN) is 0.0; max(NaN, 0.0) would be NaN
