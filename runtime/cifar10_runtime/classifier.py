"""The classifier as a library."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime import images
from cifar10_runtime.errors import ImageError, InferenceError, ModelError, UsageError
from cifar10_runtime.session import DeviceChoice, open_session

if TYPE_CHECKING:
    import onnxruntime

MODELS = Path(__file__).parent / "models"
"""The models that ship with the package, ``NAME.onnx``."""
DEFAULT_MODEL = "modern"
DEFAULT_BATCH_SIZE = 64


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image."""

    path: str
    """As given or found."""
    ranking: tuple[tuple[str, float], ...]
    """Every label with its probability, the most probable first; empty where the image could not be read."""
    error: str = ""
    """Why the image could not be read, else empty."""

    @property
    def label(self) -> str:
        """The most probable label; empty where the image could not be read."""
        return self.ranking[0][0] if self.ranking else ""

    @property
    def probability(self) -> float:
        """The probability of ``label``, 0 to 1; NaN where the image could not be read."""
        return self.ranking[0][1] if self.ranking else float("nan")


class Classifier:
    """Classifies images with an exported model, on the CPU or on a CUDA GPU.

    Args:
        model: name of a model that ships with the package, or path of an .onnx file: input ``images`` uint8
            [N, SIZE, SIZE, 3] RGB, output ``probabilities`` float32 [N, classes], metadata ``labels`` (a JSON list).
        device: ``auto`` takes CUDA where it works; ``cuda`` is an error where it does not.

    Raises:
        DeviceError: ONNX Runtime is not installed, or the device cannot be used.
        ModelError: the model is missing, damaged or does not follow the contract.
    """

    labels: tuple[str, ...]
    """The classes, in the order of the columns of ``probabilities``."""
    input_size: int
    """Height and width in pixels of the images that the model takes."""
    metadata: dict[str, str]
    """What the model says of itself: data set, step, accuracy and so on."""
    device: str
    """The device that it runs on, ``cpu`` or ``cuda``."""

    def __init__(self, model: str | Path = DEFAULT_MODEL, device: DeviceChoice = "auto") -> None:
        self.model_path = _model_path(model)
        self._session, self.device = open_session(self.model_path, device)
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.input_size, classes = _interface(self._session, self.model_path)
        self.labels = _labels(self.metadata, classes, self.model_path)

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities [N, classes] float32 of ``batch`` [N, SIZE, SIZE, 3] uint8 RGB.

        Raises:
            UsageError: the batch has another shape or type.
            InferenceError: the model failed, for want of memory, say.
        """
        if batch.dtype != np.uint8 or batch.shape[1:] != (self.input_size, self.input_size, 3):
            wanted = f"uint8 [N, {self.input_size}, {self.input_size}, 3]"
            raise UsageError(f"a batch must be {wanted}, not {batch.dtype} {list(batch.shape)}")
        try:
            (result,) = self._session.run(["probabilities"], {"images": batch})
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            reason = str(error).strip().splitlines()[0]
            raise InferenceError(f"{self.model_path} failed on a batch of {len(batch)} images: {reason}") from error
        probabilities: NDArray[np.float32] = np.asarray(result)
        if probabilities.shape != (len(batch), len(self.labels)):
            raise ModelError(f"{self.model_path} gives {probabilities.shape} for {len(self.labels)} labels")
        return probabilities

    def classify(self, paths: Iterable[str | Path], batch_size: int = DEFAULT_BATCH_SIZE) -> Iterator[Prediction]:
        """Classify image files: one prediction a path, in order; a file that cannot be read has an ``error``.

        Raises:
            UsageError: ``paths`` is a single path, or ``batch_size`` is below 1.
        """
        if isinstance(paths, str | bytes | Path):
            raise UsageError(f"paths must be a list of paths, not {paths!r}")
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}")
        return self._classify_batches(paths, batch_size)

    def _classify_batches(self, paths: Iterable[str | Path], batch_size: int) -> Iterator[Prediction]:
        remaining = map(str, paths)
        while chunk := list(islice(remaining, batch_size)):
            yield from self._classify_batch(chunk)

    def _classify_batch(self, paths: list[str]) -> Iterator[Prediction]:
        decoded: list[NDArray[np.uint8]] = []
        errors: dict[int, str] = {}
        for index, path in enumerate(paths):
            try:
                decoded.append(images.decode(path, self.input_size))
            except ImageError as error:
                errors[index] = str(error)
        rows = iter(self.probabilities(np.stack(decoded)) if decoded else ())
        for index, path in enumerate(paths):
            if index in errors:
                yield Prediction(path, (), errors[index])
            else:
                yield Prediction(path, self._ranking(next(rows)))

    def _ranking(self, probabilities: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        order = np.argsort(-probabilities, kind="stable")
        return tuple((self.labels[index], float(probabilities[index])) for index in order)


def _model_path(model: str | Path) -> Path:
    """The file of a bundled model by its name, else ``model`` itself."""
    bundled = MODELS / f"{model}.onnx"
    if Path(model).name == str(model) and bundled.exists():
        return bundled
    if Path(model).is_file():
        return Path(model)
    names = ", ".join(sorted(path.stem for path in MODELS.glob("*.onnx"))) or "none"
    raise ModelError(f"model {model} is neither a file nor a model that ships with the package ({names})")


def _interface(session: "onnxruntime.InferenceSession", path: Path) -> tuple[int, int | None]:
    """The size of the images that the model takes and how many classes it has, where it says so."""
    inputs = {value.name: (value.type, value.shape) for value in session.get_inputs()}
    outputs = {value.name: (value.type, value.shape) for value in session.get_outputs()}
    match inputs, outputs.get("probabilities"):
        case {"images": ("tensor(uint8)", [batch, int(height), int(width), 3])}, ("tensor(float)", [_, classes]) if (
            len(inputs) == 1 and height == width and not isinstance(batch, int)
        ):
            return height, classes if isinstance(classes, int) else None
    raise ModelError(
        f"{path}: expected input images uint8 [N, SIZE, SIZE, 3] and output probabilities float32 [N, classes], any N; "
        f"found inputs {inputs}, outputs {outputs}; export one with export/to_onnx.py"
    )


def _labels(metadata: Mapping[str, str], classes: int | None, path: Path) -> tuple[str, ...]:
    """The labels in the metadata of a model with so many classes."""
    try:
        labels = json.loads(metadata.get("labels", ""))
    except ValueError:
        labels = None
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise ModelError(f"{path}: its metadata has no labels, a JSON list of names; export it with export/to_onnx.py")
    if classes not in (None, len(labels)):
        raise ModelError(f"{path}: its metadata has {len(labels)} labels for {classes} classes")
    return tuple(labels)
