"""The numbers on the report page: counts, accuracy, confusion matrix and histogram of confidence."""

from collections import Counter
from collections.abc import Sequence

from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results.calibration import Calibration

BINS = 20
"""Number of bins of the histogram, each 1 / BINS wide."""


class Statistics:
    """Counts any number of predictions in constant memory.

    Args:
        labels: The classes of the model, in its order. If the folder of an image has the name of a class, this class is
            the true class of the image.
        unknown_label: The label of unknown images; empty if each image gets a class.
    """

    read: int
    """Number of images that were classified."""
    failed: int
    """Number of files that could not be read."""
    bins: list[int]
    """Number of images per bin of confidence."""
    wrong_bins: list[int]
    """Number of images per bin whose most probable class is not the true class."""
    predicted: Counter[str]
    """Number of images per label: predicted class, or unknown."""
    confusion: Counter[tuple[str, str]]
    """Number of images per pair of true class and label."""
    in_folder: Counter[str]
    """Number of images per true class: the row sums of ``confusion``."""
    in_folders_predicted: Counter[str]
    """Number of images with a true class per label: the column sums of ``confusion``."""
    calibration: Calibration
    """The images with a true class by confidence. It counts unknown images with their most probable class."""

    def __init__(self, labels: Sequence[str], unknown_label: str = "") -> None:
        self.labels = tuple(dict.fromkeys(labels))
        self.unknown_label = unknown_label
        self.read = self.failed = 0
        self.bins, self.wrong_bins = [0] * BINS, [0] * BINS
        self.predicted, self.confusion = Counter(), Counter()
        self.in_folder, self.in_folders_predicted = Counter(), Counter()
        self.calibration = Calibration()
        self._known = frozenset(labels)
        self._confidence = 0.0

    def add(self, prediction: Prediction) -> None:
        """Count one prediction."""
        if not prediction.ranking:
            self.failed += 1
            return
        label, truth, confidence = prediction.label, prediction.folder, confidence_of(prediction)
        column = min(int(confidence * BINS), BINS - 1)
        self.read += 1
        self._confidence += confidence
        self.bins[column] += 1
        self.predicted[label] += 1
        if truth in self._known:
            is_correct = prediction.top1 == truth
            self.wrong_bins[column] += not is_correct
            self.calibration.add(confidence, is_correct)
            self.confusion[truth, label] += 1
            self.in_folder[truth] += 1
            self.in_folders_predicted[label] += 1

    def is_mistake(self, prediction: Prediction) -> bool:
        """Return whether the true class is known and the image got the label of another class."""
        is_answered = not prediction.unknown_label
        return is_answered and prediction.folder in self._known and prediction.folder != prediction.label

    @property
    def correct(self) -> int:
        """Number of images whose predicted class is their true class."""
        return sum(self.confusion[label, label] for label in self.labels)

    @property
    def known(self) -> int:
        """Number of images whose true class is known."""
        return self.confusion.total()

    @property
    def answered(self) -> int:
        """Number of images whose true class is known and that are not unknown."""
        return self.known - self.in_folders_predicted[self.unknown_label]

    @property
    def mean_confidence(self) -> float:
        """Mean probability of the most probable class, 0 to 1; ``read`` must not be 0."""
        return self._confidence / self.read

    def most_frequent(self, count: int) -> list[str]:
        """Return the ``count`` most frequently predicted classes, in the order of ``labels``."""
        frequent = set(sorted(self.labels, key=lambda label: -self.predicted[label])[:count])
        return [label for label in self.labels if label in frequent]


def confidence_of(prediction: Prediction) -> float:
    """Return the probability of the most probable class, clamped to [0, 1]; NaN becomes 0."""
    return min(1.0, max(0.0, prediction.probability))  # max(0.0, NaN) is 0.0; max(NaN, 0.0) would be NaN
