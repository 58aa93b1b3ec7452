"""The numbers on the report page: counts, accuracy, confusion matrix and histogram of confidence."""

from collections import Counter
from collections.abc import Sequence

from cifar10_runtime.prediction import Prediction

BINS = 20
"""Bins of the histogram, each 1 / BINS wide."""


class Statistics:
    """Counts any number of predictions in constant memory.

    Args:
        labels: The classes of the model, in its order. The folder of an image is its true class if it has their name.
    """

    read: int
    """Images that were classified."""
    failed: int
    """Files that could not be read."""
    bins: list[int]
    """Images per bin of confidence."""
    wrong_bins: list[int]
    """Images per bin whose prediction is not the true class."""
    predicted: Counter[str]
    """Images per predicted class."""
    confusion: Counter[tuple[str, str]]
    """Images per true and predicted class."""
    in_folder: Counter[str]
    """Images per true class: the row sums of ``confusion``."""
    in_folders_predicted: Counter[str]
    """Images with a true class, per predicted class: the column sums of ``confusion``."""

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
        truth = prediction.folder
        if truth in self._known:
            self.confusion[truth, label] += 1
            self.in_folder[truth] += 1
            self.in_folders_predicted[label] += 1
            self.wrong_bins[column] += truth != label

    def is_mistake(self, prediction: Prediction) -> bool:
        """Whether the true class is known and another one was predicted."""
        return prediction.folder in self._known and prediction.folder != prediction.label

    @property
    def correct(self) -> int:
        """Images whose predicted class is their true class."""
        return sum(self.confusion[label, label] for label in self.labels)

    @property
    def known(self) -> int:
        """Images whose true class is known."""
        return self.confusion.total()

    @property
    def mean_confidence(self) -> float:
        """Mean probability of the predicted class, 0 to 1; ``read`` must not be 0."""
        return self._confidence / self.read

    def most_frequent(self, count: int) -> list[str]:
        """The ``count`` classes that were predicted most often, in the order of ``labels``."""
        frequent = set(sorted(self.labels, key=lambda label: -self.predicted[label])[:count])
        return [label for label in self.labels if label in frequent]


def confidence_of(prediction: Prediction) -> float:
    """Probability of the predicted class, clamped to 0 to 1; NaN becomes 0."""
    return min(1.0, max(0.0, prediction.probability))  # max(0.0, NaN) is 0.0; max(NaN, 0.0) would be NaN
