"""The checkpoint format, version 1: one safetensors file per step, written atomically, with a checksum.

Tensors:

- ``weights/NAME`` and ``averages/NAME``, float32: weight and EMA weight of each parameter NAME of ``Cifar10Net``. With
  batch normalization, the names are those of ``batch_norm.named_tensors`` and include the running statistics.
- ``momentum/NAME``, float32: with momentum only.
- ``loss_averages``, [4] float32: in the order of ``loss.LOSS_NAMES``.
- ``loss_scale``, [2] float32: with precision fp16 only; the scale, and the number of steps since it changed.

Metadata, all text: ``format_version``, ``step``, ``dataset``, ``classes`` (a JSON list), ``hyperparameters`` (a JSON
object), ``test_fraction`` (only if ``Dataset`` has one), ``temperatures`` (a JSON object, only of a calibrated
checkpoint) and ``sha256``, the checksum of all tensors and of the other metadata.
"""

import hashlib
import json
import math
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from cifar10_runtime import atomic
from torch import Tensor

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.errors import CheckpointError, OptionError, one_line
from cifar10_zoo.network.batch_norm import named_tensors
from cifar10_zoo.network.model import Cifar10Net, image_size_of
from cifar10_zoo.training.state import TrainingState, evaluation_model, new_model

FORMAT_VERSION = "1"
KEPT = 5
"""How many of the newest checkpoints ``prune`` keeps: 5, as ``tf.train.Saver`` does by default."""

_FILE_NAME = re.compile(r"model\.ckpt-(\d+)\.safetensors")
_LISTED = 20
"""Largest number of class names in an error message."""


@dataclass(frozen=True)
class Checkpoint:
    """The verified content of a checkpoint file."""

    path: Path
    step: int
    """The number of completed steps."""
    dataset: str
    """``Dataset.name`` of the training data."""
    classes: tuple[str, ...]
    """The class names, in the order of the labels."""
    hyperparameters: Hyperparameters
    tensors: dict[str, Tensor]
    """The tensors by name, on the CPU; the module docstring lists the names."""
    sha256: str
    """The checksum of the content, as hexadecimal digits."""
    test_fraction: float | None = None
    """``Dataset.test_fraction`` of the training data."""
    temperatures: Mapping[int, float] = field(default_factory=dict)
    """T in probabilities = softmax(logits / T), by the number of crops per image, 1 and 10; empty before calibration.
    """

    @property
    def image_size(self) -> int:
        """Height and width in pixels of the training images."""
        local3 = self.tensors.get("weights/local3.weight", torch.empty(0))
        return image_size_of(math.prod(local3.shape[1:]))  # ``_tensors_like`` finds a shape that fits no image size

    def ema_model(self) -> Cifar10Net:
        """Return the network with the EMA weights for evaluation and export, batch normalization folded, on the CPU.

        Raises:
            CheckpointError: An EMA weight is missing or has another shape.
        """
        model = new_model(self.hyperparameters, len(self.classes), self.image_size)
        saved = self._tensors_like({f"averages/{name}": tensor for name, tensor in named_tensors(model).items()})
        return evaluation_model(model, {name.removeprefix("averages/"): tensor for name, tensor in saved.items()})

    def restore(self, state: TrainingState) -> None:
        """Load the tensors and the step into ``state``, so that training continues as if it had not stopped.

        Raises:
            CheckpointError: A tensor is missing or has another shape.
        """
        state.load(self._tensors_like(state.tensors()), self.step)

    def require_classes_of(self, data: Dataset) -> None:
        """Check that the training data had the name, classes, image size and division of ``data``.

        Raises:
            CheckpointError: They were not: with a lower test fraction, test images could be among the training images.
        """
        if (self.dataset, self.classes) != (data.name, data.classes):
            trained = f"{self.dataset} data ({_listed(self.classes)})"
            given = f"{data.name} data ({_listed(data.classes)})"
            raise CheckpointError(
                f"{self.path} was trained on {trained}, not {given}: choose the --data-dir of {self.dataset} data"
            )
        if None not in (self.test_fraction, data.test_fraction) and self.test_fraction != data.test_fraction:
            raise CheckpointError(
                f"{self.path} was trained with --test-fraction {self.test_fraction:g}, not {data.test_fraction:g}: "
                "choose the same fraction, so that no test image is a training image"
            )
        if self.image_size != (size := data.images.shape[-1]):
            raise CheckpointError(
                f"{self.path} was trained on images of {self.image_size}x{self.image_size} pixels, not {size}x{size}: "
                f"choose --image-size {self.image_size}"
            )

    def _tensors_like(self, expected: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors with the names in ``expected``; raise CheckpointError unless they have its shapes."""
        for name, target in expected.items():
            tensor = self.tensors.get(name)
            if tensor is None or tensor.shape != target.shape:
                found = "is missing" if tensor is None else f"has shape {list(tensor.shape)}"
                raise CheckpointError(f"{self.path}: tensor {name} {found}, expected {list(target.shape)}")
        return {name: self.tensors[name] for name in expected}


def _listed(classes: Sequence[str]) -> str:
    """Return the first class names and the number of all, for an error of one line about 1,000 classes."""
    names = ", ".join(classes[:_LISTED])
    return names if len(classes) <= _LISTED else f"{names}, ... {len(classes)} classes"


def calibrated(saved: Checkpoint, temperatures: Mapping[int, float]) -> Checkpoint:
    """Write ``saved`` again with ``temperatures``, and return the new content of the file.

    Raises:
        CheckpointError: The file cannot be written.
    """
    new = replace(saved, temperatures=dict(temperatures))
    try:
        write(new.path, new.tensors, _metadata(new))
    except OSError as error:
        raise CheckpointError(f"{new.path} cannot be written: {error.strerror}") from None
    return read(new.path)


def _metadata(saved: Checkpoint) -> dict[str, str]:
    optional = {
        "test_fraction": None if saved.test_fraction is None else str(saved.test_fraction),
        "temperatures": json.dumps(saved.temperatures) if saved.temperatures else None,
    }
    return {
        "format_version": FORMAT_VERSION,
        "step": str(saved.step),
        "dataset": saved.dataset,
        "classes": json.dumps(saved.classes),
        "hyperparameters": json.dumps(asdict(saved.hyperparameters)),
    } | {name: value for name, value in optional.items() if value is not None}


def save(
    state: TrainingState, directory: Path, dataset: str, classes: tuple[str, ...], test_fraction: float | None = None
) -> Path:
    """Write ``directory/model.ckpt-STEP.safetensors``.

    Args:
        state: The training state.
        directory: Created if it does not exist.
        dataset: ``Dataset.name`` of the training data.
        classes: The class names of the training data.
        test_fraction: ``Dataset.test_fraction`` of the training data.

    Returns:
        The path of the file.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.tensors().items()}
    path = directory / _file_name(state.step)
    saved = Checkpoint(path, state.step, dataset, classes, state.hyperparameters, tensors, "", test_fraction)
    write(path, tensors, _metadata(saved))
    return path


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write ``tensors`` and ``metadata`` to ``path``, with the checksum of both; ``read`` verifies it."""
    signed = metadata | {"sha256": digest(tensors, metadata)}
    atomic.write_file(path, safetensors.torch.save(tensors, signed))


def prune(directory: Path, keep_steps: Collection[int | None] = ()) -> None:
    """Delete the checkpoints in ``directory``, except the ``KEPT`` newest and those whose step is in ``keep_steps``."""
    for path in find(directory)[:-KEPT]:
        if _step(path) not in keep_steps:
            with suppress(PermissionError):  # on Windows, another program reads the file: the next call deletes it
                path.unlink(missing_ok=True)


def find(directory: Path) -> list[Path]:
    """Return the paths of the checkpoints in ``directory``, lowest step first."""
    paths = directory.iterdir() if directory.is_dir() else []
    return sorted((path for path in paths if _FILE_NAME.fullmatch(path.name)), key=_step)


def latest(directory: Path) -> Path | None:
    """Return the path of the checkpoint with the highest step, or None if ``directory`` has no checkpoint."""
    return next(reversed(find(directory)), None)


def read_newest(directory: Path) -> Checkpoint:
    """Return the newest checkpoint that is not damaged; print a warning about each newer damaged checkpoint on stderr.

    Raises:
        CheckpointError: No checkpoint in ``directory`` can be read.
    """
    for path in reversed(paths := find(directory)):
        try:
            return read(path)
        except CheckpointError as error:
            print(f"warning: {error}", file=sys.stderr)
    if directory.is_file():
        raise CheckpointError(f"{directory} is a file: name the directory of the checkpoints")
    if paths:
        raise CheckpointError(
            f"none of the checkpoints in {directory} can be read: see the warnings, or name another directory"
        )
    raise CheckpointError(f"no checkpoint in {directory}: train first, or name another directory")


def read_step(directory: Path, step: int) -> Checkpoint:
    """Return the checkpoint of ``step`` in ``directory``.

    Raises:
        CheckpointError: The checkpoint cannot be read.
    """
    return read(directory / _file_name(step))


def read(path: Path) -> Checkpoint:
    """Return the content of a checkpoint file, whose checksum is verified.

    Raises:
        CheckpointError: The file is missing, damaged or has another format.
    """
    tensors, metadata = _read_file(path)
    if (version := metadata.get("format_version")) != FORMAT_VERSION:
        raise CheckpointError(f"{path} is not a checkpoint of format {FORMAT_VERSION} (its format is {version})")
    sha256 = metadata.pop("sha256", "")
    if sha256 != digest(tensors, metadata):
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256 checksum")
    try:
        if _FILE_NAME.fullmatch(path.name) and _step(path) != int(metadata["step"]):
            raise CheckpointError(
                f"{path} is the checkpoint of step {metadata['step']}: restore its name, or delete it"
            )
        return Checkpoint(
            path=path,
            step=int(metadata["step"]),
            dataset=metadata["dataset"],
            classes=tuple(map(str, json.loads(metadata["classes"]))),
            hyperparameters=_hyperparameters(path, metadata["hyperparameters"]),
            tensors=tensors,
            sha256=sha256,
            test_fraction=float(metadata["test_fraction"]) if "test_fraction" in metadata else None,
            temperatures=_temperatures(metadata.get("temperatures", "{}")),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OptionError) as error:  # another program wrote the file
        raise CheckpointError(f"{path} has invalid metadata: {error!r}") from None


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file."""
    try:
        open(path, "rb").close()  # safetensors reports every file that it cannot open as missing
        with safetensors.safe_open(path, framework="pt") as file:
            # Copies: Windows neither replaces nor removes a file while its content is mapped into memory.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {one_line(error)}") from None


def _hyperparameters(path: Path, text: str) -> Hyperparameters:
    """Return the hyperparameters in the JSON ``text``; fields that an earlier version lacks get the defaults."""
    values = json.loads(text)
    if unknown := values.keys() - {field.name for field in fields(Hyperparameters)}:
        raise CheckpointError(
            f"{path} was written by a later version: it has hyperparameters {', '.join(sorted(unknown))}"
        )
    return Hyperparameters(**values)


def _temperatures(text: str) -> dict[int, float]:
    return {int(crops): float(temperature) for crops, temperature in json.loads(text).items()}


def digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Return the SHA-256 of the tensors and of the metadata; their order in the file does not matter.

    Returns:
        64 hexadecimal digits.
    """
    sha256 = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        sha256.update(tensor.flatten().view(torch.uint8).numpy().tobytes())  # as bytes: NumPy has no bfloat16
    return sha256.hexdigest()


def _file_name(step: int) -> str:
    return f"model.ckpt-{step}.safetensors"


def _step(path: Path) -> int:
    match = _FILE_NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])
