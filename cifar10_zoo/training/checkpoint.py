"""Checkpoints: one safetensors file a step, written atomically and checksummed.

Tensors: ``weights/NAME`` and ``averages/NAME`` for each parameter NAME of ``Cifar10Net``, float32, and
``loss_averages`` [4] float32 in the order of ``loss.LOSS_NAMES``; with momentum, ``momentum/NAME``; with batch
normalization, the names of ``Cifar10NetBN`` instead, running statistics included; with precision fp16, ``loss_scale``
[2] float32: the scale and the steps since it changed. Metadata, all text: ``format_version``, ``step``,
``dataset``, ``classes`` (JSON list), ``hyperparameters`` (JSON object) and ``sha256`` of all the rest.
"""

import hashlib
import json
import re
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from cifar10_runtime import atomic
from torch import Tensor

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.cifar10 import Dataset
from cifar10_zoo.errors import CheckpointError, OptionError
from cifar10_zoo.network.batch_norm import fold_batch_norm
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.tracking import history
from cifar10_zoo.training.state import TrainingState, new_model

FORMAT_VERSION = "1"
KEPT = 5
"""How many of the newest checkpoints stay in a folder: the default of ``tf.train.Saver``."""

_FILE_NAME = re.compile(r"model\.ckpt-(\d+)\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole."""

    path: Path
    step: int
    dataset: str
    """Name of the data set it was trained on, as in ``Dataset.name``."""
    classes: tuple[str, ...]
    hyperparameters: Hyperparameters
    tensors: dict[str, Tensor]
    sha256: str
    """Of the contents, as hexadecimal digits."""

    def ema_model(self) -> Cifar10Net:
        """The network with the averaged weights, for evaluation and export; on the CPU."""
        model = new_model(self.hyperparameters)
        self._fill({f"averages/{name}": tensor for name, tensor in model.state_dict().items()})
        return fold_batch_norm(model).eval()

    def restore(self, state: TrainingState) -> None:
        """Put everything into ``state``, so that training goes on as if it had never stopped."""
        self._fill(state.tensors())
        if state.scaler.is_enabled():
            self._fill({"loss_scale": (scale := torch.zeros(2))})
            saved = {"scale": float(scale[0]), "_growth_tracker": int(scale[1])}
            state.scaler.load_state_dict(state.scaler.state_dict() | saved)
        state.step = self.step

    def require_classes_of(self, data: Dataset) -> None:
        """Raise CheckpointError unless the checkpoint was trained on data of the same name and classes."""
        if (self.dataset, self.classes) != (data.name, data.classes):
            ours, theirs = (
                f"{name} data ({', '.join(c)})" for name, c in ((self.dataset, self.classes), (data.name, data.classes))
            )
            raise CheckpointError(f"{self.path} was trained on {ours}, not {theirs}: name the --data-dir that fits")

    @torch.no_grad()
    def _fill(self, targets: dict[str, Tensor]) -> None:
        for key, target in targets.items():
            tensor = self.tensors.get(key)
            if tensor is None or tensor.shape != target.shape:
                found = "is missing" if tensor is None else f"has shape {list(tensor.shape)}"
                raise CheckpointError(f"{self.path}: tensor {key} {found}, expected {list(target.shape)}")
            target.copy_(tensor)


def save(state: TrainingState, folder: Path, dataset: str, classes: tuple[str, ...]) -> Path:
    """Write ``folder/model.ckpt-STEP.safetensors``, and return its path.

    Older checkpoints are deleted but for the ``KEPT`` newest and the one that evaluated best.
    """
    tensors = state.tensors()
    if scaler := state.scaler.state_dict():
        tensors["loss_scale"] = torch.tensor([scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float32)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {
        "format_version": FORMAT_VERSION,
        "step": str(state.step),
        "dataset": dataset,
        "classes": json.dumps(classes),
        "hyperparameters": json.dumps(asdict(state.hyperparameters)),
    }
    metadata["sha256"] = _digest(tensors, metadata)
    path = folder / f"model.ckpt-{state.step}.safetensors"
    atomic.write_file(path, safetensors.torch.save(tensors, metadata))
    best = history.best_step(folder)
    for old in find(folder)[:-KEPT]:
        if old != path and _step(old) != best:
            old.unlink(missing_ok=True)
    return path


def find(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, oldest step first."""
    paths = folder.iterdir() if folder.exists() else []
    return sorted((path for path in paths if _FILE_NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    match = _FILE_NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def latest(folder: Path) -> Path | None:
    """The checkpoint of the highest step in ``folder``."""
    return next(reversed(find(folder)), None)


def read_newest(folder: Path) -> Checkpoint:
    """The whole checkpoint of the highest step; damaged ones are reported on stderr and passed over.

    Raises:
        CheckpointError: there is none in ``folder`` that can be read.
    """
    for path in reversed(paths := find(folder)):
        try:
            return read(path)
        except CheckpointError as error:
            print(f"warning: {error}", file=sys.stderr)
    if paths:
        raise CheckpointError(
            f"none of the checkpoints in {folder} can be read: see the warnings, or name another folder"
        )
    raise CheckpointError(f"no checkpoint in {folder}: train first, or name another folder")


def read(path: Path) -> Checkpoint:
    """Read a checkpoint and verify its checksum.

    Raises:
        CheckpointError: it is missing, damaged or of another format.
    """
    try:
        open(path, "rb").close()  # safetensors takes whatever cannot be opened for missing
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if (version := metadata.get("format_version")) != FORMAT_VERSION:
        raise CheckpointError(f"{path} is not a checkpoint of format {FORMAT_VERSION} (it says {version})")
    sha256 = metadata.pop("sha256", "")
    if sha256 != _digest(tensors, metadata):
        raise CheckpointError(f"{path} is damaged: its contents do not match its SHA-256 checksum")
    try:
        hyperparameters = json.loads(metadata["hyperparameters"])
        if unknown := hyperparameters.keys() - {field.name for field in fields(Hyperparameters)}:
            raise CheckpointError(f"{path} is of a later version: it has hyperparameters {', '.join(sorted(unknown))}")
        if _FILE_NAME.fullmatch(path.name) and _step(path) != int(metadata["step"]):
            raise CheckpointError(f"{path} holds step {metadata['step']}: give it back its name, or remove it")
        return Checkpoint(
            path=path,
            step=int(metadata["step"]),
            dataset=metadata["dataset"],
            classes=tuple(map(str, json.loads(metadata["classes"]))),
            hyperparameters=Hyperparameters(**hyperparameters),
            tensors=tensors,
            sha256=sha256,
        )
    except (AttributeError, KeyError, TypeError, ValueError, OptionError) as error:  # another program signed it
        raise CheckpointError(f"{path} has metadata that make no sense: {error!r}") from None


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of names, types, shapes and contents, and of the metadata, independent of their order in the file."""
    sha256 = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        sha256.update(tensor.flatten().view(torch.uint8).numpy().tobytes())  # NumPy does not know every type
    return sha256.hexdigest()
