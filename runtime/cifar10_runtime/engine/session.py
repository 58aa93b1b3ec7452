"""ONNX Runtime sessions on the chosen device, without a silent fallback to another device."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime.engine.models import find_model, read_model
from cifar10_runtime.errors import DeviceError, InferenceError, ModelError, UsageError

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class Provider:
    """The execution provider of a device, and how the runtime uses it."""

    name: str
    """ONNX Runtime's name of the provider."""
    conv2_algorithm: str
    """The conv2 algorithm that is faster on the device: ``winograd`` or ``direct``; bundled models may have both."""
    batch_size: int
    """Default number of images per batch."""
    options: dict[str, str] = field(default_factory=dict)
    """The provider's options."""
    install: str = "pip install onnxruntime"
    """The command that installs the provider."""
    graph: bool = False
    """Whether a batch runs as one CUDA graph, which needs a fixed batch size."""
    tf32_option: str = ""
    """The provider's option that allows TF32, "0" or "1"; empty if the provider has none."""


PROVIDERS: dict[str, Provider] = {
    "cuda": Provider(
        name="CUDAExecutionProvider",
        conv2_algorithm="direct",
        batch_size=512,
        options={"enable_cuda_graph": "1"},
        install="pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]'",
        graph=True,
        tf32_option="use_tf32",
    ),
    "openvino": Provider(
        name="OpenVINOExecutionProvider",
        conv2_algorithm="direct",
        batch_size=32,
        options={"device_type": "CPU", "precision": "FP32", "num_of_threads": "1"},
        install="pip uninstall onnxruntime, then pip install onnxruntime-openvino",
    ),
    "cpu": Provider(name="CPUExecutionProvider", conv2_algorithm="winograd", batch_size=32),
}
"""The execution provider of each device."""
CHOICES = ("auto", "cpu", "cuda", "cuda:N", "openvino")
"""The values of ``--device``; ``auto`` means CUDA if it works, else the CPU; N is the number of a GPU."""


def provider_of(device: str) -> Provider:
    """Return the provider of a device, which may have a number: ``cuda:1``."""
    return PROVIDERS[device.partition(":")[0]]


def choose_device(device: str) -> str:
    """Return the device that ``device`` means: for ``auto``, CUDA if ONNX Runtime was built for it, else the CPU.

    This function does not check whether the device works; ``open_session`` does.

    Raises:
        UsageError: No device has this name.
        DeviceError: ONNX Runtime is not installed, or has no execution provider for the device.
    """
    name, colon, number = str(device).partition(":")
    if name not in ("auto", *PROVIDERS) or (colon and (name != "cuda" or not (number.isascii() and number.isdigit()))):
        raise UsageError(f"device {device}: choose one of {', '.join(CHOICES)}")
    available = import_onnxruntime().get_available_providers()
    if name == "auto":
        return "cuda" if PROVIDERS["cuda"].name in available else "cpu"
    if PROVIDERS[name].name not in available:
        provider = PROVIDERS[name]
        raise DeviceError(f"--device {device}: this ONNX Runtime has no {provider.name}: {provider.install}")
    return device


def open_session(model: str | Path, device: str, tf32: bool) -> Session:
    """Open a bundled model or a model file on ``device``; ``auto`` tries CUDA, then the CPU.

    Raises:
        UsageError: No device has this name, or the device has no TF32.
        DeviceError: ONNX Runtime is not installed, or the device cannot be used.
        ModelError: The model is missing or damaged.
    """
    chosen = choose_device(device)
    try:
        return Session(*find_model(model, provider_of(chosen).conv2_algorithm), chosen, tf32)
    except DeviceError:
        if device != "auto" or chosen == "cpu":
            raise
        return Session(*find_model(model, provider_of("cpu").conv2_algorithm), "cpu", tf32)


class Session:
    """A model on a device; any number of threads may call ``probabilities`` at once.

    On a CPU, each call runs on the calling thread only. One call per CPU at the same time is faster than one call on
    all CPUs; the calls share the weights, and no idle thread spins.

    Args:
        model: The model file.
        sha256: The SHA-256 that the file must have; empty for any.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``openvino``.
        tf32: Allow TF32 in float32 GEMMs; only for CUDA GPUs.

    Raises:
        UsageError: The device has no TF32.
        DeviceError: The device cannot be used.
        ModelError: ONNX Runtime cannot run the file.
    """

    def __init__(self, model: Path, sha256: str, device: str, tf32: bool = False) -> None:
        self.model, self.device = model, device
        self.provider = provider_of(device)
        if tf32 and not self.provider.tf32_option:
            raise UsageError(f"TF32 is for CUDA GPUs, not for the device {device}")
        content, self.sha256 = read_model(model, sha256)
        self.onnx = _open(model, content, device, tf32)
        self._options = import_onnxruntime().RunOptions()
        self._gpu = int(device.partition(":")[2] or 0)
        self._graphs: dict[int, _CudaGraph] = {}
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Cancel the running calls and all later calls; they raise ``InferenceError``."""
        self._options.terminate = True

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities [N, classes] float32 of ``batch`` [N, SIZE, SIZE, 3] uint8.

        Raises:
            InferenceError: The model failed, for example because memory ran out.
        """
        try:
            if not self.provider.graph:
                return np.asarray(self.onnx.run(["probabilities"], {"images": batch}, self._options)[0])
            with self._lock:
                return self._graph_for(batch).run(batch)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise InferenceError(
                f"{self.model} failed on a batch of {len(batch)} images: {_first_line(error)}"
            ) from error

    def _graph_for(self, batch: NDArray[np.uint8]) -> _CudaGraph:
        """Return the CUDA graph for ``batch``: one graph for single images, one for all larger batches."""
        size = 1 if len(batch) == 1 else self.provider.batch_size
        if size not in self._graphs:
            self._graphs[size] = _CudaGraph(self.onnx, size, batch.shape[1:], self._gpu)
        return self._graphs[size]


class _CudaGraph:
    """A CUDA graph for batches of a fixed size; its input and output buffers have fixed addresses on the GPU."""

    def __init__(
        self, session: onnxruntime.InferenceSession, batch_size: int, shape: tuple[int, ...], gpu: int
    ) -> None:
        ort = import_onnxruntime()
        self.session = session
        self.batch = np.zeros((batch_size, *shape), np.uint8)
        self.input = ort.OrtValue.ortvalue_from_numpy(self.batch, "cuda", gpu)
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_input("images", self.input)
        classes = session.get_outputs()[-1].shape[-1]
        self.output = ort.OrtValue.ortvalue_from_shape_and_type((batch_size, classes), np.float32, "cuda", gpu)
        self.binding.bind_ortvalue_output("probabilities", self.output)
        self.options = ort.RunOptions()
        self.options.add_run_config_entry("gpu_graph_id", str(batch_size))

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities of a batch of any size; the last part is padded."""
        size = len(self.batch)
        return np.concatenate([self._run(batch[start : start + size]) for start in range(0, len(batch), size)])

    def _run(self, part: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batch[: len(part)] = part
        self.input.update_inplace(self.batch)
        self.session.run_with_iobinding(self.binding, self.options)
        result: NDArray[np.float32] = self.output.numpy()
        return result[: len(part)]


def _open(model: Path, content: bytes, device: str, tf32: bool) -> onnxruntime.InferenceSession:
    ort = import_onnxruntime()
    provider = provider_of(device)
    options = ort.SessionOptions()
    options.log_severity_level = 4  # no messages on stderr, because errors come as exceptions
    ort.set_default_logger_severity(4)  # for messages outside a session, for example about missing memory
    options.intra_op_num_threads = 1  # only the calling thread computes
    cuda_problem = _load_cuda_libraries(ort) if device.startswith("cuda") else ""
    if device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # enable_fallback=0: otherwise ONNX Runtime continues on the CPU and prints a banner on stdout.
        session: onnxruntime.InferenceSession = ort.InferenceSession(
            content, options, providers=[(provider.name, _provider_options(device, tf32))], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        if device != "cpu":
            raise DeviceError(f"--device {device} cannot be used: {cuda_problem or _first_line(error)}") from error
        raise ModelError(f"{model} cannot be loaded: {_first_line(error)}") from error
    if session.get_providers()[0] != provider.name:
        raise DeviceError(f"--device {device}: ONNX Runtime chose {session.get_providers()[0]}, not {provider.name}")
    return session


def _provider_options(device: str, tf32: bool) -> dict[str, str]:
    provider, gpu = provider_of(device), device.partition(":")[2]
    tf32_options = {provider.tf32_option: str(int(tf32))} if provider.tf32_option else {}
    return provider.options | tf32_options | ({"device_id": gpu} if gpu else {})


def _load_cuda_libraries(ort: Any) -> str:
    """Load CUDA and cuDNN from their Python packages; return the first problem that ONNX Runtime prints, or "".

    ONNX Runtime prints problems on stdout; they are captured here, because stdout is for results.
    """
    with contextlib.redirect_stdout(io.StringIO()) as problems:
        ort.preload_dlls()
    return _first_line(problems.getvalue())


def import_onnxruntime() -> Any:
    """Return the module ``onnxruntime``, imported only when a session is needed.

    Raises:
        DeviceError: ONNX Runtime is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # telemetry that cannot be sent would also print a warning
    try:
        import onnxruntime
    except ImportError:
        raise DeviceError(
            "ONNX Runtime is not installed; pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for NVIDIA GPUs"
        ) from None
    return onnxruntime


def _first_line(error: object) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
