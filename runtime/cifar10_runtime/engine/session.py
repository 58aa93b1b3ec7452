"""Open a model on the first device that works, and run it, one call per CPU at a time (CPU, OpenVINO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime.engine.contract import Contract, read_contract, signature_of
from cifar10_runtime.engine.cuda import CudaSession
from cifar10_runtime.engine.devices import (
    candidates,
    device_error,
    import_onnxruntime,
    open_on_device,
    provider_of,
    run_error,
)
from cifar10_runtime.engine.models import find_model, read_model
from cifar10_runtime.errors import DeviceError, InferenceError, ModelError

if TYPE_CHECKING:
    import onnxruntime


class Session:
    """A model on a CPU or OpenVINO; any number of threads may call ``submit`` at once.

    Each call computes on one thread only: on the calling thread, or on a thread of OpenVINO. One call per CPU at the
    same time is faster than one call on all CPUs; the calls share the weights, and no idle thread spins.
    """

    parallel_calls = True
    """Whether calls on several threads are faster than one call: ``CudaSession`` has the same attribute and methods."""

    def __init__(self, model: Path, onnx: onnxruntime.InferenceSession, outputs: Sequence[str]) -> None:
        self.signature = signature_of(onnx)
        self._outputs = outputs
        self._model, self._onnx = model, onnx
        self._options = import_onnxruntime().RunOptions()

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        """Classify ``batch`` [N, SIZE, SIZE, 3] uint8; return a function that returns the outputs.

        Returns:
            A function that returns [N, columns] float32: the columns of all outputs, beside each other.

        Raises:
            InferenceError: The model failed, for example because memory ran out.
        """
        try:
            outputs = self._onnx.run(self._outputs, {"images": batch}, self._options)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise run_error(self._model, len(batch), error) from error
        joined = np.asarray(outputs[0]) if len(outputs) == 1 else np.concatenate(outputs, axis=1)
        return lambda: joined

    def cancel(self) -> None:
        """Cancel the running calls and all later calls; they raise ``InferenceError``.

        OpenVINO completes the running calls first, and a large batch can take a minute there.
        """
        self._options.terminate = True

    def close(self) -> None:
        """Cancel; ONNX Runtime frees the memory with this object."""
        self.cancel()


@dataclass(frozen=True)
class OpenModel:
    """A model that is open on a device and has classified one image there."""

    path: Path
    """The model file."""
    sha256: str
    """SHA-256 of the model file."""
    device: str
    """``cpu``, ``cuda``, ``cuda:N`` or ``openvino``."""
    contract: Contract
    session: Session | CudaSession


def open_model(
    model: str | Path,
    device: str,
    fast_math: bool,
    labels: Sequence[str] | None,
    threads: int,
    features: bool = False,
) -> OpenModel:
    """Open a bundled model or a model file on ``device``; ``auto`` takes the fastest device that works.

    Args:
        model: Name of a bundled model, or path of an .onnx file.
        device: A value of ``--device``.
        fast_math: Allow faster, less exact arithmetic: TF32 on CUDA, bf16 on OpenVINO.
        labels: Names of the classes to use instead of those in the metadata, or None.
        threads: Calls that compute at the same time on OpenVINO; each uses one CPU.
        features: Whether the session also returns the output ``features``; not on CUDA.

    Raises:
        UsageError: No device has this name, the device has no faster arithmetic, or the labels do not fit the model.
        DeviceError: ONNX Runtime is not installed, or the device cannot run the model.
        ModelError: The model is missing, damaged or does not follow the contract.
    """
    open_on = partial(_open_on, model=model, fast_math=fast_math, labels=labels, threads=threads, features=features)
    *preferred, last = candidates(device)
    for candidate in preferred:
        with suppress(DeviceError):
            return open_on(candidate)
    return open_on(last)


def _open_on(
    device: str, model: str | Path, fast_math: bool, labels: Sequence[str] | None, threads: int, features: bool
) -> OpenModel:
    if features and device.startswith("cuda"):
        raise DeviceError(f"--device {device} gives no features: choose --device cpu or openvino for --features")
    path, expected_sha256 = find_model(model, provider_of(device).conv2_algorithm)
    content, sha256 = read_model(path, expected_sha256)
    open_onnx = partial(open_on_device, path, content, device, fast_math, threads)
    if device.startswith("cuda"):
        session: Session | CudaSession = CudaSession(path, open_onnx, gpu=int(device.partition(":")[2] or 0))
    else:
        session = Session(path, open_onnx(), ["probabilities", *(["features"] if features else [])])
    try:
        contract = read_contract(session.signature, path, labels, features)
        _try_gray_image(session, contract, device)
    except InferenceError:
        session.close()
        raise
    return OpenModel(path, sha256, device, contract, session)


def _try_gray_image(session: Session | CudaSession, contract: Contract, device: str) -> None:
    """Check that the model classifies one gray image, before any other work is done.

    Raises:
        DeviceError: The model fails on a device that is not the CPU.
        ModelError: The model fails on the CPU.
    """
    gray = np.full((1, contract.input_size, contract.input_size, 3), 128, np.uint8)
    try:
        probabilities, _ = contract.split(session.submit(gray)(), 1)
        total = float(probabilities.sum())
        if not abs(total - 1) < 0.01:
            raise ModelError(f"{contract.model}: its probabilities add up to {total:.3g}, not to 1")
    except InferenceError as error:
        if device == "cpu":
            raise ModelError(str(error)) from error
        raise device_error(device, str(error), contract.model) from error
