"""Inference on a CUDA GPU: threads that own the GPU sessions classify the waiting batches together.

Any number of threads submit batches. A GPU thread takes all batches that wait, up to ``LARGEST_GRAPH`` images, and
replays the smallest CUDA graph that they fit. One ONNX Runtime session per thread is the rule of ONNX Runtime: its
handles and captured graphs belong to the thread that made them.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime.engine.contract import Signature, signature_of
from cifar10_runtime.engine.devices import import_onnxruntime, run_error
from cifar10_runtime.errors import InferenceError

if TYPE_CHECKING:
    import onnxruntime

LARGEST_GRAPH = 2048
"""Images in the largest CUDA graph; a larger batch is classified in parts."""
_WAITING = 2
"""Number of waiting batches that start the second GPU thread."""

Probabilities = NDArray[np.float32]


class CudaGate:
    """Lets any number of threads call CUDA at a time, or one thread capture a graph.

    While a thread captures, CUDA forbids other threads to allocate, free or synchronize: their calls fail, and so does
    the capture.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        self._capturing = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wait for a capture to end; no capture begins before the block ends."""
        with self._changed:
            self._changed.wait_for(lambda: not self._capturing)
            self._calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Wait for all other blocks to end; no other block begins before this one ends."""
        with self._changed:
            self._changed.wait_for(lambda: not self._capturing)
            self._capturing = True
            self._changed.wait_for(lambda: not self._calls)
        try:
            yield
        finally:
            with self._changed:
                self._capturing = False
                self._changed.notify_all()


_GATE = CudaGate()
"""One per process, because a capture affects all sessions of the process."""
_OPENING = threading.Lock()
"""Held to open a session: the first one loads CUDA's libraries while stdout is redirected."""


class BatchQueue:
    """The batches that wait for a GPU thread, each with the future of its probabilities."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[NDArray[np.uint8], Future[Probabilities]]] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, batch: NDArray[np.uint8]) -> Future[Probabilities]:
        """Add a batch of at most ``LARGEST_GRAPH`` images; return the future of its probabilities."""
        future: Future[Probabilities] = Future()
        with self._changed:
            if self._closed:
                future.set_exception(InferenceError("the session is closed"))
            else:
                self._waiting.append((batch, future))
                self._changed.notify()
        return future

    def take(self) -> list[tuple[NDArray[np.uint8], Future[Probabilities]]]:
        """Wait for batches, then return the first ones, up to ``LARGEST_GRAPH`` images; none if the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            taken, images = [], 0
            while self._waiting and (images := images + len(self._waiting[0][0])) <= LARGEST_GRAPH:
                taken.append(self._waiting.popleft())
            return taken

    def close(self) -> None:
        """Fail all waiting and all later batches."""
        with self._changed:
            self._closed = True
            for _, future in self._waiting:
                future.set_exception(InferenceError("the session is closed"))
            self._waiting.clear()
            self._changed.notify_all()


class CudaSession:
    """A model on a CUDA GPU; any number of threads may submit batches.

    The first GPU thread starts at once. The second one starts when batches wait: one copies while the other computes.

    Args:
        model: The model file, for messages.
        open_onnx: Opens an ONNX Runtime session of the model on the GPU.
        gpu: Number of the GPU.

    Raises:
        InferenceError: As ``open_onnx``.
    """

    parallel_calls = False
    """Calls on several threads are not faster than one call, because the GPU threads do the work."""

    def __init__(self, model: Path, open_onnx: Callable[[], onnxruntime.InferenceSession], gpu: int) -> None:
        self._queue = BatchQueue()
        self._start_thread = partial(_GpuThread, self._queue, model, open_onnx, gpu)
        self._threads = [self._start_thread()]
        self._stop = weakref.finalize(self, _stop, self._queue, self._threads)  # also runs at the end of the process
        self.signature = self._threads[0].signature.result()

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], Probabilities]:
        """Queue ``batch`` [N, SIZE, SIZE, 3] uint8; return a function that waits for the probabilities.

        The function returns [N, classes] float32, or raises InferenceError if the model failed.
        """
        parts = [batch[start : start + LARGEST_GRAPH] for start in range(0, len(batch), LARGEST_GRAPH)] or [batch]
        futures = [self._queue.put(part) for part in parts]
        if len(self._queue) >= _WAITING and len(self._threads) == 1:
            self._threads.append(self._start_thread())
        return lambda: _joined([future.result() for future in futures])

    def cancel(self) -> None:
        """Fail all waiting and all later batches; a graph that runs ends within milliseconds."""
        self._queue.close()

    def close(self) -> None:
        """Cancel, wait for the GPU threads to end, and free the memory of the GPU."""
        self._stop()


def _joined(parts: Sequence[Probabilities]) -> Probabilities:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _stop(queue: BatchQueue, threads: list[_GpuThread]) -> None:
    queue.close()
    for thread in threads:
        thread.join()


class _GpuThread(threading.Thread):
    """Opens a session, then classifies the batches of ``queue`` until the queue is closed."""

    def __init__(
        self, queue: BatchQueue, model: Path, open_onnx: Callable[[], onnxruntime.InferenceSession], gpu: int
    ) -> None:
        super().__init__(name="cifar10-gpu", daemon=True)  # daemon: Python must not wait for it before _stop
        self._queue, self._model, self._open_onnx, self._gpu = queue, model, open_onnx, gpu
        self._graphs: CudaGraphs | None = None
        self.signature: Future[Signature] = Future()
        """The signature of the model, once the session is open."""
        self.start()

    def run(self) -> None:
        try:
            self.signature.set_result(signature_of(self._opened().session))
        except BaseException as error:
            self.signature.set_exception(error)  # the first thread's error is raised by CudaSession
            return
        while taken := self._queue.take():
            batches, futures = zip(*taken, strict=True)
            try:
                probabilities = self._classify(batches)
            except BaseException as error:
                for future in futures:
                    future.set_exception(error)
            else:
                ends = np.cumsum([len(batch) for batch in batches])
                for future, rows in zip(futures, np.split(probabilities, ends[:-1]), strict=True):
                    future.set_result(rows)
            del taken, batches, futures  # so that a waiting thread keeps no batch alive
        self._discard()

    def _opened(self) -> CudaGraphs:
        if self._graphs is None:
            with _OPENING, _GATE.call():
                self._graphs = CudaGraphs(self._open_onnx(), self._gpu)
        return self._graphs

    def _discard(self) -> None:
        """Close the session: after a failure, ONNX Runtime would replay an incomplete graph without an error."""
        with _GATE.call():
            self._graphs = None

    def _classify(self, batches: Sequence[NDArray[np.uint8]]) -> Probabilities:
        """Return the probabilities of all images of ``batches``; in halves if memory is short.

        Raises:
            InferenceError: The model failed.
        """
        try:
            return self._opened().probabilities(batches)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            self._discard()
            images = np.concatenate(batches)
            if len(images) == 1 or not re.search("memory|ALLOC_FAILED", str(error)):
                raise run_error(self._model, len(images), error) from error
        return np.concatenate([self._classify([half]) for half in np.array_split(images, 2)])


class CudaGraphs:
    """The CUDA graphs of one session, for batches of 1, 2, 4, ... ``LARGEST_GRAPH`` images; for one thread.

    Args:
        session: A session on the GPU.
        gpu: Number of the GPU.
    """

    def __init__(self, session: onnxruntime.InferenceSession, gpu: int) -> None:
        self.session, self._gpu = session, gpu
        self._graphs: dict[int, _CudaGraph] = {}
        shape = session.get_inputs()[0].shape[1:]
        self._padded = np.zeros((LARGEST_GRAPH, *shape), np.uint8)

    def probabilities(self, batches: Sequence[NDArray[np.uint8]]) -> Probabilities:
        """Return the probabilities [N, classes] float32 of the N images of ``batches``, 1 to ``LARGEST_GRAPH``."""
        images = sum(len(batch) for batch in batches)
        size = 1 << max(0, images - 1).bit_length()
        if len(batches) == 1 and images == size and batches[0].flags.c_contiguous:
            source = batches[0]  # needs no copy
        else:
            np.concatenate(batches, out=self._padded[:images])
            source = self._padded[:size]
        if size in self._graphs:
            with _GATE.call():
                return self._graphs[size].run(source)[:images]
        with _GATE.capture():
            graph = _CudaGraph(self.session, source.shape, self._gpu)
            probabilities = graph.run(source)[:images]
        self._graphs[size] = graph
        return probabilities


class _CudaGraph:
    """A CUDA graph for batches of one size. Its input and output have fixed addresses on the GPU."""

    def __init__(self, session: onnxruntime.InferenceSession, shape: tuple[int, ...], gpu: int) -> None:
        ort = import_onnxruntime()
        classes = next(output.shape[-1] for output in session.get_outputs() if output.name == "probabilities")
        if not isinstance(classes, int):
            raise InferenceError("CUDA needs a model with a fixed number of classes")
        self._session, self._binding, self._options = session, session.io_binding(), ort.RunOptions()
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, "cuda", gpu)
        self._output = ort.OrtValue.ortvalue_from_shape_and_type((shape[0], classes), np.float32, "cuda", gpu)
        self._binding.bind_ortvalue_input("images", self._input)
        self._binding.bind_ortvalue_output("probabilities", self._output)
        self._options.add_run_config_entry("gpu_graph_id", str(shape[0]))

    def run(self, batch: NDArray[np.uint8]) -> Probabilities:
        """Return the probabilities of ``batch``; the first call captures the graph, later calls replay it."""
        self._input.update_inplace(batch)
        self._session.run_with_iobinding(self._binding, self._options)
        probabilities: Probabilities = self._output.numpy()
        return probabilities
