"""cifar10-infer doctor: what is installed, what is found, and whether it works."""

import ctypes.util
import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata

import numpy as np

from cifar10_runtime.engine.classifier import Classifier
from cifar10_runtime.engine.models import FOLDER, bundled, find_model, read_model
from cifar10_runtime.engine.session import PROVIDERS, import_onnxruntime
from cifar10_runtime.engine.threads import cgroup_limit, usable_processors
from cifar10_runtime.errors import InferenceError
from cifar10_runtime.options import ClassifierOptions
from cifar10_runtime.version import version_of

_PACKAGES = ("cifar10-zoo", "numpy", "pillow", "kornia-rs", "simplejpeg", "pyarrow")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-training")
_CUDA_LIBRARIES = ("cuda", "cudart", "cublas", "cudnn")
_SECONDS = 1.0
_TOLERANCE = 1e-4
"""Between the probabilities of the two layouts of the default model, which are computed in different ways."""

_Finding = tuple[str, str, bool]  # what, how it is, whether that is well


def examine() -> bool:
    """Print what is found on stdout, and return whether all is well."""
    well = True
    for name, found, good in _findings():
        print(f"{'  ' if good else '! '}{name:<26}{found}", flush=True)
        well &= good
    print("all is well" if well else "the lines with ! say what to do")
    return well


def _findings() -> Iterator[_Finding]:
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", True
    for name in _PACKAGES:
        yield name, version_of(name), name == "pyarrow" or version_of(name) != "not installed"
    yield from _onnxruntime()
    yield from _cuda()
    yield from _processors()
    yield from _models()
    yield from _self_test()


def _onnxruntime() -> Iterator[_Finding]:
    wheels = {name: version for name in _RUNTIMES if (version := version_of(name)) != "not installed"}
    yield "ONNX Runtime", ", ".join(f"{name} {version}" for name, version in wheels.items()) or "not installed", True
    if len(wheels) > 1:
        yield "", f"these overwrite each other: pip uninstall {' '.join(wheels)}, then install one of them again", False
    try:
        runtime = import_onnxruntime()
    except InferenceError as error:
        yield "", str(error), False
        return
    yield "execution providers", ", ".join(runtime.get_available_providers()), True


def _cuda() -> Iterator[_Finding]:
    found = [name for name in _CUDA_LIBRARIES if ctypes.util.find_library(name)]
    packages = sorted(
        f"{name} {distribution.version}"
        for distribution in metadata.distributions()
        if (name := str(distribution.metadata["Name"])).startswith("nvidia-")
    )
    yield "CUDA on the system", ", ".join(f"lib{name}" for name in found) or "not found", True
    yield "CUDA from packages", ", ".join(packages) or "none", True


def _processors() -> Iterator[_Finding]:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "processors", f"{os.cpu_count()} in the machine, {allowed} by affinity, {cgroup_limit():g} by cgroup", True
    yield "threads", str(usable_processors()), True


def _models() -> Iterator[_Finding]:
    for name, entry in bundled().items():
        for file in entry["files"].values():
            try:
                read_model(FOLDER / file["name"], file["sha256"])
                yield f"model {name}", f"{file['name']}, SHA-256 {file['sha256'][:16]}..., as it should be", True
            except InferenceError as error:
                yield f"model {name}", str(error), False


def _self_test() -> Iterator[_Finding]:
    """The default model for a second on each device that is there, against its other layout."""
    batch = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
    try:
        available = import_onnxruntime().get_available_providers()
        with Classifier(find_model(ClassifierOptions.model, "direct")[0], device="cpu") as reference:
            expected = reference.probabilities(batch)
    except InferenceError as error:
        yield "self-test", str(error), False
        return
    for device in [device for device, provider in PROVIDERS.items() if provider.name in available]:
        try:
            with Classifier(device=device) as classifier:
                difference = float(np.abs(classifier.probabilities(batch) - expected).max())
                yield f"self-test on {device}", f"{_speed(classifier, batch):.0f} images/s", True
        except InferenceError as error:
            yield f"self-test on {device}", str(error), False
            continue
        if difference > _TOLERANCE:
            yield "", f"its probabilities are off by {difference:.2g}: report this", False


def _speed(classifier: Classifier, batch: np.ndarray) -> float:
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        classifier.probabilities(batch)
        images += len(batch)
    return images / (time.perf_counter() - start)
