"""Measure the shipped models on the CIFAR-10 test images and write what came of it into MODEL_CARD.md.

    python benchmarks/model_card.py

Writes the part between the two marks, and a picture of each confusion matrix to benchmarks/results/.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cifar10_runtime import Classifier, atomic
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.data.cifar10 import load
from cifar10_zoo.errors import DatasetError

ROOT = Path(__file__).parent.parent
CARD = ROOT / "MODEL_CARD.md"
RESULTS = ROOT / "benchmarks" / "results"
MODELS = ("fp32", "int8", "tutorial")
JPEG_QUALITIES = (95, 75, 50, 25, 10)
MEASURED = re.compile(r"(<!-- measured by benchmarks/model_card.py -->\n).*(<!-- end -->)", re.DOTALL)

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Measure the shipped models on the CIFAR-10 test images and write it into MODEL_CARD.md."""


def main(options: Options) -> None:
    """Measure every model; write the tables and the pictures."""
    data = load(options.data_dir, "test", options.data_url)
    if data.name != "cifar10":
        raise DatasetError(f"--data-dir {options.data_dir} holds {data.name} data: the models are of CIFAR-10")
    images = np.ascontiguousarray(data.images.permute(0, 2, 3, 1).numpy())
    labels = data.labels.numpy()
    classifiers = {name: Classifier(name, device="cpu") for name in MODELS}
    confusions = {name: confusion(labels, predict(model, images)) for name, model in classifiers.items()}
    for name, matrix in confusions.items():
        atomic.write_file(RESULTS / f"confusion-{name}.png", picture(matrix, data.classes, name))
    compressed = {quality: recompress(images, quality) for quality in JPEG_QUALITIES}
    tables = [per_class(confusions, data.classes), pictures(), jpeg(classifiers, images, compressed, labels)]
    text = CARD.read_text(encoding="utf-8")
    measured = "\n\n".join(tables)
    text, found = MEASURED.subn(lambda match: f"{match[1]}\n{measured}\n\n{match[2]}", text)
    assert found == 1, f"{CARD} has lost its marks"
    atomic.write_file(CARD, text.encode())


def predict(classifier: Classifier, images: Images) -> Labels:
    """The most probable class of each image [N, 32, 32, 3]."""
    batches = np.array_split(images, max(1, len(images) // 500))
    return np.concatenate([classifier.probabilities(batch).argmax(axis=1) for batch in batches])


def confusion(labels: Labels, predicted: Labels) -> Labels:
    """How many images of each class (row) were taken for each class (column)."""
    matrix = np.zeros((10, 10), dtype=np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def recompress(images: Images, quality: int) -> Images:
    """Each image written as a JPEG file of that quality, and read again."""
    return np.stack([np.asarray(Image.open(io.BytesIO(_jpeg(image, quality)))) for image in images])


def _jpeg(image: Images, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def per_class(confusions: dict[str, Labels], classes: tuple[str, ...]) -> str:
    """Recall and precision of each class as a table."""
    rows = [
        [name, *(f"{value:.3f}" for m in confusions.values() for value in _scores(m, i))]
        for i, name in enumerate(classes)
    ]
    total = ["all", *(text for m in confusions.values() for text in (f"**{m.trace() / m.sum():.4f}**", ""))]
    heads = ["class", *(f"{name}: {what}" for name in confusions for what in ("recall", "precision"))]
    return table(heads, [*rows, total])


def _scores(matrix: Labels, index: int) -> tuple[float, float]:
    right = matrix[index, index]
    return float(right / matrix[index].sum()), float(right / matrix[:, index].sum())


def jpeg(classifiers: dict[str, Classifier], images: Images, compressed: dict[int, Images], labels: Labels) -> str:
    """Accuracy on compressed copies as a table."""
    copies = {"as they are": images} | {f"JPEG, quality {quality}": copy for quality, copy in compressed.items()}
    rows = [
        [name, *(f"{float((predict(model, copy) == labels).mean()):.4f}" for model in classifiers.values())]
        for name, copy in copies.items()
    ]
    return table(["test images", *classifiers], rows)


def pictures() -> str:
    """The confusion matrices, side by side."""
    return "\n".join(f"![confusion matrix of {name}](benchmarks/results/confusion-{name}.png)" for name in MODELS)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def picture(matrix: Labels, classes: tuple[str, ...], name: str) -> bytes:
    """The confusion matrix as a PNG file; colours tell the mistakes, the diagonal is left blank."""
    figure = Figure(figsize=(6.5, 6), layout="constrained")
    axes = figure.subplots()
    mistakes = np.where(np.eye(10, dtype=bool), 0, matrix)
    axes.imshow(mistakes, cmap="Reds")
    for (row, column), count in np.ndenumerate(matrix):
        shade = "white" if mistakes[row, column] > mistakes.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=shade)
    axes.set_xticks(range(10), classes, rotation=45, ha="right")
    axes.set_yticks(range(10), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{name}: {matrix.trace()} of {matrix.sum()} test images right")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90)
    return file.getvalue()


if __name__ == "__main__":
    run(main, Options)
