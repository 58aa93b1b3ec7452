"""Select the predictions whose images the report page shows."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from heapq import heappush, heapreplace

from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results.statistics import confidence_of

TILES = 48
"""Number of mistakes to keep, and of least certain predictions."""
FAILURES = 100
"""Number of failures to keep."""


class Gallery:
    """Selects predictions in constant memory; the same predictions always give the same selection.

    Args:
        labels: The classes of the model.
    """

    failures: list[Prediction]
    """The failed predictions of the first files that could not be read."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._sample_size = min(24, max(4, 480 // max(1, len(set(labels)))))
        self._random = random.Random(0)
        self._predicted: Counter[str] = Counter()
        self._samples: defaultdict[str, list[Prediction]] = defaultdict(list)
        self._mistakes, self._least_certain = _Greatest(TILES), _Greatest(TILES)
        self.failures = []

    def add(self, prediction: Prediction, is_mistake: bool) -> None:
        """Add a prediction.

        Args:
            prediction: The prediction.
            is_mistake: Whether it is known to be wrong.
        """
        if not prediction.ranking:
            if len(self.failures) < FAILURES:
                self.failures.append(prediction)
            return
        self._sample(prediction)
        confidence = confidence_of(prediction)
        self._least_certain.add(-confidence, prediction)
        if is_mistake:
            self._mistakes.add(confidence, prediction)

    def mistakes(self) -> list[Prediction]:
        """Return the wrong predictions with the highest confidence, highest first."""
        return self._mistakes.predictions()

    def least_certain(self) -> list[Prediction]:
        """Return the predictions with the lowest confidence, lowest first."""
        return self._least_certain.predictions()

    def examples(self, label: str) -> list[Prediction]:
        """Return a uniform sample of the images that got the label ``label``, most probable first."""
        return sorted(self._samples[label], key=lambda prediction: -prediction.probability)

    def _sample(self, prediction: Prediction) -> None:
        """Sample by Vitter's algorithm R (1985): image n replaces a random sampled image with probability size / n."""
        label = prediction.label
        self._predicted[label] += 1
        sample = self._samples[label]
        if len(sample) < self._sample_size:
            sample.append(_shorten(prediction))
        elif (place := int(self._random.random() * self._predicted[label])) < self._sample_size:
            sample[place] = _shorten(prediction)


class _Greatest:
    """Keeps the ``count`` predictions with the greatest keys; if keys are equal, the earlier predictions."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._added = 0
        self._heap: list[tuple[float, int, Prediction]] = []

    def add(self, key: float, prediction: Prediction) -> None:
        self._added += 1
        if len(self._heap) < self._count:
            heappush(self._heap, (key, -self._added, _shorten(prediction)))
        elif key > self._heap[0][0]:
            heapreplace(self._heap, (key, -self._added, _shorten(prediction)))

    def predictions(self) -> list[Prediction]:
        return [prediction for _, _, prediction in sorted(self._heap, reverse=True)]


def _shorten(prediction: Prediction) -> Prediction:
    """Return ``prediction`` with only its two most probable labels, because a model can have thousands of labels."""
    return Prediction(prediction.path, tuple(prediction.ranking[:2]), unknown_label=prediction.unknown_label)
