"""The report page of an evaluation: the page that cifar10-infer writes, about the predictions of a checkpoint."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results.page import Report
from cifar10_runtime.results.thumbnails import thumbnail_of
from torch import Tensor

from cifar10_zoo.data.dataset import Dataset

_RANKED = 2
"""Classes per image: the page shows the first and the second choice."""


def report_page(data: Dataset, probabilities: Tensor, title: str, summary: Mapping[str, str]) -> str:
    """Return the page as a complete HTML document; the images have the names of ``Dataset.file_name``.

    Args:
        data: The images with their true classes, whose names are names of directories.
        probabilities: [N, classes] float32 on the CPU.
        title: The heading of the page.
        summary: Facts to show, by name.
    """
    report = _EvaluationReport(data)
    values, order = probabilities.sort(dim=1, descending=True, stable=True)  # of equal ones, argmax takes the first too
    ranked = zip(order[:, :_RANKED].tolist(), values[:, :_RANKED].tolist(), strict=True)
    for number, (labels, confidences) in enumerate(ranked):
        names = [data.classes[label] for label in labels]
        report.add(Prediction(data.file_name(number), tuple(zip(names, confidences, strict=True))))
    return report.html(title, summary)


class _EvaluationReport(Report):
    """A report whose pictures are the images of a data set in memory."""

    def __init__(self, data: Dataset) -> None:
        super().__init__(data.classes)
        self._images = data.images

    def thumbnail(self, path: str) -> bytes:
        """Return the picture of the image with this ``Dataset.file_name``."""
        image = self._images[int(PurePosixPath(path).stem)]
        return thumbnail_of(image.permute(1, 2, 0).numpy())
