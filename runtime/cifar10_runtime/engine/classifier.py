"""The classifier: the library behind cifar10-infer."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime.engine.pool import ClosablePool
from cifar10_runtime.engine.session import open_model
from cifar10_runtime.engine.threads import usable_processors
from cifar10_runtime.errors import ImageError, UsageError
from cifar10_runtime.images.decode import check_options, decode
from cifar10_runtime.options import ClassifierOptions
from cifar10_runtime.prediction import Prediction

LARGEST_BATCH = 65_536
"""Images in the largest batch."""

_File = tuple[str, str | bytes]
"""An image file: the path that its prediction gets, and its source: the path to read, or the content."""
_Ranking = tuple[tuple[str, float], ...]
"""The value of ``Prediction.ranking``."""


class Classifier:
    """Classifies images with an exported model on a CPU or a CUDA GPU; any number of threads may share it.

    Processes may not share it: a child of ``os.fork`` needs its own classifier.

    Args:
        model: Name of a bundled model, or path of an .onnx file: input ``images`` uint8 [N, SIZE, SIZE, 3] RGB, output
            ``probabilities`` float32 [N, classes], metadata ``labels`` (a JSON list).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``openvino``. ``auto`` means CUDA if it works, else OpenVINO
            if it is installed and the processor has AVX-512, else the CPU; any other device that does not work is an
            error.
        fast_math: Compute float32 models in TF32 on a CUDA GPU, in bf16 on OpenVINO: faster, but less exact.
        labels: Names of the classes to use instead of those in the metadata.
        background: Opaque color behind transparent pixels, in Pillow's notation: ``white``, ``#rrggbb``.
        max_pixels: Width times height of the largest image to decode; a larger one is an error. Above 178,956,970
            Pillow has its own limit, ``PIL.Image.MAX_IMAGE_PIXELS``.
        threads: Number of threads that decode and, on a CPU, classify. None means one per CPU that this process may
            use; choose fewer if other processes use these CPUs.
        min_probability: The label of an image whose highest probability is lower is ``unknown_label``; above 0, at
            most 1. None gives each image a class.
        unknown_label: The label of images that get no class; not the name of a class.
        features: Give each prediction the features of its image; not on CUDA.

    Raises:
        UsageError: The device or color is unknown, the device has no faster arithmetic, a number is out of range, or
            ``unknown_label`` is the name of a class.
        DeviceError: ONNX Runtime is not installed, or the device cannot be used.
        ModelError: The model is missing, damaged or does not follow the contract.
    """

    labels: tuple[str, ...]
    """The classes, in the order of the columns of ``probabilities``."""
    input_size: int
    """Height and width in pixels of the images that the model takes."""
    metadata: dict[str, str]
    """The model's metadata: data set, step, accuracy and so on."""
    model_path: Path
    """The model file."""
    model_sha256: str
    """SHA-256 of the model file, 64 hexadecimal digits."""
    device: str
    """The device that the model runs on: ``cpu``, ``openvino``, ``cuda``, ``cuda:1``, ..."""
    batch_size = 32
    """Default number of images per batch; a batch fits the caches of a CPU."""
    threads: int
    """Number of threads that decode and, on a CPU, classify."""

    def __init__(
        self,
        model: str | Path = ClassifierOptions.model,
        device: str = ClassifierOptions.device,
        fast_math: bool = ClassifierOptions.fast_math,
        labels: Sequence[str] | None = None,
        background: str = ClassifierOptions.background,
        max_pixels: int = ClassifierOptions.max_pixels,
        threads: int | None = None,
        min_probability: float | None = ClassifierOptions.min_probability,
        unknown_label: str = ClassifierOptions.unknown_label,
        features: bool = ClassifierOptions.features,
    ) -> None:
        check_options(background, max_pixels)
        if min_probability is not None and not 0 < min_probability <= 1:
            raise UsageError(f"min_probability must be above 0 and at most 1, not {min_probability}")
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be 1 or more, not {threads}")
        self._background, self._max_pixels = background, max_pixels
        self.threads = threads or usable_processors()
        opened = open_model(model, device, fast_math, labels, self.threads, features)
        self._session, self._contract, self.device = opened.session, opened.contract, opened.device
        self.labels, self.input_size = self._contract.labels, self._contract.input_size
        self.metadata = self._session.signature.metadata
        self.model_path, self.model_sha256 = opened.path, opened.sha256
        self._min_probability, self._unknown_label = min_probability or 0.0, unknown_label
        if min_probability is not None:
            self._contract.check_unknown_label(unknown_label)
        self._pool = ClosablePool(self.threads)

    def __enter__(self) -> "Classifier":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all work and wait for the threads to end; every later call raises ``UsageError``."""
        self._pool.close()
        self._session.cancel()
        self._pool.join()
        self._session.close()

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the class probabilities [N, classes] float32 of ``batch`` [N, SIZE, SIZE, 3] uint8 RGB.

        The calling thread classifies a single image. The threads of the classifier share a larger batch.

        Raises:
            UsageError: The batch has another shape or dtype, or the classifier is closed.
            InferenceError: The model failed, for example because memory ran out.
        """
        self._contract.check_batch(batch)
        size = min(self.batch_size, -(-len(batch) // self.threads))
        if len(batch) <= max(1, size) or not self._session.parallel_calls:
            self._pool.require_open()
            return self._run(batch) if len(batch) else self._no_probabilities()
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        return np.concatenate(list(self._pool.map(self._run, parts, ahead=len(parts))))

    def classify(
        self, paths: Iterable[str | Path], batch_size: int | None = None, top_k: int | None = None
    ) -> Iterator[Prediction]:
        """Classify image files: yield one prediction per path, in order.

        The prediction of a file that cannot be read has an ``error``.

        Each thread takes a batch of files, decodes and classifies them. ``paths`` may be endless, because the
        classifier takes only a few batches ahead.

        Args:
            paths: The files.
            batch_size: Images per batch, 1 to ``LARGEST_BATCH``; None means the default. The predictions do
                not depend on it.
            top_k: Labels per prediction; None means all. Fewer labels take less time.

        Raises:
            UsageError: ``paths`` is a single path, ``batch_size`` or ``top_k`` is out of range, or the classifier is
                closed.
        """
        if isinstance(paths, str | bytes | Path):
            raise UsageError(f"paths must be a list of paths, not {paths!r}")
        return self._classify(((path, path) for path in map(_decoded_path, paths)), batch_size, top_k)

    def classify_contents(
        self,
        contents: Iterable[tuple[str, bytes | ImageError] | Prediction],
        batch_size: int | None = None,
        top_k: int | None = None,
    ) -> Iterator[Prediction]:
        """Classify image files whose content is in memory, like ``classify``: yield one prediction per item, in order.

        Args:
            contents: Pairs of the path for the prediction and the whole content of the file. If a file could not be
                read, the item is a failed ``Prediction``, or a pair of the path and an ``ImageError``.
            batch_size: As in ``classify``.
            top_k: As in ``classify``.
        """
        return self._classify(map(_file_or_failure, contents), batch_size, top_k)

    def _classify(
        self, items: Iterable[_File | Prediction], batch_size: int | None, top_k: int | None
    ) -> Iterator[Prediction]:
        self._pool.require_open()
        if batch_size is not None and batch_size not in range(1, LARGEST_BATCH + 1):
            raise UsageError(f"batch_size must be between 1 and {LARGEST_BATCH}, not {batch_size}")
        if top_k is not None and top_k not in range(1, len(self.labels) + 1):
            raise UsageError(f"top_k must be between 1 and {len(self.labels)}, not {top_k}")
        return self._classify_batches(iter(items), batch_size or self.batch_size, top_k or len(self.labels))

    def _classify_batches(
        self, items: Iterator[_File | Prediction], batch_size: int, top_k: int
    ) -> Iterator[Prediction]:
        batches = iter(lambda: list(islice(items, batch_size)), [])
        start = partial(self._start_batch, top_k=top_k)
        with closing(self._pool.map(start, batches, ahead=2 * self.threads)) as started:
            for predictions_of in started:
                yield from predictions_of()

    def _start_batch(self, batch: list[_File | Prediction], top_k: int) -> Callable[[], list[Prediction]]:
        """Decode a batch and submit it to the session; return a function that waits for the predictions.

        This thread can decode the next batch while a GPU classifies this one.
        """
        paths: list[str] = []
        decoded: list[NDArray[np.uint8]] = []
        failed: dict[int, Prediction] = {}
        for index, item in enumerate(batch):
            self._pool.require_open()
            if isinstance(item, Prediction):
                failed[index] = item
                continue
            path, source = item
            try:
                decoded.append(decode(source, self.input_size, self._background, self._max_pixels))
                paths.append(path)
            except ImageError as error:
                failed[index] = Prediction.failed(path, error)
        outputs = self._submit(np.stack(decoded)) if decoded else None

        def predictions() -> list[Prediction]:
            classified = self._answers(paths, *outputs(), top_k) if outputs else iter(())
            return [failed[index] if index in failed else next(classified) for index in range(len(batch))]

        if not self._session.parallel_calls:
            return predictions
        ranked = predictions()  # the session has already computed: this thread also ranks
        return lambda: ranked

    def _answers(
        self, paths: Iterable[str], probabilities: NDArray[np.float32], features: NDArray[np.float32], top_k: int
    ) -> Iterator[Prediction]:
        rankings = self._rankings(probabilities, top_k)
        if self._contract.features:
            return map(self._answer, paths, rankings, features)
        return map(self._answer if self._min_probability else Prediction, paths, rankings)

    def _answer(self, path: str, ranking: _Ranking, features: NDArray[np.float32] | None = None) -> Prediction:
        """Return the prediction of an image; its label is the unknown label if no class is probable enough."""
        is_unknown = ranking[0][1] < self._min_probability
        unknown_label = self._unknown_label if is_unknown else ""
        return Prediction(path, ranking, unknown_label=unknown_label, features=features)

    def _no_probabilities(self) -> NDArray[np.float32]:
        """Return the answer to an empty batch, which OpenVINO refuses."""
        return np.empty((0, len(self.labels)), np.float32)

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities, _ = self._submit(batch)()
        return probabilities

    def _submit(self, batch: NDArray[np.uint8]) -> Callable[[], tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Submit ``batch`` to the session; return a function that waits for the probabilities and the features."""
        outputs = self._session.submit(batch)
        return lambda: self._contract.split(outputs(), len(batch))

    def _rankings(self, probabilities: NDArray[np.float32], top_k: int) -> Iterator[_Ranking]:
        """Yield the ``top_k`` labels of each row with their probabilities, most probable first."""
        if top_k == 1:  # the most frequent case needs no sorting; argmax also takes the first of equal values
            best = probabilities.argmax(axis=1)
            highest = probabilities[np.arange(len(best)), best]
            for index, value in zip(best.tolist(), highest.tolist(), strict=True):
                yield ((self.labels[index], value),)
            return
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        values = np.take_along_axis(probabilities, order, axis=1)
        for indices, row in zip(order.tolist(), values.tolist(), strict=True):
            yield tuple(zip([self.labels[index] for index in indices], row, strict=True))


def _decoded_path(path: object) -> str:
    if not isinstance(path, str | bytes | os.PathLike):
        raise UsageError(f"paths must be a list of paths, but one item is {path!r}")
    return os.fsdecode(path)


def _file_or_failure(item: tuple[str, bytes | ImageError] | Prediction) -> _File | Prediction:
    if isinstance(item, Prediction):
        return item
    path, content = item
    return Prediction.failed(path, content) if isinstance(content, ImageError) else (path, content)
