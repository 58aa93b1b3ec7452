"""Measure what fp32 says about pictures of other things than its ten classes, and write it into docs/.

    pip install scikit-image scikit-learn
    python benchmarks/other_pictures.py

The pictures are faces, digits and photographs from these two packages, and drawings. The table in docs/confidence.md
has the share of each kind that passes each threshold. The table in docs/trials.md compares the probability with other
scores, which should be high for CIFAR-10's test images and low for other pictures.
"""

import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar10_runtime import Classifier
from cifar10_runtime.engine.models import find_model
from cifar10_runtime.results.calibration import THRESHOLDS
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.pages import replace_part, table
from cifar10_zoo.cli import DataOptions, run
from cifar10_zoo.data import cifar10
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.network.exported import read_exported

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- measured by benchmarks/other_pictures.py -->", "<!-- end -->"
SIZE = 32
COUNT = 100
"""Pictures per kind, except photographs."""
TRAINING_IMAGES = 10_000
"""Training images for the means and the covariance of local4."""
NEIGHBORS = 1_000
"""Training images to look for the nearest one."""
PHOTOGRAPHS = "photographs and tiles of them"
SCENES = (
    "astronaut brick camera cell coffee coins grass gravel hubble_deep_field immunohistochemistry moon page retina text"
)
"""Photographs of scikit-image that show none of the ten classes."""

Pictures = NDArray[np.uint8]
"""[N, 32, 32, 3]"""


def main(options: DataOptions) -> None:
    """Write both tables."""
    test, train = (cifar10.load(options.data_dir, part, options.data_url) for part in ("test", "train"))
    pictures = {"CIFAR-10's test images": np.ascontiguousarray(test.images.permute(0, 2, 3, 1).numpy())}
    others = other_pictures()
    replace_part(DOCS / "confidence.md", BEGIN, END, threshold_table(pictures | others))
    scores = Scores(train)
    groups = {
        "faces, photographs": [others.pop(name) for name in ("faces", PHOTOGRAPHS)],
        "digits, drawings, noise": [*others.values()],
    }
    of_groups = {
        name: scores(torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2)) for name, parts in groups.items()
    }
    replace_part(DOCS / "trials.md", BEGIN, END, score_table(scores(test.images), of_groups))


def other_pictures() -> dict[str, Pictures]:
    """Return pictures by kind; the same on every machine with the same versions of the packages."""
    rng = np.random.default_rng(0)
    return {
        "faces": faces(),
        "digits": digits(),
        PHOTOGRAPHS: photographs(),
        "letters": np.stack([letter(rng) for _ in range(COUNT)]),
        "circles, rectangles and triangles": np.stack([shape(rng) for _ in range(COUNT)]),
        "color gradients and stripes": np.stack([gradient(rng, number % 2 == 1) for number in range(COUNT)]),
        "noise": np.stack([noise(rng, 1 << number % 5) for number in range(COUNT)]),
    }


def faces() -> Pictures:
    """Return 100 gray faces of Labeled Faces in the Wild, which scikit-image contains."""
    import skimage.data

    return np.stack([_picture((255 * face).astype(np.uint8)) for face in skimage.data.lfw_subset()[:COUNT]])


def digits() -> Pictures:
    """Return 100 handwritten digits of 8x8 pixels and 17 gray values."""
    import sklearn.datasets

    return np.stack(
        [_picture((255 / 16 * image).astype(np.uint8)) for image in sklearn.datasets.load_digits().images[:COUNT]]
    )


def photographs() -> Pictures:
    """Return the middle square of each photograph, and its nine tiles."""
    import skimage.data
    import sklearn.datasets

    images: list[Any] = [getattr(skimage.data, name)() for name in SCENES.split()]
    images += sklearn.datasets.load_sample_images().images
    pictures = []
    for image in images:
        side = min(image.shape[:2]) // 3 * 3
        top, left = ((length - side) // 2 for length in image.shape[:2])
        square = image[top : top + side, left : left + side]
        tile = side // 3
        tiles = [square[y : y + tile, x : x + tile] for y in range(0, side, tile) for x in range(0, side, tile)]
        pictures += [_picture(part) for part in (square, *tiles)]
    return np.stack(pictures)


def letter(rng: np.random.Generator) -> Pictures:
    """Draw a letter in one color on another."""
    picture = Image.new("RGB", (SIZE, SIZE), _color(rng))
    place = (int(rng.integers(4, 12)), int(rng.integers(-2, 6)))
    font = ImageFont.load_default(int(rng.integers(16, 28)))
    ImageDraw.Draw(picture).text(place, rng.choice(list(string.ascii_letters)), _color(rng), font)
    return np.asarray(picture)


def shape(rng: np.random.Generator) -> Pictures:
    """Draw a circle, a rectangle or a triangle in one color on another."""
    picture = Image.new("RGB", (SIZE, SIZE), _color(rng))
    draw, kind, color = ImageDraw.Draw(picture), rng.integers(3), _color(rng)
    left, top = (int(value) for value in rng.integers(2, 12, 2))
    right, bottom = (int(value) for value in rng.integers(20, 30, 2))
    if kind == 0:
        draw.ellipse((left, top, right, bottom), color)
    elif kind == 1:
        draw.rectangle((left, top, right, bottom), color)
    else:
        draw.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], color)
    return np.asarray(picture)


def gradient(rng: np.random.Generator, has_stripes: bool) -> Pictures:
    """Return a gradient between two colors in a random direction, or stripes of the two."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    share = np.clip(x * np.cos(angle) + y * np.sin(angle) + 0.5, 0, 1)[..., None]
    if has_stripes:
        share = np.floor(share * rng.integers(3, 12)) % 2
    colors = np.array([_color(rng), _color(rng)])
    mixed: Pictures = (share * colors[0] + (1 - share) * colors[1]).astype(np.uint8)
    return mixed


def noise(rng: np.random.Generator, scale: int) -> Pictures:
    """Return random colors in squares of ``scale`` pixels, blurred if they are larger than a pixel."""
    values = rng.integers(0, 256, (SIZE // scale, SIZE // scale, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(values).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _color(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, 256, 3).tolist())


def _picture(image: Pictures) -> Pictures:
    """Return ``image`` [H, W] gray or [H, W, 3] in RGB, resized to 32x32."""
    resized = Image.fromarray(image).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def threshold_table(pictures: dict[str, Pictures]) -> str:
    """Return the share of each kind whose highest probability reaches each threshold as a table."""
    with Classifier("fp32", device="cpu") as classifier:
        highest = {name: classifier.probabilities(images).max(axis=1) for name, images in pictures.items()}
    others = np.concatenate([values for name, values in highest.items() if name != next(iter(pictures))])
    rows = {f"{name} ({len(values):,})": values for name, values in highest.items()}
    rows[f"**all other pictures ({len(others)})**"] = others
    return table(
        ["pictures", *map(str, THRESHOLDS)],
        [[name, *(f"{(values >= limit).mean():.1%}" for limit in THRESHOLDS)] for name, values in rows.items()],
    )


class Scores:
    """Scores of images, high for images of the classes.

    Distances and angles are those of the 192 activations of local4: to the mean of each class, with one covariance for
    all classes (Mahalanobis distance, Lee et al. 2018, https://arxiv.org/abs/1807.03888), and to training images
    (nearest neighbor, Sun et al. 2022, https://arxiv.org/abs/2204.06507).
    """

    def __init__(self, train: Dataset) -> None:
        path, _ = find_model("fp32", "direct")
        self._network, _ = read_exported(path)
        with Classifier(path, "cpu") as model:
            self._temperature = float(model.metadata["temperature"])
        labels = train.labels[:TRAINING_IMAGES]
        features, _ = self._compute(train.images[:TRAINING_IMAGES])
        self._means = torch.stack([features[labels == number].mean(0) for number in range(len(train.classes))])
        centered = features - self._means[labels]
        covariance = centered.T @ centered / len(features) + 1e-6 * torch.eye(features.shape[1])
        self._precision = torch.linalg.inv(covariance)
        directions = normalize(features)
        self._mean_directions = normalize(
            torch.stack([directions[labels == number].mean(0) for number in range(len(train.classes))])
        )
        self._directions = directions[:NEIGHBORS]

    @torch.inference_mode()
    def _compute(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return local4 [N, 192] and the logits [N, 10] of images [N, 3, 32, 32] uint8."""
        features, logits = [], []
        for batch in images.split(500):
            outputs = self._network.activations(evaluation_images(batch))
            features.append(outputs["local4"])
            logits.append(outputs["softmax_linear"])
        return torch.cat(features).double(), torch.cat(logits).double()

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return each score [N] by its name."""
        features, logits = self._compute(images)
        offsets = features[:, None] - self._means  # [N, 10, 192]
        squared_mahalanobis = torch.einsum("ncf,fg,ncg->nc", offsets, self._precision, offsets)
        directions = normalize(features)
        return {
            "highest probability": (logits / self._temperature).softmax(1).amax(1),
            "highest probability without temperature": logits.softmax(1).amax(1),
            "highest logit": logits.amax(1),
            "energy: log of the sum of exp(logits)": logits.logsumexp(1),
            "local4: distance to the nearest class mean": -offsets.square().sum(2).amin(1),
            "local4: Mahalanobis distance to the nearest class mean": -squared_mahalanobis.amin(1),
            "local4: angle to the nearest class mean": (directions @ self._mean_directions.T).amax(1),
            f"local4: angle to the nearest of {NEIGHBORS:,} training images": (directions @ self._directions.T).amax(1),
        }


def score_table(test: dict[str, Tensor], groups: dict[str, dict[str, Tensor]]) -> str:
    """Return how well each score separates test images from each group of other pictures as a table."""
    rows = []
    for name, values in test.items():
        parts = [group[name] for group in groups.values()]
        others = torch.cat(parts)
        separations = [f"{auroc(values, part):.3f}" for part in (others, *parts)]
        rows.append([name, *separations, f"{passing(values, others):.1%}"])
    heads = ["AUROC: all other pictures", *(f"AUROC: {name}" for name in groups), "other pictures that pass"]
    return table(["score", *heads], rows)


def auroc(test: Tensor, others: Tensor) -> float:
    """Return the probability that a test image has a higher score than another picture; ties count half."""
    difference = test[:, None] - others
    return float((difference > 0).double().mean() + (difference == 0).double().mean() / 2)


def passing(test: Tensor, others: Tensor) -> float:
    """Return the share of other pictures whose score reaches that of 95 % of the test images."""
    return float((others >= test.quantile(0.05)).double().mean())


if __name__ == "__main__":
    run(main, DataOptions)
