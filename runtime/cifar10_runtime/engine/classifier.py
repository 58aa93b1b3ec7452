"""The classifier as a library."""

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime.engine.models import DEFAULT_MODEL, find_model
from cifar10_runtime.engine.session import Session, choose_device, provider_of
from cifar10_runtime.engine.threads import usable_processors
from cifar10_runtime.errors import DeviceError, ImageError, InferenceError, ModelError, UsageError
from cifar10_runtime.images import decode as images
from cifar10_runtime.prediction import Prediction

if TYPE_CHECKING:
    import onnxruntime


LARGEST_BATCH = 65_536
"""Images in a batch at most."""


class Classifier:
    """Classifies images with an exported model, on the CPU or on a CUDA GPU; any number of threads may share it.

    Not so processes: a child that ``os.fork`` makes needs a classifier of its own.

    Args:
        model: name of a model that ships with the package, or path of an .onnx file: input ``images`` uint8
            [N, SIZE, SIZE, 3] RGB, output ``probabilities`` float32 [N, classes], metadata ``labels`` (a JSON list).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``openvino``; ``auto`` takes CUDA where it works, any other
            is an error where it does not.
        tf32: on a CUDA GPU, whether products may be rounded to TF32: faster, and less exact than on a CPU.
        labels: names of the classes instead of those in the metadata.
        background: what transparent pixels are laid on, as Pillow names colours: ``white``, ``#rrggbb``.
        max_pixels: width by height of the largest image to decode; a larger one is an error. Above 178,956,970 Pillow
            has a limit of its own, ``PIL.Image.MAX_IMAGE_PIXELS``.
        threads: how many decode and, on a CPU, classify; None for as many as there are processors that this process may
            use, which is right where no other process shares them.

    Raises:
        UsageError: there is no such device or colour, the device knows no TF32, or a number is below 1.
        DeviceError: ONNX Runtime is not installed, or the device cannot be used.
        ModelError: the model is missing, damaged or does not follow the contract.
    """

    labels: tuple[str, ...]
    """The classes, in the order of the columns of ``probabilities``."""
    input_size: int
    """Height and width in pixels of the images that the model takes."""
    metadata: dict[str, str]
    """What the model says of itself: data set, step, accuracy and so on."""
    model_path: Path
    """The file of the model."""
    model_sha256: str
    """Its SHA-256, 64 hexadecimal digits."""
    device: str
    """The device that it runs on: ``cpu``, ``cuda``, ``cuda:1``, ..."""
    batch_size: int
    """Images that are classified together by default."""
    threads: int
    """Threads that decode and, on a CPU, classify."""

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        device: str = "auto",
        tf32: bool = False,
        labels: Sequence[str] | None = None,
        background: str = images.BACKGROUND,
        max_pixels: int = images.MAX_PIXELS,
        threads: int | None = None,
    ) -> None:
        images.check_options(background, max_pixels)
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be 1 or more, not {threads}")
        self._background, self._max_pixels = background, max_pixels
        self._session, self.device = _open(model, device, tf32)
        self.model_path, self.model_sha256 = self._session.model, self._session.sha256
        self.batch_size = self._session.provider.batch_size
        self.metadata = dict(self._session.session.get_modelmeta().custom_metadata_map)
        self.input_size, classes = _interface(self._session.session, self.model_path)
        self.labels = _labels(self.metadata, classes, self.model_path) if labels is None else _given(labels, classes)
        self._try()
        self.threads = threads or usable_processors()
        self._process = os.getpid()
        self._closed = False
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="cifar10")

    def __enter__(self) -> "Classifier":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what is under way and wait for the threads to end; nothing can be classified afterwards."""
        self._closed = True
        self._session.cancel()
        self._pool.shutdown(cancel_futures=True)

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError("the classifier is closed")
        if os.getpid() != self._process:
            raise UsageError("the classifier was made in another process: make one in each")

    @contextmanager
    def _while_open(self) -> Iterator[None]:
        """For what ends in errors of the thread pool when another thread closes the classifier."""
        self._require_open()
        try:
            yield
        except (CancelledError, RuntimeError):
            self._require_open()
            raise

    def _try(self) -> None:
        """Classify one grey image: what is wrong with a model shows before there is work to lose."""
        grey = np.full((1, self.input_size, self.input_size, 3), 128, np.uint8)
        try:
            total = float(self._run(grey).sum())
        except InferenceError as error:
            raise ModelError(str(error)) from error
        if not abs(total - 1) < 0.01:
            raise ModelError(f"{self.model_path}: its probabilities add up to {total:.3g}, not to 1")

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities [N, classes] float32 of ``batch`` [N, SIZE, SIZE, 3] uint8 RGB.

        A single image is classified on the calling thread, without a detour; of more, each thread takes a part.

        Raises:
            UsageError: the batch has another shape or type, or the classifier is closed.
            InferenceError: the model failed, for want of memory, say.
        """
        if batch.dtype != np.uint8 or batch.shape[1:] != (self.input_size, self.input_size, 3):
            wanted = f"uint8 [N, {self.input_size}, {self.input_size}, 3]"
            raise UsageError(f"a batch must be {wanted}, not {batch.dtype} {list(batch.shape)}")
        size = min(self._session.provider.batch_size, -(-len(batch) // self.threads))
        if len(batch) <= max(1, size) or self._session.provider.graph:
            self._require_open()
            return self._run(batch)
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        with self._while_open():
            return np.concatenate(list(self._pool.map(self._run, parts)))

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities = self._session.probabilities(batch)
        if probabilities.shape != (len(batch), len(self.labels)):
            wanted = f"[{len(batch)}, {len(self.labels)}] for {len(batch)} images and {len(self.labels)} labels"
            raise ModelError(f"{self.model_path} gives probabilities {list(probabilities.shape)}, not {wanted}")
        if not np.isfinite(probabilities).all():
            raise ModelError(f"{self.model_path} gives probabilities that are no numbers")
        return probabilities

    def classify(self, paths: Iterable[str | Path], batch_size: int | None = None) -> Iterator[Prediction]:
        """Classify image files: one prediction a path, in order; a file that cannot be read has an ``error``.

        Each thread takes a batch of files, decodes and classifies it; ``paths`` are taken from as room is made for
        more, so there is no limit to their number.

        Args:
            batch_size: images in a batch; by default what suits the device. No influence on the result.

        Raises:
            UsageError: ``paths`` is a single path, or ``batch_size`` is none of 1 to ``LARGEST_BATCH``.
        """
        if isinstance(paths, str | bytes | Path):
            raise UsageError(f"paths must be a list of paths, not {paths!r}")
        return self._classify(((name, name) for name in map(_name, paths)), batch_size)

    def classify_contents(
        self, contents: Iterable[tuple[str, bytes | ImageError]], batch_size: int | None = None
    ) -> Iterator[Prediction]:
        """Like ``classify``, for files that are in memory: pairs of a path for the prediction and the whole content.

        In place of a content may stand the ``ImageError`` that says why there is none.
        """
        return self._classify(contents, batch_size)

    def _classify(self, named: Iterable[tuple[str, images.Source]], batch_size: int | None) -> Iterator[Prediction]:
        self._require_open()
        if batch_size is not None and batch_size not in range(1, LARGEST_BATCH + 1):
            raise UsageError(f"batch_size must be between 1 and {LARGEST_BATCH}, not {batch_size}")
        return self._classify_batches(iter(named), batch_size or self.batch_size)

    def _classify_batches(
        self, remaining: Iterator[tuple[str, images.Source]], batch_size: int
    ) -> Iterator[Prediction]:
        batches = iter(lambda: list(islice(remaining, batch_size)), [])
        pending: deque[Future[list[Prediction]]] = deque()
        try:
            for batch in batches:
                with self._while_open():
                    pending.append(self._pool.submit(self._classify_batch, batch))
                if len(pending) > 2 * self.threads:
                    yield from self._result(pending.popleft())
            while pending:
                yield from self._result(pending.popleft())
        finally:
            for future in pending:
                future.cancel()

    def _result(self, future: Future[list[Prediction]]) -> list[Prediction]:
        with self._while_open():
            return future.result()

    def _classify_batch(self, named: list[tuple[str, images.Source]]) -> list[Prediction]:
        decoded: list[NDArray[np.uint8]] = []
        errors: dict[int, str] = {}
        for index, (_, source) in enumerate(named):
            self._require_open()
            try:
                decoded.append(images.decode(source, self.input_size, self._background, self._max_pixels))
            except ImageError as error:
                errors[index] = str(error)
        rankings = iter(self._rankings(self._run(np.stack(decoded))) if decoded else ())
        return [
            Prediction(path, (), errors[index]) if index in errors else Prediction(path, next(rankings))
            for index, (path, _) in enumerate(named)
        ]

    def _rankings(self, probabilities: NDArray[np.float32]) -> Iterator[tuple[tuple[str, float], ...]]:
        order = np.argsort(-probabilities, axis=1, kind="stable")
        values = np.take_along_axis(probabilities, order, axis=1)
        for indices, row in zip(order.tolist(), values.tolist(), strict=True):
            yield tuple(zip([self.labels[index] for index in indices], row, strict=True))


def _name(path: object) -> str:
    if not isinstance(path, str | bytes | os.PathLike):
        raise UsageError(f"paths must be a list of paths; there is {path!r} in it")
    return os.fsdecode(path)


def _open(model: str | Path, device: str, tf32: bool) -> tuple[Session, str]:
    """The session and its device; ``auto`` goes on to the CPU where CUDA is installed and does not work."""
    chosen = choose_device(device)
    try:
        return Session(*find_model(model, provider_of(chosen).layout), chosen, tf32), chosen
    except DeviceError:
        if device != "auto" or chosen == "cpu":
            raise
        return Session(*find_model(model, provider_of("cpu").layout), "cpu", tf32), "cpu"


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
        f"found inputs {inputs}, outputs {outputs}; export one with python -m cifar10_export"
    )


def _labels(metadata: Mapping[str, str], classes: int | None, path: Path) -> tuple[str, ...]:
    """The labels in the metadata of a model with so many classes."""
    try:
        labels = json.loads(metadata.get("labels", ""))
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, list) or not are_labels(labels):
        raise ModelError(
            f"{path}: its metadata has no labels, a JSON list of names: "
            "export it with python -m cifar10_export, or name them by --labels"
        )
    if classes not in (None, len(labels)):
        raise ModelError(f"{path}: its metadata has {len(labels)} labels for {classes} classes")
    return tuple(labels)


def _given(labels: Sequence[str], classes: int | None) -> tuple[str, ...]:
    """Labels that replace those of a model with so many classes."""
    if isinstance(labels, str) or not are_labels(labels):
        raise UsageError(f"labels must be a list of names that can be printed, not {labels!r}")
    if classes not in (None, len(labels)):
        raise UsageError(f"there are {len(labels)} labels for the {classes} classes of the model")
    return tuple(labels)


def are_labels(labels: Sequence[object]) -> bool:
    """Whether each is a name that can be printed, and there is one at least."""
    return bool(labels) and all(isinstance(label, str) and label.strip() and label.isprintable() for label in labels)
