"""Predictions as one HTML page: counts, confidence, accuracy where folders are named after classes, and pictures.

The page is one file without scripts and asks for nothing from the network; ``report.html`` is its frame.
"""

import base64
import io
import math
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappush, heapreplace
from html import escape
from importlib import resources
from string import Template

from PIL import Image

from cifar10_runtime.errors import ImageError
from cifar10_runtime.images import decode as images
from cifar10_runtime.options import ClassifierOptions
from cifar10_runtime.prediction import Prediction
from cifar10_runtime.text import printable

BINS = 20  # bars of the histogram of confidence
GALLERY = 48  # pictures of mistakes, and of doubts
FAILURES = 100  # failures that are listed; the others are counted
CLASSES = 50  # classes that are shown; of more, the most frequent
TEXT = 160  # characters of a name or an error; a longer one loses its middle
THUMBNAIL = 64  # pixels of a picture in each direction at most; a smaller image keeps its own size

_Heap = list[tuple[float, int, Prediction]]


class Report:
    """What a page tells of any number of predictions, in constant memory; the same predictions make the same page.

    The pictures of a class are a uniform sample of what was predicted as it: reservoir sampling, from a fixed seed.

    Args:
        labels: the classes of the model, in its order.
        background: as in ``images.decode``, and so is ``max_pixels``.
    """

    def __init__(
        self,
        labels: Sequence[str],
        background: str = ClassifierOptions.background,
        max_pixels: int = ClassifierOptions.max_pixels,
    ) -> None:
        self._background, self._max_pixels = background, max_pixels
        self._labels = dict.fromkeys(labels)
        self._sample_size = min(24, max(4, 480 // max(1, len(self._labels))))
        self._random = random.Random(0)
        self._confidence = 0.0
        self._bins, self._wrong_bins = [0] * BINS, [0] * BINS
        self._predicted: Counter[str] = Counter()
        self._confusion: Counter[tuple[str, str]] = Counter()  # (folder, prediction), and its sums
        self._in_folder: Counter[str] = Counter()
        self._in_folders_predicted: Counter[str] = Counter()
        self._samples: defaultdict[str, list[Prediction]] = defaultdict(list)
        self._mistakes: _Heap = []
        self._doubts: _Heap = []
        self._read = self._failed = 0
        self._failures: list[Prediction] = []

    def add(self, prediction: Prediction) -> None:
        """Take a prediction into account; cheap enough for millions."""
        if not prediction.ranking:
            self._failed += 1
            if len(self._failures) < FAILURES:
                self._failures.append(prediction)
            return
        label, probability = prediction.ranking[0]
        confidence = min(1.0, max(0.0, probability))  # in this order, NaN becomes 0
        column = min(int(confidence * BINS), BINS - 1)
        self._read += 1
        self._confidence += confidence
        self._bins[column] += 1
        self._predicted[label] += 1
        self._sample(label, prediction)
        _keep_greatest(self._doubts, -confidence, self._read, prediction)
        truth = prediction.folder
        if truth in self._labels:
            self._confusion[truth, label] += 1
            self._in_folder[truth] += 1
            self._in_folders_predicted[label] += 1
            if truth != label:
                self._wrong_bins[column] += 1
                _keep_greatest(self._mistakes, confidence, self._read, prediction)

    def _sample(self, label: str, prediction: Prediction) -> None:
        sample = self._samples[label]
        if len(sample) < self._sample_size:
            sample.append(_shortened(prediction))
        elif (place := int(self._random.random() * self._predicted[label])) < self._sample_size:
            sample[place] = _shortened(prediction)

    def html(self, title: str, summary: Mapping[str, str]) -> str:
        """The page, a complete document.

        Args:
            title: what was classified: the folder, say.
            summary: facts that are shown as given: model, device, images/s, date.
        """
        sections = {
            "Classes": self._class_table(),
            "Confidence": self._histogram(),
            "Confusion matrix": self._confusion_matrix(),
            "Worst mistakes": self._gallery(self._mistakes, "Wrong with the highest confidence."),
            "Least certain": self._gallery(self._doubts, "The lowest confidence, with the second choice."),
            "Examples": self._examples(),
            "Not read": self._failure_table(),
        }
        named = [(heading.lower().replace(" ", "-"), heading, body) for heading, body in sections.items() if body]
        return Template(resources.files("cifar10_runtime").joinpath("report.html").read_text("utf-8")).substitute(
            title=_text(title),
            facts=_definitions(self._facts()),
            summary=_definitions({_text(name): _text(value) for name, value in summary.items()}),
            links="".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in named),
            sections="".join(
                f'<section><h2 id="{name}">{heading}</h2>{body}</section>\n' for name, heading, body in named
            ),
        )

    def _facts(self) -> dict[str, str]:
        facts = {"Classified": _count(self._read, "image")}
        if known := self._confusion.total():
            correct = sum(self._confusion[label, label] for label in self._labels)
            note = f"<small>{correct:,} of {_count(known, 'image')} in folders named after classes</small>"
            facts["Accuracy"] = f"{correct / known:.2%} {note}"
        if self._read:
            facts["Mean confidence"] = f"{self._confidence / self._read:.2%}"
        if self._failed:
            facts["Not read"] = _count(self._failed, "file")
        return facts

    def _shown(self) -> list[str]:
        frequent = sorted(self._labels, key=lambda label: -self._predicted[label])[:CLASSES]
        return [label for label in self._labels if label in frequent]

    def _class_table(self) -> str:
        if not self._predicted:
            return ""
        most, rows = max(self._predicted.values()), []
        for number, label in enumerate(shown := self._shown()):
            count, hits, actual = self._predicted[label], self._confusion[label, label], self._in_folder[label]
            name = f'<a href="#class-{number}">{_text(label)}</a>' if count else _text(label)
            cells = f"<td>{count:,}{_bar(count, most)}</td>"
            if self._confusion:
                cells += f"<td>{actual:,}</td>"
                for whole in (actual, self._in_folders_predicted[label]):  # recall, precision
                    cells += f"<td>{_percent(hits, whole)}{_bar(hits, whole)}</td>"
            rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
        columns = ("Class", "Predicted", *(("In folders", "Recall", "Precision") if self._confusion else ()))
        more = len(self._labels) > len(shown)
        note = f"<p>The {len(shown)} most frequent of {len(self._labels):,} classes.</p>" if more else ""
        return note + _table(columns, rows, "classes")

    def _histogram(self) -> str:
        if not self._predicted:
            return ""
        columns = []
        for number, (count, wrong) in enumerate(zip(self._bins, self._wrong_bins, strict=True)):
            text = f"{number / BINS:.0%} to {(number + 1) / BINS:.0%}: {_count(count, 'image')}"
            text += f", {wrong:,} wrong" if self._confusion else ""
            style = f"--share:{count / max(self._bins):.4f};--errors:{wrong / max(1, count):.4f}"
            columns.append(f'<li title="{text}" style="{style}"><span class="hidden">{text}</span></li>')
        legend = ', the <span class="wrong">wrong</span> ones at the bottom' if self._confusion else ""
        axis = "".join(f"<span>{tick}%</span>" for tick in (0, 25, 50, 75, 100))
        return (
            f"<p>Images by the probability of the predicted class{legend}.</p>"
            f'<ol class="histogram">{"".join(columns)}</ol><div class="axis" aria-hidden="true">{axis}</div>'
        )

    def _confusion_matrix(self) -> str:
        if not self._confusion:
            return ""
        shown, rows = self._shown(), []
        for truth in shown:
            cells = []
            for label in shown:
                count, whole = self._confusion[truth, label], self._in_folder[truth]
                kind = "hit" if truth == label else "miss" if count else "zero"
                text = f"{_text(truth)} taken for {_text(label)}: {count:,} of {whole:,} ({_percent(count, whole)})"
                style = f"--share:{math.sqrt(count / max(1, whole)):.3f}"  # the root: rare confusions stay visible
                cells.append(f'<td class="{kind}" style="{style}" title="{text}">{count:,}</td>')
            rows.append(f'<tr><th scope="row">{_text(truth)}</th>{"".join(cells)}</tr>')
        note = "<p>Rows: the folder. Columns: the prediction. Colour: the share of the row.</p>"
        return note + _table(("", *map(_text, shown)), rows, "matrix")

    def _gallery(self, heap: _Heap, note: str) -> str:
        tiles = "".join(self._tile(prediction) for _, _, prediction in sorted(heap, reverse=True))
        return f'<p>{note}</p><ul class="gallery">{tiles}</ul>' if tiles else ""

    def _examples(self) -> str:
        parts = []
        for number, label in enumerate(self._shown()):
            if sample := sorted(self._samples[label], key=lambda prediction: -prediction.probability):
                count = f"<small>{_count(self._predicted[label], 'image')}</small>"
                parts.append(f'<h3 id="class-{number}">{_text(label)} {count}</h3><ul class="gallery small">')
                parts += [*map(self._tile, sample), "</ul>"]
        return f"<p>A random sample of each predicted class.</p>{''.join(parts)}" if parts else ""

    def _tile(self, prediction: Prediction) -> str:
        truth = prediction.folder
        wrong = truth in self._labels and truth != prediction.label
        choices = "".join(
            f'<span class="choice"><b>{_text(label)}</b> {probability:.1%}{_bar(probability, 1)}</span>'
            for label, probability in prediction.ranking
        )
        note = f'<span class="wrong">true: {_text(truth)}</span>' if wrong else ""
        name = f'<span class="name">{_text(os.path.basename(prediction.path))}</span>'
        figure = f"<figure>{self._picture(prediction.path)}<figcaption>{choices}{note}{name}</figcaption></figure>"
        return f'<li{" class=mistake" if wrong else ""} title="{_text(prediction.path)}">{figure}</li>\n'

    def _picture(self, path: str) -> str:
        """The middle square of an image; an empty frame where it can no longer be read."""
        name = _text(os.path.basename(path))
        try:
            data = base64.b64encode(self._thumbnail(path)).decode("ascii")
        except (ImageError, OSError, Image.DecompressionBombError):
            return f'<span class="frame" role="img" aria-label="{name}, no longer readable"></span>'
        return f'<img src="data:image/webp;base64,{data}" alt="{name}" width="{THUMBNAIL}" height="{THUMBNAIL}">'

    def _thumbnail(self, path: str) -> bytes:
        """A WebP file; images as small as CIFAR-10's keep every pixel."""
        pixels = images.decode(path, THUMBNAIL, self._background, self._max_pixels)
        with Image.open(path, formats=images.FORMATS) as image:
            side = min(THUMBNAIL, *image.size)
        if side < THUMBNAIL:
            pixels = images.decode(path, side, self._background, self._max_pixels)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "WEBP", quality=80, lossless=side <= THUMBNAIL // 2)
        return file.getvalue()

    def _failure_table(self) -> str:
        row = '<tr><th scope="row">{}</th><td>{}</td></tr>'
        rows = [row.format(_text(failure.path), _text(failure.error)) for failure in self._failures]
        listed = "" if self._failed == len(rows) else f"; the first {len(rows)} are"
        note = f"<p>{_count(self._failed, 'file')} could not be read{listed}:</p>"
        return note + _table(("File", "Why"), rows, "failures") if rows else ""


def _keep_greatest(heap: _Heap, key: float, order: int, prediction: Prediction) -> None:
    """Of the ``GALLERY`` greatest keys; of equal keys, the earlier."""
    if len(heap) < GALLERY:
        heappush(heap, (key, -order, _shortened(prediction)))
    elif key > heap[0][0]:
        heapreplace(heap, (key, -order, _shortened(prediction)))


def _shortened(prediction: Prediction) -> Prediction:
    """The prediction with the two best labels: there may be thousands."""
    return Prediction(prediction.path, tuple(prediction.ranking[:2]))


def _text(text: str) -> str:
    """Any text as HTML: not too long, and what cannot be printed or encoded as backslash escapes."""
    if len(text) > TEXT:
        text = f"{text[: TEXT // 2]}…{text[-TEXT // 2 :]}"
    return escape(printable(text))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "—"


def _bar(part: float, whole: float) -> str:
    return f'<span class="bar" style="--share:{part / whole if whole else 0:.3f}"></span>'


def _definitions(values: Mapping[str, str]) -> str:
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in values.items())


def _table(columns: Iterable[str], rows: Iterable[str], kind: str) -> str:
    """A table that can be scrolled sideways, by keyboard as well; the first cell of the head may be empty."""
    head = "".join(f'<th scope="col"><span>{column}</span></th>' if column else "<td></td>" for column in columns)
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{"".join(rows)}</tbody></table>'
    return f'<div class="scroll" tabindex="0" role="group" aria-label="Table of {kind}">{table}</div>'
