"""ONNX Runtime sessions: which device, and no silent fall-back to another."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from cifar10_runtime.errors import DeviceError, ModelError, UsageError

if TYPE_CHECKING:
    import onnxruntime

DeviceChoice = Literal["auto", "cpu", "cuda"]

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),  # float32 as on the CPU
    "cpu": ("CPUExecutionProvider", {}),
}
"""The execution provider of each device and its options; ``auto`` takes the first that works."""

_INSTALL = "pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for NVIDIA GPUs"


def open_session(model: Path, device: DeviceChoice) -> tuple[onnxruntime.InferenceSession, str]:
    """Load ``model`` and return the session and the device that it runs on.

    Raises:
        UsageError: there is no device of that name.
        DeviceError: ONNX Runtime is not installed, or the device cannot be used.
        ModelError: the file is not a model that ONNX Runtime can run.
    """
    if device not in get_args(DeviceChoice):
        raise UsageError(f"device {device}: choose one of {', '.join(get_args(DeviceChoice))}")
    if device == "cpu":
        return _open(model, "cpu"), "cpu"
    try:
        return _open(model, "cuda"), "cuda"
    except DeviceError:
        if device == "cuda":
            raise
        return _open(model, "cpu"), "cpu"


def _open(model: Path, device: str) -> onnxruntime.InferenceSession:
    ort = _import_onnxruntime()
    provider, provider_options = PROVIDERS[device]
    if provider not in ort.get_available_providers():
        raise DeviceError(
            f"--device {device}: this ONNX Runtime has no {provider}; for NVIDIA GPUs: pip uninstall onnxruntime, then "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    missing = ""
    if device == "cuda":
        missing = _load_cuda_libraries(ort)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # enable_fallback=0: ONNX Runtime would otherwise go on with the CPU and say so on stdout.
        session: onnxruntime.InferenceSession = ort.InferenceSession(
            model, options, providers=[(provider, provider_options)], enable_fallback=0
        )
    except Exception as error:  # its exceptions have no common base class
        if device == "cuda":
            raise DeviceError(f"--device cuda cannot be used: {missing or _first_line(error)}") from error
        raise ModelError(f"{model} cannot be loaded: {_first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise DeviceError(f"--device {device}: ONNX Runtime chose {session.get_providers()[0]} instead of {provider}")
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
        raise DeviceError(f"ONNX Runtime is not installed; {_INSTALL}") from None
    return onnxruntime


def _first_line(error: object) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
