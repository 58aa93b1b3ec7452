"""The classifier as a library."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime import images
from cifar10_runtime.errors import ImageError, ModelError
from cifar10_runtime.session import DeviceChoice, open_session

MODELS = Path(__file__).parent / "models"
"""The models that ship with the package, ``NAME.onnx``."""
DEFAULT_MODEL = "tutorial"
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
        inputs = {value.name: (value.type, value.shape) for value in self._session.get_inputs()}
        outputs = [value.name for value in self._session.get_outputs()]
        match inputs:
            case {"images": ("tensor(uint8)", [_, int(height), int(width), 3])} if (
                height == width and "probabilities" in outputs
            ):
                self.input_size = height
            case _:
                raise ModelError(
                    f"{self.model_path}: expected input images uint8 [N, SIZE, SIZE, 3] and output probabilities, "
                    f"found inputs {inputs}, outputs {outputs}; export one with export/to_onnx.py"
                )
        self.labels = tuple(json.loads(self.metadata.get("labels", "[]")))
        if not self.labels:
            raise ModelError(f"{self.model_path} has no metadata entry labels; export it again with export/to_onnx.py")

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities [N, classes] float32 of ``batch`` [N, SIZE, SIZE, 3] uint8 RGB."""
        (result,) = self._session.run(["probabilities"], {"images": batch})
        return np.asarray(result)

    def classify(self, paths: Iterable[str | Path], batch_size: int = DEFAULT_BATCH_SIZE) -> Iterator[Prediction]:
        """Classify image files: one prediction a path, in order; a file that cannot be read has an ``error``."""
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
    if Path(model).exists():
        return Path(model)
    names = ", ".join(sorted(path.stem for path in MODELS.glob("*.onnx"))) or "none"
    raise ModelError(f"model {model} is neither a file nor a model that ships with the package ({names})")
