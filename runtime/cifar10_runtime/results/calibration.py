"""How well the probabilities of a model predict its accuracy, and which images a threshold keeps."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import NamedTuple

BINS = 15
"""Number of bins of confidence of equal width: (0, 1/15], (1/15, 2/15], ..., (14/15, 1]; the first one also has 0."""
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Values of ``min_probability`` to show."""

_UPPER_EDGES = [number / BINS for number in range(1, BINS + 1)]


@dataclass
class Bin:
    """The images whose confidence is in one interval."""

    images: int = 0
    correct: int = 0
    """Number of images whose most probable class is their true class."""
    confidence: float = 0.0
    """Sum of the confidences."""

    @property
    def accuracy(self) -> float:
        """Share of correct images, 0 to 1; ``images`` must not be 0."""
        return self.correct / self.images

    @property
    def mean_confidence(self) -> float:
        """Mean confidence, 0 to 1; ``images`` must not be 0."""
        return self.confidence / self.images


class Kept(NamedTuple):
    """The images that a threshold keeps: their confidence is not lower."""

    threshold: float
    images: int
    correct: int


class Calibration:
    """Counts any number of images with known classes in constant memory.

    The confidence of an image is the probability of its most probable class.
    """

    bins: list[Bin]
    """The images by confidence, lowest first."""

    def __init__(self) -> None:
        self.bins = [Bin() for _ in range(BINS)]
        self._reached = [[0, 0] for _ in range(len(THRESHOLDS) + 1)]
        """Numbers of images and of correct images by the number of thresholds that their confidence reaches."""

    def add(self, confidence: float, is_correct: bool) -> None:
        """Count an image.

        Args:
            confidence: The probability of the most probable class, 0 to 1.
            is_correct: Whether the most probable class is the true class.
        """
        place = self.bins[bisect_left(_UPPER_EDGES, confidence)]
        place.images += 1
        place.correct += is_correct
        place.confidence += confidence
        reached = self._reached[bisect_right(THRESHOLDS, confidence)]
        reached[0] += 1
        reached[1] += is_correct

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(place.images for place in self.bins)

    @property
    def correct(self) -> int:
        """Number of images whose most probable class is their true class."""
        return sum(place.correct for place in self.bins)

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017): sum over bins of images/all * |accuracy - mean confidence|.

        ``images`` must not be 0.
        """
        return sum(abs(place.correct - place.confidence) for place in self.bins) / self.images

    def kept(self) -> list[Kept]:
        """Return the images that each of ``THRESHOLDS`` keeps."""
        return [
            Kept(threshold, *map(sum, zip(*self._reached[number:], strict=True)))
            for number, threshold in enumerate(THRESHOLDS, 1)
        ]
