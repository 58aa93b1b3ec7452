"""The contract between a model and the classifier: inputs, outputs and labels."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime.errors import ModelError, UsageError

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class Contract:
    """Input ``images`` uint8 [N, SIZE, SIZE, 3] and output ``probabilities`` float32 [N, classes] of a model."""

    model: Path
    """The model file, for messages."""
    input_size: int
    """SIZE: height and width in pixels of the images that the model takes."""
    labels: tuple[str, ...]
    """The classes, in the order of the columns of ``probabilities``."""
    features: int = 0
    """The number of columns of the output ``features``, which the session also returns; 0 if it does not."""

    def check_batch(self, batch: NDArray[np.uint8]) -> None:
        """Check that the model takes ``batch``.

        Raises:
            UsageError: The batch has another shape or dtype.
        """
        if batch.dtype != np.uint8 or batch.shape[1:] != (self.input_size, self.input_size, 3):
            wanted = f"uint8 [N, {self.input_size}, {self.input_size}, 3]"
            raise UsageError(f"a batch must be {wanted}, not {batch.dtype} {list(batch.shape)}")

    def split(self, outputs: NDArray[np.float32], images: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probabilities [N, classes] and the features [N, ``features``] in the outputs of a session.

        Raises:
            ModelError: As ``check_probabilities``.
        """
        classes = outputs.shape[-1] - self.features
        probabilities, features = outputs[..., :classes], outputs[..., classes:]
        self.check_probabilities(probabilities, images)
        return probabilities, features

    def check_probabilities(self, probabilities: NDArray[np.float32], images: int) -> None:
        """Check that the model's output has a row per image and a finite number per label.

        Raises:
            ModelError: The output has another shape, or numbers that are not finite.
        """
        if probabilities.shape != (images, len(self.labels)):
            wanted = f"[{images}, {len(self.labels)}] for {images} images and {len(self.labels)} labels"
            raise ModelError(f"{self.model} gives probabilities {list(probabilities.shape)}, not {wanted}")
        if not np.isfinite(probabilities).all():
            raise ModelError(f"{self.model} gives probabilities that are not finite numbers")

    def check_unknown_label(self, label: str) -> None:
        """Check that ``label`` can be the label of images that get no class.

        Raises:
            UsageError: It is not a printable name, or it is the name of a class.
        """
        if not are_labels([label]):
            raise UsageError(f"unknown_label (--unknown-label) must be a printable name, not {label!r}")
        if label in self.labels:
            raise UsageError(
                f"unknown_label (--unknown-label): {label} is a class of {self.model}: choose another name"
            )


@dataclass(frozen=True)
class Signature:
    """What an open model takes and gives."""

    inputs: dict[str, tuple[str, list[Any]]]
    """Dtype and shape of each input, by name, in ONNX Runtime's notation."""
    outputs: dict[str, tuple[str, list[Any]]]
    """Dtype and shape of each output, by name."""
    metadata: dict[str, str]
    """Data set, step, accuracy and so on."""


def signature_of(session: "onnxruntime.InferenceSession") -> Signature:
    """Return the signature of the model of ``session``."""
    return Signature(
        inputs={value.name: (value.type, value.shape) for value in session.get_inputs()},
        outputs={value.name: (value.type, value.shape) for value in session.get_outputs()},
        metadata=dict(session.get_modelmeta().custom_metadata_map),
    )


def read_contract(
    signature: Signature, model: Path, labels: Sequence[str] | None, with_features: bool = False
) -> Contract:
    """Return the contract of an open model.

    Args:
        signature: The signature of the model.
        model: The model file, for messages.
        labels: Names of the classes to use instead of those in the metadata, or None.
        with_features: Whether the session also returns the output ``features``.

    Raises:
        ModelError: The model has other inputs or outputs, or no usable labels in its metadata.
        UsageError: ``labels`` are not names, or their number is not the number of classes.
    """
    size, classes = _size_and_classes(signature, model)
    features = _feature_columns(signature, model) if with_features else 0
    if labels is None:
        return Contract(model, size, _labels_in(signature.metadata, classes, model), features)
    if isinstance(labels, str) or not are_labels(labels):
        raise UsageError(f"labels must be a list of printable names, not {labels!r}")
    if classes not in (None, len(labels)):
        raise UsageError(f"labels (--labels): there are {len(labels)} for the {classes} classes of {model}")
    return Contract(model, size, tuple(labels), features)


def _feature_columns(signature: Signature, model: Path) -> int:
    match signature.outputs.get("features"):
        case ("tensor(float)", [_, int(columns)]):
            return columns
    raise ModelError(f"{model} has no output features float32 [N, columns]: export it with python -m cifar10_export")


def _size_and_classes(signature: Signature, model: Path) -> tuple[int, int | None]:
    """Return the side of the input images in pixels, and the number of classes, None if it is not fixed."""
    inputs, outputs = signature.inputs, signature.outputs
    match inputs, outputs.get("probabilities"):
        case {"images": ("tensor(uint8)", [batch, int(height), int(width), 3])}, ("tensor(float)", [_, classes]) if (
            len(inputs) == 1 and height == width and not isinstance(batch, int)
        ):
            return height, classes if isinstance(classes, int) else None
    raise ModelError(
        f"{model}: expected input images uint8 [N, SIZE, SIZE, 3] and output probabilities float32 [N, classes], "
        f"any N; found inputs {inputs}, outputs {outputs}; export one with python -m cifar10_export"
    )


def _labels_in(metadata: Mapping[str, str], classes: int | None, model: Path) -> tuple[str, ...]:
    try:
        labels = json.loads(metadata.get("labels", ""))
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, list) or not are_labels(labels):
        raise ModelError(
            f"{model}: its metadata has no labels, a JSON list of names: "
            "export it with python -m cifar10_export, or name them by --labels"
        )
    if classes not in (None, len(labels)):
        raise ModelError(f"{model}: its metadata has {len(labels)} labels for {classes} classes")
    return tuple(labels)


def read_labels(path: Path) -> list[str]:
    """Return the class names in the file of ``--labels``: one per line, or a JSON list.

    Raises:
        UsageError: The file cannot be read, or has no names.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
        labels = json.loads(text) if text.startswith(("[", "{")) else [line.strip() for line in text.splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "neither one name per line nor a JSON list"
        raise UsageError(f"--labels {path}: {reason}") from None
    if not isinstance(labels, list) or not are_labels(labels):
        raise UsageError(f"--labels {path}: there must be a name for each class, one per line or as a JSON list")
    return labels


def are_labels(labels: Sequence[object]) -> bool:
    """Return whether ``labels`` has at least one item and all items are printable names."""
    return bool(labels) and all(isinstance(label, str) and label.strip() and label.isprintable() for label in labels)
