"""Measure the shipped models on the CIFAR-10 test images and write the results into MODEL_CARD.md.

    python benchmarks/model_card.py

Writes the part between the two marker lines, and pictures of confusion matrices and of calibration to
benchmarks/results/.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cifar10_runtime import Classifier, atomic
from cifar10_runtime.images.decode import decode
from cifar10_runtime.results.calibration import BINS, THRESHOLDS, Calibration
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from benchmarks.pages import replace_part, table
from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.data import cifar10
from cifar10_zoo.errors import DatasetError

ROOT = Path(__file__).parent.parent
CARD = ROOT / "MODEL_CARD.md"
RESULTS = ROOT / "benchmarks" / "results"
MODELS = ("fp32", "int8", "tutorial")
CALIBRATED = ("fp32", "int8", "fp16", "views10", "tutorial")
"""Models whose calibration is measured."""
JPEG_QUALITIES = (95, 90, 75, 50, 25, 10)
PHOTOGRAPHS = 500
"""Test images, from the first, that become files of ``PHOTOGRAPH_SIZE`` x ``PHOTOGRAPH_SIZE`` pixels."""
PHOTOGRAPH_SIZE = 512
PHOTOGRAPH_QUALITY = 85
BATCH_SIZE = 500
THRESHOLD_CAPTION = (
    "`cifar10-infer --min-probability` keeps this share of the test images, and the images that it keeps have this "
    "accuracy:"
)

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Confusion = NDArray[np.int64]
"""[true class, predicted class]: the number of images."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Measure the shipped models on the CIFAR-10 test images and write the results into MODEL_CARD.md."""

    images: int = 10_000
    """Number of test images to measure on, from the first."""


def main(options: Options) -> None:
    """Measure every model; write the tables and the pictures."""
    images, labels, classes = load(options)
    classifiers = {name: Classifier(name, device="cpu") for name in MODELS}
    confusions = {name: confusion(labels, predict(model, images)) for name, model in classifiers.items()}
    for name, matrix in confusions.items():
        atomic.write_file(RESULTS / f"confusion-{name}.png", picture(matrix, classes, name))
    calibrations = {name: calibration(labels, Classifier(name, device="cpu"), images) for name in CALIBRATED}
    atomic.write_file(RESULTS / "reliability.png", reliability_picture(calibrations))
    parts = [
        class_table(confusions, classes),
        pictures(),
        jpeg_table(classifiers, images, labels),
        "![reliability diagrams](benchmarks/results/reliability.png)",
        THRESHOLD_CAPTION,
        threshold_table(calibrations),
    ]
    replace_part(CARD, "<!-- measured by benchmarks/model_card.py -->", "<!-- end -->", "\n\n".join(parts))


def load(options: Options) -> tuple[Images, Labels, tuple[str, ...]]:
    """Return test images [N, 32, 32, 3], their labels [N] and the class names.

    Raises:
        DatasetError: The data set is not CIFAR-10.
    """
    data = cifar10.load(options.data_dir, "test", options.data_url)
    if data.name != "cifar10":
        raise DatasetError(f"--data-dir {options.data_dir} holds {data.name} data: the models classify CIFAR-10")
    images = np.ascontiguousarray(data.images[: options.images].permute(0, 2, 3, 1).numpy())
    return images, data.labels[: options.images].numpy(), data.classes


def probabilities(classifier: Classifier, images: Images) -> NDArray[np.float32]:
    """Return the class probabilities [N, 10] of images [N, 32, 32, 3]."""
    batches = np.array_split(images, max(1, len(images) // BATCH_SIZE))
    return np.concatenate([classifier.probabilities(batch) for batch in batches])


def predict(classifier: Classifier, images: Images) -> Labels:
    """Return the top-1 class [N] of images [N, 32, 32, 3]."""
    top1: Labels = probabilities(classifier, images).argmax(axis=1)
    return top1


def calibration(labels: Labels, classifier: Classifier, images: Images) -> Calibration:
    """Count the images by the highest probability that the model gives them."""
    result, given = Calibration(), probabilities(classifier, images)
    for confidence, is_correct in zip(given.max(axis=1).tolist(), given.argmax(axis=1) == labels, strict=True):
        result.add(confidence, bool(is_correct))
    return result


def confusion(labels: Labels, predicted: Labels) -> Confusion:
    """Count the images of each true class and predicted class."""
    matrix = np.zeros((10, 10), dtype=np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def recompress(images: Images, quality: int) -> Images:
    """Encode each image as JPEG with a quality, and decode it."""
    return np.stack([np.asarray(Image.open(io.BytesIO(_jpeg(image, quality)))) for image in images])


def from_photographs(images: Images) -> Images:
    """Enlarge each image, encode it as JPEG, and read this file as ``cifar10-infer`` reads it."""
    size = (PHOTOGRAPH_SIZE, PHOTOGRAPH_SIZE)
    enlarged = (np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images)
    return np.stack([decode(_jpeg(image, PHOTOGRAPH_QUALITY), images.shape[1]) for image in enlarged])


def _jpeg(image: Images, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()


def class_table(confusions: dict[str, Confusion], classes: tuple[str, ...]) -> str:
    """Return recall and precision of each class, and top-1 accuracy, as a table."""
    rows = [
        [name, *(f"{value:.3f}" for matrix in confusions.values() for value in recall_and_precision(matrix, index))]
        for index, name in enumerate(classes)
    ]
    total = ["all", *(text for m in confusions.values() for text in (f"**{m.trace() / m.sum():.4f}**", ""))]
    heads = ["class", *(f"{name}: {score}" for name in confusions for score in ("recall", "precision"))]
    return table(heads, [*rows, total])


def recall_and_precision(matrix: Confusion, index: int) -> tuple[float, float]:
    """Return both scores of one class."""
    correct = matrix[index, index]
    return float(correct / matrix[index].sum()), float(correct / matrix[:, index].sum())


def jpeg_table(classifiers: dict[str, Classifier], images: Images, labels: Labels) -> str:
    """Return the top-1 accuracy on the images, on JPEG copies of them and on photographs as a table."""
    some, size = images[:PHOTOGRAPHS], f"{PHOTOGRAPH_SIZE}x{PHOTOGRAPH_SIZE}"
    copies = {"original": images}
    copies |= {f"JPEG, quality {quality}": recompress(images, quality) for quality in JPEG_QUALITIES}
    copies |= {
        f"{len(some)} of them, original": some,
        f"{len(some)} of them, {size}, JPEG, quality {PHOTOGRAPH_QUALITY}": from_photographs(some),
    }
    rows = [
        [
            name,
            *(f"{float((predict(model, copy) == labels[: len(copy)]).mean()):.4f}" for model in classifiers.values()),
        ]
        for name, copy in copies.items()
    ]
    return table(["test images", *classifiers], rows)


def threshold_table(calibrations: dict[str, Calibration]) -> str:
    """Return a table of thresholds: share and accuracy of the images that each keeps; then the calibration error."""
    columns = [
        [
            _kept(model.images, model.correct, model.images),
            *(_kept(kept.images, kept.correct, model.images) for kept in model.kept()),
            f"{model.error:.4f}",
        ]
        for model in calibrations.values()
    ]
    names = ["none", *map(str, THRESHOLDS), "expected calibration error"]
    return table(["`--min-probability`", *calibrations], [list(row) for row in zip(names, *columns, strict=True)])


def _kept(images: int, correct: int, all_images: int) -> str:
    accuracy = f"{correct / images:.4f}" if images else "—"
    return f"{images / all_images:.1%}: {accuracy}"


def reliability_picture(calibrations: dict[str, Calibration]) -> bytes:
    """Return a PNG file with the accuracy of each model by confidence; dots are at the mean confidence of a bin."""
    figure = Figure(figsize=(3 * len(calibrations), 3.2), layout="constrained")
    for axes, (name, model) in zip(
        figure.subplots(1, len(calibrations), sharey=True), calibrations.items(), strict=True
    ):
        for number, place in enumerate(model.bins):
            if place.images:
                axes.bar((number + 0.5) / BINS, place.accuracy, 0.9 / BINS, color="tab:blue", alpha=0.6)
                axes.plot(place.mean_confidence, place.accuracy, ".", color="black")
        axes.plot([0, 1], [0, 1], "--", color="gray")
        axes.set_title(f"{name}: error {model.error:.4f}", fontsize=10)
        axes.set_xlabel("confidence")
    figure.axes[0].set_ylabel("accuracy")
    return _png(figure)


def pictures() -> str:
    """Return the pictures of the confusion matrices in Markdown."""
    return "\n".join(f"![confusion matrix of {name}](benchmarks/results/confusion-{name}.png)" for name in MODELS)


def picture(matrix: Confusion, classes: tuple[str, ...], name: str) -> bytes:
    """Return the confusion matrix as a PNG file; color shows the mistakes, and the diagonal is blank."""
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
    axes.set_title(f"{name}: {matrix.trace()} of {matrix.sum()} test images correct")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90)
    return file.getvalue()


if __name__ == "__main__":
    run(main, Options)
