"""ONNX Runtime sessions: which device, and no silent fall-back to another."""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar10_runtime.errors import DeviceError, InferenceError, ModelError, UsageError

if TYPE_CHECKING:
    import onnxruntime

DeviceChoice = Literal["auto", "cpu", "cuda", "openvino"]


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


def choose_device(device: DeviceChoice) -> str:
    """The device that ``device`` means, without proof that it works: ``auto`` is CUDA if ONNX Runtime was built for it.

    Raises:
        UsageError: there is no device of that name.
        DeviceError: ONNX Runtime is not installed, or has no execution provider for it.
    """
    if device not in get_args(DeviceChoice):
        raise UsageError(f"device {device}: choose one of {', '.join(get_args(DeviceChoice))}")
    available = _import_onnxruntime().get_available_providers()
    if device == "auto":
        return "cuda" if PROVIDERS["cuda"].name in available else "cpu"
    if PROVIDERS[device].name not in available:
        provider = PROVIDERS[device]
        raise DeviceError(f"--device {device}: this ONNX Runtime has no {provider.name}: {provider.install}")
    return device


class Session:
    """A model on a device; ``probabilities`` may be called from any number of threads at once.

    On a CPU each call runs on the thread that makes it: as many calls at once as there are processors are faster than
    one call on all of them, share the weights, and leave no thread spinning.

    Args:
        tf32: whether products of float32 may be rounded to TF32, faster and less exact, where a GPU can.

    Raises:
        UsageError: the device knows no TF32.
        DeviceError: the device cannot be used.
        ModelError: the file is not a model that ONNX Runtime can run.
    """

    def __init__(self, model: Path, device: str, tf32: bool = False) -> None:
        self.model = model
        self.provider = PROVIDERS[device]
        if tf32 and not self.provider.tf32_option:
            raise UsageError(f"--tf32 is not for --device {device}")
        self.session = _open(model, device, tf32)
        self._graphs: dict[int, _CudaGraph] = {}
        self._lock = threading.Lock()

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, classes] float32 of ``batch`` [N, SIZE, SIZE, 3] uint8, in one call of ONNX Runtime if N allows it.

        Raises:
            InferenceError: the model failed, for want of memory, say.
        """
        try:
            if not self.provider.graph:
                return np.asarray(self.session.run(["probabilities"], {"images": batch})[0])
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
            self._graphs[size] = _CudaGraph(self.session, size, batch.shape[1:])
        return self._graphs[size]


class _CudaGraph:
    """Batches of a fixed size, the last one padded, between buffers that stay where they are on the GPU."""

    def __init__(self, session: onnxruntime.InferenceSession, batch_size: int, shape: tuple[int, ...]) -> None:
        ort = _import_onnxruntime()
        self.session = session
        self.batch = np.zeros((batch_size, *shape), np.uint8)
        self.input = ort.OrtValue.ortvalue_from_numpy(self.batch, "cuda", 0)
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_input("images", self.input)
        classes = session.get_outputs()[-1].shape[-1]
        self.output = ort.OrtValue.ortvalue_from_shape_and_type((batch_size, classes), np.float32, "cuda", 0)
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


def _open(model: Path, device: str, tf32: bool) -> onnxruntime.InferenceSession:
    ort = _import_onnxruntime()
    provider = PROVIDERS[device]
    choices = provider.options | ({provider.tf32_option: str(int(tf32))} if provider.tf32_option else {})
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    options.intra_op_num_threads = 1  # the thread that calls
    missing = ""
    if device != "cpu":
        missing = _load_cuda_libraries(ort) if device == "cuda" else ""
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # enable_fallback=0: ONNX Runtime would otherwise go on with the CPU and say so on stdout.
        session: onnxruntime.InferenceSession = ort.InferenceSession(
            model, options, providers=[(provider.name, choices)], enable_fallback=0
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

    ONNX Runtime prints its complaints on stdout, which belongs to the results, and logs them once more.
    """
    ort.set_default_logger_severity(4)
    with contextlib.redirect_stdout(io.StringIO()) as complaints:
        ort.preload_dlls()
    return _first_line(complaints.getvalue())


def _import_onnxruntime() -> Any:
    """Import it late, for a message to those who have none of its wheels."""
    try:
        import onnxruntime
    except ImportError:
        raise DeviceError(
            "ONNX Runtime is not installed; pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for NVIDIA GPUs"
        ) from None
    return onnxruntime


def _first_line(error: object) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
