"""The devices that ONNX Runtime can use, and ONNX Runtime sessions on a device without a silent fallback to another."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar10_runtime.engine.models import is_half
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
    options: dict[str, str] = field(default_factory=dict)
    """The provider's options."""
    install: str = "pip install onnxruntime"
    """The command that installs the provider."""
    tf32_option: str = ""
    """The provider's option that allows tensor cores, "0" or "1"; empty if the provider has none."""


PROVIDERS: dict[str, Provider] = {
    "cuda": Provider(
        name="CUDAExecutionProvider",
        conv2_algorithm="direct",
        options={"enable_cuda_graph": "1"},
        install="pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]'",
        tf32_option="use_tf32",
    ),
    "openvino": Provider(
        name="OpenVINOExecutionProvider",
        conv2_algorithm="direct",
        options={"device_type": "CPU", "precision": "FP32", "num_of_threads": "1"},
        install="pip uninstall onnxruntime, then pip install onnxruntime-openvino",
    ),
    "cpu": Provider(name="CPUExecutionProvider", conv2_algorithm="winograd"),
}
"""The execution provider of each device."""
CHOICES = ("auto", "cpu", "cuda", "cuda:N", "openvino")
"""The values of ``--device``; ``auto`` means CUDA if it works, else the CPU; N is the number of a GPU."""


_CUDA_PROBLEMS = (
    (r"CUDA failure 100", "finds no NVIDIA GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"),
    (r"CUDA failure 101|Invalid device ID", "finds no GPU with this number: see nvidia-smi and CUDA_VISIBLE_DEVICES"),
    (r"CUDA failure 35|libcuda\.so|nvcuda\.dll", "needs an NVIDIA driver, or a newer one: see nvidia-smi"),
    (r"no kernel image", "cannot be used: this onnxruntime-gpu has no machine code for this GPU; use --device cpu"),
    (r"(?i)out of memory|allocate memory|ALLOC_FAILED", "has too little free memory: see nvidia-smi"),
    (r"(?i)cudnn\S* is unavailable|libcudnn\S*", "needs cuDNN 9: pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    (r"(lib\w+\.so[.\d]*): (?:cannot open|undefined)", r"needs \1: pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    (r"CPU EP|graph capture", "lacks operators of this model: use --model fp32 or fp16, or --device cpu"),
)
"""Patterns in the messages of ONNX Runtime, CUDA and the dynamic linker, and what they mean to a user."""


def provider_of(device: str) -> Provider:
    """Return the provider of a device, which may have a number: ``cuda:1``."""
    return PROVIDERS[device.partition(":")[0]]


def candidates(device: str) -> list[str]:
    """Return the devices to try, in order, for a value of ``--device``; only ``auto`` may have several.

    Raises:
        UsageError: No device has this name.
        DeviceError: ONNX Runtime is not installed, or has no execution provider for the device.
    """
    name, colon, number = str(device).partition(":")
    if name not in ("auto", *PROVIDERS) or (colon and (name != "cuda" or not (number.isascii() and number.isdigit()))):
        raise UsageError(f"device {device}: choose one of {', '.join(CHOICES)}")
    available = import_onnxruntime().get_available_providers()
    if name == "auto":
        return ["cuda", "cpu"] if PROVIDERS["cuda"].name in available else ["cpu"]
    if PROVIDERS[name].name not in available:
        provider = PROVIDERS[name]
        raise DeviceError(f"--device {device}: this ONNX Runtime has no {provider.name}: {provider.install}")
    return [device]


def open_on_device(model: Path, content: bytes, device: str, tf32: bool) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session that runs all of a model on ``device``.

    Args:
        model: The model file, for messages.
        content: The content of the file.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``openvino``.
        tf32: Allow TF32 in float32 GEMMs; only for CUDA GPUs.

    Raises:
        UsageError: The device has no TF32.
        DeviceError: The device cannot be used, or lacks an operator of the model.
        ModelError: ONNX Runtime cannot run the file.
    """
    ort, provider = import_onnxruntime(), provider_of(device)
    if tf32 and not provider.tf32_option:
        raise UsageError(f"TF32 is for CUDA GPUs, not for the device {device}")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # no messages on stderr, because errors come as exceptions
    ort.set_default_logger_severity(4)  # for messages outside a session, for example about missing memory
    options.intra_op_num_threads = 1  # only the calling thread computes
    if device.startswith("cuda"):
        _load_cuda_libraries(ort)
        # With a pattern, the run that a graph captures would allocate other blocks than the run before, which is
        # forbidden.
        options.enable_mem_pattern = False
    if device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # enable_fallback=0: otherwise ONNX Runtime continues on the CPU and prints a banner on stdout.
        session: onnxruntime.InferenceSession = ort.InferenceSession(
            content,
            options,
            providers=[(provider.name, _provider_options(device, tf32 or is_half(content)))],
            enable_fallback=0,
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        if device.startswith("cuda"):
            raise device_error(device, _missing_library(ort) or str(error), model) from error
        if device != "cpu":
            raise device_error(device, str(error), model) from error
        raise ModelError(f"{model} cannot be loaded: {first_line(error)}") from error
    if session.get_providers()[0] != provider.name:
        raise device_error(device, f"ONNX Runtime chose {session.get_providers()[0]}", model)
    return session


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


def run_error(model: Path, images: int, error: object) -> InferenceError:
    """Return the error for a model that failed on a batch."""
    return InferenceError(f"{model} failed on a batch of {images} images: {first_line(error)}")


def device_error(device: str, problem: str, model: Path) -> DeviceError:
    """Return the error for a device that cannot be used.

    Args:
        device: The device.
        problem: The message of ONNX Runtime, often several hundred characters of C++.
        model: The model file.
    """
    for pattern, advice in _CUDA_PROBLEMS if device.startswith("cuda") else ():
        if match := re.search(pattern, problem):
            return DeviceError(f"--device {device} {match.expand(advice)}")
    return DeviceError(f"--device {device} cannot run {model}: {first_line(problem)}")


def first_line(error: object) -> str:
    """Return the first line of the message of ``error``."""
    return str(error).strip().split("\n", maxsplit=1)[0]


def _provider_options(device: str, tensor_cores: bool) -> dict[str, str]:
    """Return the provider's options; without tensor cores, float32 is as exact as on a CPU."""
    provider, gpu = provider_of(device), device.partition(":")[2]
    tf32_options = {provider.tf32_option: str(int(tensor_cores))} if provider.tf32_option else {}
    return provider.options | tf32_options | ({"device_id": gpu} if gpu else {})


@cache  # the libraries stay loaded, and redirecting stdout again could swallow results of another thread
def _load_cuda_libraries(ort: Any) -> None:
    """Load CUDA and cuDNN from their Python packages, without the messages that ONNX Runtime prints on stdout.

    The messages also name libraries that the provider does not need.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()


def _missing_library(ort: Any) -> str:
    """Return why the dynamic linker cannot load the CUDA provider, or ""; ONNX Runtime itself does not say it."""
    folder = Path(ort.__file__).parent / "capi"
    try:
        for name in ("shared", "cuda"):  # the second library needs the first one
            for library in folder.glob(f"*onnxruntime_providers_{name}.*"):
                ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return ""
