"""The devices that ONNX Runtime can use, and ONNX Runtime sessions on a device without a silent fallback to another."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar10_runtime.engine.instructions import has_avx512, has_bf16
from cifar10_runtime.engine.models import is_half
from cifar10_runtime.errors import DeviceError, InferenceError, ModelError, UsageError

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class Provider:
    """The execution provider of a device, and how the runtime uses it."""

    name: str
    """ONNX Runtime's name of the provider."""
    package: str
    """The package of ONNX Runtime that has the provider; these packages overwrite each other."""
    extra: str
    """The extra of cifar10-zoo that installs the package."""
    conv2_algorithm: str
    """The conv2 algorithm that is faster on the device: ``winograd`` or ``direct``; bundled models may have both."""


PROVIDERS: dict[str, Provider] = {
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu", "gpu", "direct"),
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino", "openvino", "winograd"),
    "cpu": Provider("CPUExecutionProvider", "onnxruntime", "cpu", "winograd"),
}
"""The execution provider of each device, in the order in which ``auto`` tries them."""
CHOICES = ("auto", "cpu", "cuda", "cuda:N", "openvino")
"""The values of ``--device``; ``auto`` means the fastest device that works; N is the number of a GPU."""


_CUDA_PROBLEMS = (
    (r"CUDA failure 100", "finds no NVIDIA GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"),
    (r"CUDA failure 101|Invalid device ID", "finds no GPU with this number: see nvidia-smi and CUDA_VISIBLE_DEVICES"),
    (r"CUDA failure 35|libcuda\.so|nvcuda\.dll", "needs an NVIDIA driver, or a newer one: see nvidia-smi"),
    (r"no kernel image", "cannot be used: this onnxruntime-gpu has no machine code for this GPU; use --device cpu"),
    (r"(?i)out of memory|allocate memory|ALLOC_FAILED", "has too little free memory: see nvidia-smi"),
    (r"(?i)cudnn\S* is unavailable|libcudnn\S*", "needs cuDNN 9: pip install 'cifar10-zoo[gpu]'"),
    (r"(lib\w+\.so[.\d]*): (?:cannot open|undefined)", r"needs \1: pip install 'cifar10-zoo[gpu]'"),
    (r"CPU EP|graph capture", "lacks operators of this model: use --model fp32 or fp16, or --device cpu"),
)
"""Patterns in the messages of ONNX Runtime, CUDA and the dynamic linker, and what they mean to a user."""


def provider_of(device: str) -> Provider:
    """Return the provider of a device, which may have a number: ``cuda:1``."""
    return PROVIDERS[device.partition(":")[0]]


def available() -> list[str]:
    """Return the devices that the installed ONNX Runtime has providers for, in the order of ``PROVIDERS``.

    A device of the list may still not work: an ``onnxruntime-gpu`` without a GPU lists ``cuda``.

    Raises:
        DeviceError: ONNX Runtime is not installed.
    """
    providers = import_onnxruntime().get_available_providers()
    return [device for device, provider in PROVIDERS.items() if provider.name in providers]


def candidates(device: str) -> list[str]:
    """Return the devices to try, in order, for a value of ``--device``; only ``auto`` may have several.

    Raises:
        UsageError: No device has this name.
        DeviceError: ONNX Runtime is not installed, or has no execution provider for the device.
    """
    name, colon, number = str(device).partition(":")
    if name not in ("auto", *PROVIDERS) or (colon and (name != "cuda" or not (number.isascii() and number.isdigit()))):
        raise UsageError(f"device {device}: choose one of {', '.join(CHOICES)}")
    devices = available()
    if name == "auto":
        return fastest_first(devices)
    if name not in devices:
        provider = PROVIDERS[name]
        others = " ".join(other.package for other in PROVIDERS.values() if other is not provider)
        raise DeviceError(
            f"--device {device}: this ONNX Runtime has no {provider.name}: pip uninstall {others}, "
            f"then pip install 'cifar10-zoo[{provider.extra}]'"
        )
    return [device]


def fastest_first(devices: list[str]) -> list[str]:
    """Return the devices that ``auto`` tries, in order: CUDA, OpenVINO if the processor has AVX-512, then the CPU.

    OpenVINO has the faster kernels for AVX-512, and ONNX Runtime's own CPU provider those for AVX2: docs/benchmarks.md.
    """
    return [device for device in devices if device != "openvino" or has_avx512()]


def open_on_device(
    model: Path, content: bytes, device: str, fast_math: bool, threads: int
) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session that runs all of a model on ``device``.

    Args:
        model: The model file, for messages.
        content: The content of the file.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``openvino``.
        fast_math: Allow faster, less exact arithmetic: TF32 on CUDA, bf16 on OpenVINO.
        threads: Calls that compute at the same time on OpenVINO; each uses one CPU.

    Raises:
        UsageError: The device has no faster, less exact arithmetic.
        DeviceError: The device cannot be used, or lacks an operator of the model.
        ModelError: ONNX Runtime cannot run the file.
    """
    ort, provider = import_onnxruntime(), provider_of(device)
    if fast_math:
        _check_fast_math(device)
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
    provider_options = _provider_options(device, fast_math, is_half(content), threads)
    try:
        # enable_fallback=0: otherwise ONNX Runtime continues on the CPU and prints a banner on stdout.
        session: onnxruntime.InferenceSession = ort.InferenceSession(
            content, options, providers=[(provider.name, provider_options)], enable_fallback=0
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
            "ONNX Runtime is not installed: pip install 'cifar10-zoo[cpu]', 'cifar10-zoo[openvino]' for AVX-512, or "
            "'cifar10-zoo[gpu]' for NVIDIA GPUs"
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
    if "CPU EP" in problem:  # some nodes would run on the CPU provider
        return DeviceError(f"--device {device} lacks operators of {model}: use --device cpu")
    return DeviceError(f"--device {device} cannot run {model}: {first_line(problem)}")


def first_line(error: object) -> str:
    """Return the first line of the message of ``error``."""
    return str(error).strip().split("\n", maxsplit=1)[0]


def _check_fast_math(device: str) -> None:
    """Check that ``device`` has faster, less exact arithmetic.

    Raises:
        UsageError: It has none.
    """
    if device == "cpu":
        raise UsageError("--fast-math is for CUDA GPUs (TF32) and OpenVINO (bf16), not for the device cpu")
    if device == "openvino" and not has_bf16():  # OpenVINO would emulate bf16 (AVX-512), or ignore the option (AVX2)
        raise UsageError("--fast-math on OpenVINO needs bf16 instructions, which this processor does not have")


def _provider_options(device: str, fast_math: bool, half: bool, threads: int) -> dict[str, str]:
    """Return the provider's options: float32 is as exact as on a CPU unless ``fast_math`` is true."""
    name, _, gpu = device.partition(":")
    if name == "cuda":
        tensor_cores = fast_math or half  # float16 has no other fast arithmetic
        return {"enable_cuda_graph": "1", "use_tf32": str(int(tensor_cores))} | ({"device_id": gpu} if gpu else {})
    if name == "openvino":
        config = {
            "INFERENCE_PRECISION_HINT": "bf16" if fast_math else "f32",
            "NUM_STREAMS": str(threads),  # a stream is a thread, and computes one call at a time
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",  # several processes would take the same CPUs
        }
        return {"device_type": "CPU", "load_config": json.dumps({"CPU": config})}
    return {}


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
