"""The report page: predictions as one HTML file.

The page has no scripts and loads no other files. ``page.html`` is its Jinja template.
"""

import base64
import math
import os
from collections.abc import Mapping, Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cifar10_runtime.errors import ImageError
from cifar10_runtime.options import ClassifierOptions
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.results import calibration
from cifar10_runtime.results.gallery import Gallery
from cifar10_runtime.results.statistics import BINS, Statistics
from cifar10_runtime.results.thumbnails import THUMBNAIL, thumbnail
from cifar10_runtime.text import printable

_CLASSES = 50
"""Largest number of classes to show: the most frequently predicted classes."""
_LONGEST_TEXT = 160
"""Largest number of characters of a name or an error; a longer text loses its middle."""


class Report:
    """Collects any number of predictions in constant memory; the same predictions always give the same page.

    Args:
        labels: The classes of the model, in its order.
        background: Color behind transparent pixels, as in ``images.decode.decode``.
        max_pixels: Largest width times height to decode, as in ``images.decode.decode``.
        unknown_label: The label of unknown images; empty if each image gets a class.
    """

    def __init__(
        self,
        labels: Sequence[str],
        background: str = ClassifierOptions.background,
        max_pixels: int = ClassifierOptions.max_pixels,
        unknown_label: str = "",
    ) -> None:
        self._background, self._max_pixels = background, max_pixels
        self._statistics, self._gallery = Statistics(labels, unknown_label), Gallery(labels)

    def add(self, prediction: Prediction) -> None:
        """Add a prediction; this takes a few microseconds."""
        self._statistics.add(prediction)
        self._gallery.add(prediction, self._statistics.is_mistake(prediction))

    def html(self, title: str, summary: Mapping[str, str]) -> str:
        """Return the page as a complete HTML document.

        Args:
            title: The heading, for example the name of the classified folder.
            summary: Facts to show, such as model, device, images/s and date.
        """
        shown = self._statistics.most_frequent(_CLASSES)
        unknown_label = self._statistics.unknown_label
        return (
            _environment()
            .get_template("page.html")
            .render(
                title=title,
                summary=summary,
                statistics=self._statistics,
                gallery=self._gallery,
                shown=shown,
                answers=[*shown, unknown_label] if self._statistics.predicted[unknown_label] else shown,
                picture=self._picture,
            )
        )

    def _picture(self, path: str) -> Markup | None:
        """Return the thumbnail of an image in Base64; None if the image can no longer be read."""
        try:
            content = self.thumbnail(path)
        except ImageError:
            return None
        return Markup(base64.b64encode(content).decode("ascii"))  # Base64 has no character to escape

    def thumbnail(self, path: str) -> bytes:
        """Return the picture of an image as a WebP file. A subclass may have images that are not in files.

        Raises:
            ImageError: The file cannot be read or decoded.
        """
        return thumbnail(path, self._background, self._max_pixels)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cifar10_runtime", "results"),
        autoescape=True,
        finalize=_presentable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"BINS": BINS, "CALIBRATION_BINS": calibration.BINS, "THUMBNAIL": THUMBNAIL}
    environment.globals |= {"percent": _percent, "share": _share, "root_share": _root_share}
    environment.filters |= {"anchor": _anchor, "count": _count, "file_name": os.path.basename}
    return environment


def _presentable(value: object) -> object:
    """Return a value as the template shows it: a long text shortened, unprintable characters escaped."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    if len(value) > _LONGEST_TEXT:
        value = f"{value[: _LONGEST_TEXT // 2]}…{value[-_LONGEST_TEXT // 2 :]}"
    return printable(value)


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _percent(part: int, whole: int, digits: int = 1) -> str:
    return f"{part / whole:.{digits}%}" if whole else "—"


def _share(part: float, whole: float, digits: int = 3) -> str:
    return f"{part / whole if whole else 0:.{digits}f}"


def _root_share(part: int, whole: int) -> str:
    return f"{math.sqrt(part / max(1, whole)):.3f}"
