"""Measures of an evaluation per class: precision, recall, F1 score, and the confusion matrix."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import torch
from torch import Tensor

_MATRIX_CLASSES = 20
"""Largest number of classes whose confusion matrix is printed: more columns do not fit on a line."""
_NAME_WIDTH = 24


@dataclass(frozen=True)
class ClassMetrics:
    """How well one class is predicted; a ratio without any image is 0."""

    name: str
    precision: float
    """The fraction of the images predicted as this class that belong to it."""
    recall: float
    """The fraction of the images of this class that are predicted as it."""
    f1: float
    """The harmonic mean of precision and recall."""
    support: int
    """The number of images of this class."""


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Return the number of images per label (row) and prediction (column), [classes, classes] int64.

    Args:
        labels: [N] int64.
        predictions: [N] int64.
        classes: The number of classes.
    """
    return torch.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def class_metrics(confusion: Tensor, names: Sequence[str]) -> list[ClassMetrics]:
    """Return the measures of each class, in the order of ``names``."""
    hits, predicted, support = confusion.diagonal().tolist(), confusion.sum(0).tolist(), confusion.sum(1).tolist()
    return [
        ClassMetrics(name, _ratio(h, p), _ratio(h, s), _ratio(2 * h, p + s), s)
        for name, h, p, s in zip(names, hits, predicted, support, strict=True)
    ]


def macro_average(metrics: Sequence[ClassMetrics]) -> ClassMetrics:
    """Return the unweighted means over the classes, and the number of all images."""
    return ClassMetrics(
        "macro average",
        precision=fmean(each.precision for each in metrics),
        recall=fmean(each.recall for each in metrics),
        f1=fmean(each.f1 for each in metrics),
        support=sum(each.support for each in metrics),
    )


def as_text(confusion: Tensor, names: Sequence[str]) -> str:
    """Return a table of the classes and, for up to 20 classes, the confusion matrix: rows are the true classes."""
    metrics = class_metrics(confusion, names)
    width = min(_NAME_WIDTH, max(map(len, [*names, "macro average"])))
    lines = [f"{'class':<{width}}  precision  recall      F1  images"]
    lines += [
        f"{each.name[:width]:<{width}}  {each.precision:9.3f}  {each.recall:6.3f}  {each.f1:6.3f}  {each.support:6,}"
        for each in [*metrics, macro_average(metrics)]
    ]
    if len(names) <= _MATRIX_CLASSES:
        cell = max(5, len(f"{int(confusion.max())}"))
        lines += ["", f"{'true class, predicted as':<{width}}  {' '.join(f'{name[:cell]:>{cell}}' for name in names)}"]
        lines += [
            f"{name[:width]:<{width}}  {' '.join(f'{count:>{cell}}' for count in row)}"
            for name, row in zip(names, confusion.tolist(), strict=True)
        ]
    return "\n".join(lines)


def as_json(confusion: Tensor, names: Sequence[str], **facts: object) -> str:
    """Return a JSON object: ``facts``, accuracy, classes, their macro average, and the confusion matrix."""
    metrics = class_metrics(confusion, names)
    return json.dumps(
        {
            **facts,
            "accuracy": _ratio(int(confusion.diagonal().sum()), int(confusion.sum())),
            "classes": [asdict(each) for each in metrics],
            "macro_average": asdict(macro_average(metrics)),
            "confusion_matrix": confusion.tolist(),
        },
        indent=1,
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
