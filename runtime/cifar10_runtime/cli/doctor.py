"""cifar10-infer doctor: shows what is installed and checks that it works."""

import ctypes.util
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from cifar10_runtime.engine.classifier import Classifier
from cifar10_runtime.engine.devices import PROVIDERS, import_onnxruntime
from cifar10_runtime.engine.models import FOLDER, bundled, find_model, read_model
from cifar10_runtime.engine.threads import allowed_processors, cgroup_limit, usable_processors
from cifar10_runtime.errors import InferenceError
from cifar10_runtime.options import ClassifierOptions
from cifar10_runtime.version import NOT_INSTALLED, version_of

_PACKAGES = ("cifar10-zoo", "numpy", "pillow", "kornia-rs", "simplejpeg", "jinja2")
_OPTIONAL_PACKAGES = ("pillow-heif", "pyarrow")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-training")
_CUDA_LIBRARIES = ("cuda", "cudart", "cublas", "cudnn")
_SECONDS = 1.0
"""Duration of the speed test per device, in seconds."""
_TOLERANCE = 1e-4
"""Largest allowed difference between the probabilities of the Winograd graph and of the direct-convolution graph."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's output."""

    subject: str
    """What was examined; empty if the line explains the one above it."""
    text: str
    """What was found and, if it is a problem, what to do."""
    is_good: bool = True


def examine() -> bool:
    """Print all findings on stdout and return whether all of them are good."""
    all_good = True
    for finding in _findings():
        print(f"{'  ' if finding.is_good else '! '}{finding.subject:<26}{finding.text}", flush=True)
        all_good &= finding.is_good
    print("all is well" if all_good else "the lines that start with ! say what to do")
    return all_good


def _findings() -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in _PACKAGES:
        version = version_of(name)
        yield Finding(name, version, is_good=version != NOT_INSTALLED)
    for name in _OPTIONAL_PACKAGES:
        yield Finding(name, version_of(name))
    yield from _onnxruntime()
    yield from _cuda()
    yield from _processors()
    yield from _models()
    yield from _self_tests()


def _onnxruntime() -> Iterator[Finding]:
    wheels = {name: version for name in _RUNTIMES if (version := version_of(name)) != NOT_INSTALLED}
    yield Finding("ONNX Runtime", ", ".join(f"{name} {version}" for name, version in wheels.items()) or NOT_INSTALLED)
    if len(wheels) > 1:
        advice = f"these packages overwrite each other: pip uninstall {' '.join(wheels)}, then install only one of them"
        yield Finding("", advice, is_good=False)
    try:
        runtime = import_onnxruntime()
    except InferenceError as error:
        yield Finding("", str(error), is_good=False)
        return
    yield Finding("execution providers", ", ".join(runtime.get_available_providers()))


def _cuda() -> Iterator[Finding]:
    libraries = [f"lib{name}" for name in _CUDA_LIBRARIES if ctypes.util.find_library(name)]
    packages = sorted(
        f"{name} {distribution.version}"
        for distribution in metadata.distributions()
        if (name := str(distribution.metadata["Name"])).startswith("nvidia-")
    )
    yield Finding("CUDA on the system", ", ".join(libraries) or "not found")
    yield Finding("CUDA from packages", ", ".join(packages) or "none")


def _processors() -> Iterator[Finding]:
    allowed = allowed_processors()
    limits = f"{os.cpu_count()} in the machine, {allowed} by affinity, {cgroup_limit():g} by cgroup"
    yield Finding("processors", limits)
    yield Finding("threads", str(usable_processors()))


def _models() -> Iterator[Finding]:
    for name, entry in bundled().items():
        for file in entry["files"].values():
            try:
                read_model(FOLDER / file["name"], file["sha256"])
            except InferenceError as error:
                yield Finding(f"model {name}", str(error), is_good=False)
            else:
                yield Finding(f"model {name}", f"{file['name']}, SHA-256 {file['sha256'][:16]}..., intact")


def _self_tests() -> Iterator[Finding]:
    """Run the default model on each device and compare it with the direct-convolution graph on the CPU."""
    batch = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
    try:
        available = import_onnxruntime().get_available_providers()
        with Classifier(find_model(ClassifierOptions.model, "direct")[0], device="cpu") as reference:
            expected = reference.probabilities(batch)
    except InferenceError as error:
        yield Finding("self-test", str(error), is_good=False)
        return
    for device, provider in PROVIDERS.items():
        if provider.name in available:
            yield from _self_test(device, batch, expected)


def _self_test(device: str, batch: np.ndarray, expected: np.ndarray) -> Iterator[Finding]:
    try:
        with Classifier(device=device) as classifier:
            difference = float(np.abs(classifier.probabilities(batch) - expected).max())
            yield Finding(f"self-test on {device}", f"{_speed(classifier, batch):.0f} images/s")
    except InferenceError as error:
        yield Finding(f"self-test on {device}", str(error), is_good=False)
        return
    if difference > _TOLERANCE:
        yield Finding("", f"its probabilities differ by {difference:.2g}: please report this", is_good=False)


def _speed(classifier: Classifier, batch: np.ndarray) -> float:
    """Return the throughput in images/s, measured for ``_SECONDS``."""
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        classifier.probabilities(batch)
        images += len(batch)
    return images / (time.perf_counter() - start)
