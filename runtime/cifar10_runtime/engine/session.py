"""ONNX Runtime sessions: which device, and no silent fall-back to another."""

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

from cifar10_runtime.engine.models import read_model
from cifar10_runtime.errors import DeviceError, InferenceError, ModelError, UsageError

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class Provider:
    """How a device is used."""

    name: str
    """ONNX Runtime's name of its execution provider."""
    layout: str
    """Of a bundled model with several files, the layout that is the fastest here."""
    batch_size: int
    """Images that are classified together by default."""
    options: dict[str, str] = field(default_factory=dict)
    install: str = "pip install onnxruntime"
    """How to get it."""
    graph: bool = False
    """Whether a batch runs as one CUDA graph, which wants batches of a fixed size."""
    tf32_option: str = ""
    """The provider's option that allows TF32, with "0" and "1"; empty where there is no such thing."""


PROVIDERS: dict[str, Provider] = {
    "cuda": Provider(
        name="CUDAExecutionProvider",
        layout="direct",
        batch_size=512,
        options={"enable_cuda_graph": "1"},
        install="pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]'",
        graph=True,
        tf32_option="use_tf32",
    ),
    "openvino": Provider(
        name="OpenVINOExecutionProvider",
        layout="direct",
        batch_size=32,
        options={"device_type": "CPU", "precision": "FP32", "num_of_threads": "1"},
        install="pip uninstall onnxruntime, then pip install onnxruntime-openvino",
    ),
    "cpu": Provider(name="CPUExecutionProvider", layout="winograd", batch_size=32),
}
"""Every device and its execution provider. ``auto`` takes CUDA where it works, else the CPU."""
CHOICES = ("auto", "cpu", "cuda", "cuda:N", "openvino")
"""What may be asked for; N is the number of a GPU."""


def provider_of(device: str) -> Provider:
    """The row of ``PROVIDERS`` for a device, which may have a number: ``cuda:1``."""
    return PROVIDERS[device.partition(":")[0]]


def choose_device(device: str) -> str:
    """The device that ``device`` means, without proof that it works: ``auto`` is CUDA if ONNX Runtime was built for it.

    Raises:
        UsageError: there is no device of that name.
        DeviceError: ONNX Runtime is not installed, or has no execution provider for it.
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


class Session:
    """A model on a device; ``probabilities`` may be called from any number of threads at once.

    On a CPU each call runs on the thread that makes it: as many calls at once as there are processors are faster than
    one call on all of them, share the weights, and leave no thread spinning.

    Args:
        sha256: what the file must have; empty for any.
        tf32: whether products of float32 may be rounded to TF32, faster and less exact, where a GPU can.

    Raises:
        UsageError: the device knows no TF32.
        DeviceError: the device cannot be used.
        ModelError: the file is not a model that ONNX Runtime can run.
    """

    def __init__(self, model: Path, sha256: str, device: str, tf32: bool = False) -> None:
        self.model = model
        self.provider = provider_of(device)
        if tf32 and not self.provider.tf32_option:
            raise UsageError(f"TF32 is for CUDA GPUs, not for the device {device}")
        content, self.sha256 = read_model(model, sha256)
        self.session = _open(model, content, device, tf32)
        self._options = import_onnxruntime().RunOptions()
        self._gpu = int(device.partition(":")[2] or 0)
        self._graphs: dict[int, _CudaGraph] = {}
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Make the calls that are under way, and all later ones, end with an ``InferenceError`` soon."""
        self._options.terminate = True

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, classes] float32 of ``batch`` [N, SIZE, SIZE, 3] uint8, in one call of ONNX Runtime if N allows it.

        Raises:
            InferenceError: the model failed, for want of memory, say.
        """
        try:
            if not self.provider.graph:
                return np.asarray(self.session.run(["probabilities"], {"images": batch}, self._options)[0])
            with self._lock:
                return self._graph_for(batch).run(batch)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise InferenceError(
                f"{self.model} failed on a batch of {len(batch)} images: {_first_line(error)}"
            ) from error

    def _graph_for(self, batch: NDArray[np.uint8]) -> _CudaGraph:
        """One graph for single images, for the sake of latency, and one for all else."""
        size = 1 if len(batch) == 1 else self.provider.batch_size
        if size not in self._graphs:
            self._graphs[size] = _CudaGraph(self.session, size, batch.shape[1:], self._gpu)
        return self._graphs[size]


class _CudaGraph:
    """Batches of a fixed size, the last one padded, between buffers that stay where they are on the GPU."""

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
    choices = provider.options | ({provider.tf32_option: str(int(tf32))} if provider.tf32_option else {})
    on_cuda, gpu = device.startswith("cuda"), device.partition(":")[2]
    if gpu:
        choices |= {"device_id": gpu}
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    ort.set_default_logger_severity(4)  # the same for what is no session's, such as memory that there is not
    options.intra_op_num_threads = 1  # the thread that calls
    missing = ""
    if device != "cpu":
        missing = _load_cuda_libraries(ort) if on_cuda else ""
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # enable_fallback=0: ONNX Runtime would otherwise go on with the CPU and say so on stdout.
        session: onnxruntime.InferenceSession = ort.InferenceSession(
            content, options, providers=[(provider.name, choices)], enable_fallback=0
        )
    except Exception as error:  # its exceptions have no common base class
        if device != "cpu":
            raise DeviceError(f"--device {device} cannot be used: {missing or _first_line(error)}") from error
        raise ModelError(f"{model} cannot be loaded: {_first_line(error)}") from error
    if session.get_providers()[0] != provider.name:
        raise DeviceError(f"--device {device}: ONNX Runtime chose {session.get_providers()[0]}, not {provider.name}")
    return session


def _load_cuda_libraries(ort: Any) -> str:
    """Load CUDA and cuDNN from the packages beside ONNX Runtime; returns the first complaint, if any.

    ONNX Runtime prints its complaints on stdout, which belongs to the results.
    """
    with contextlib.redirect_stdout(io.StringIO()) as complaints:
        ort.preload_dlls()
    return _first_line(complaints.getvalue())


def import_onnxruntime() -> Any:
    """ONNX Runtime, imported late, for a message to those who have none of its wheels.

    Raises:
        DeviceError: it is not installed.
    """
    # It would tell its makers about sessions, and complain on stderr where it cannot.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise DeviceError(
            "ONNX Runtime is not installed; pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for NVIDIA GPUs"
        ) from None
    return onnxruntime


def _first_line(error: object) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
