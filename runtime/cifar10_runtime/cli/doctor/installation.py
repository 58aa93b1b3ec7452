"""What is installed: packages, ONNX Runtime, CUDA, CPUs and model files."""

import ctypes.util
import math
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from cifar10_runtime.engine.devices import import_onnxruntime
from cifar10_runtime.engine.models import FOLDER, bundled, read_model
from cifar10_runtime.engine.threads import allowed_processors, cgroup_limit, usable_processors
from cifar10_runtime.errors import InferenceError
from cifar10_runtime.version import NOT_INSTALLED, version_of

_PACKAGES = ("cifar10-zoo", "numpy", "pillow", "jinja2")
OPTIONAL_PACKAGES = {
    "kornia-rs": "decodes PNG files faster: pip install 'cifar10-zoo[fast]'",
    "simplejpeg": "decodes JPEG files faster: pip install 'cifar10-zoo[fast]'",
    "pillow-heif": "reads HEIC and HEIF files: pip install 'cifar10-zoo[heif]'",
    "pyarrow": "reads and writes Parquet: pip install 'cifar10-zoo[parquet]'",
}
"""What each optional package is for, and the command that installs it."""
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-training")
_CUDA_LIBRARIES = ("cuda", "cudart", "cublas", "cudnn")


@dataclass(frozen=True)
class Problem:
    """Something that is not good."""

    subject: str
    """The package, file, model or device."""
    advice: str
    """What is wrong and what to do."""


@dataclass(frozen=True)
class Processors:
    """The CPUs of this machine."""

    machine: int | None
    """All CPUs; None if the system does not say."""
    affinity: int
    """The CPUs that the affinity mask allows."""
    cgroup: float | None
    """The limit of the cgroups, maybe a fraction; None without a limit."""
    threads: int
    """The threads that cifar10-infer uses."""


@dataclass(frozen=True)
class ModelFile:
    """A file of a bundled model."""

    model: str
    """The name of the model."""
    name: str
    """The name of the file."""
    sha256: str
    """The SHA-256 that the file must have."""
    problem: str
    """What is wrong with the file, and what to do; empty if it is intact."""


@dataclass(frozen=True)
class Installation:
    """Everything that the doctor finds without running a model."""

    python: str
    """The version of Python."""
    system: str
    """The operating system and the kind of CPU."""
    packages: Mapping[str, str | None]
    """The version of each package; None if it is not installed."""
    runtimes: Mapping[str, str]
    """The version of each installed package of ONNX Runtime; there should be exactly one."""
    execution_providers: tuple[str, ...]
    """The execution providers of ONNX Runtime."""
    cuda_libraries: tuple[str, ...]
    """CUDA's libraries that the system has."""
    cuda_packages: Mapping[str, str]
    """The version of each installed package of NVIDIA."""
    processors: Processors
    model_files: tuple[ModelFile, ...]


def inspect_installation() -> tuple[Installation, list[Problem]]:
    """Return what is installed, and what is wrong with it."""
    packages = {name: _version(name) for name in (*_PACKAGES, *OPTIONAL_PACKAGES)}
    runtimes = {name: version for name in _RUNTIMES if (version := _version(name))}
    problems = [Problem(name, f"not installed: pip install {name}") for name in _PACKAGES if not packages[name]]
    if len(runtimes) > 1:
        advice = (
            f"these packages overwrite each other: pip uninstall {' '.join(runtimes)}, then install only one of them"
        )
        problems.append(Problem("ONNX Runtime", advice))
    try:
        providers = tuple(import_onnxruntime().get_available_providers())
    except InferenceError as error:
        providers = ()
        problems.append(Problem("ONNX Runtime", str(error)))
    files = list(_model_files())
    problems += (Problem(f"model {file.model}", file.problem) for file in files if file.problem)
    installation = Installation(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        packages=packages,
        runtimes=runtimes,
        execution_providers=providers,
        cuda_libraries=tuple(f"lib{name}" for name in _CUDA_LIBRARIES if ctypes.util.find_library(name)),
        cuda_packages=_cuda_packages(),
        processors=_processors(),
        model_files=tuple(files),
    )
    return installation, problems


def _version(package: str) -> str | None:
    version = version_of(package)
    return None if version == NOT_INSTALLED else version


def _cuda_packages() -> dict[str, str]:
    versions = {str(distribution.metadata["Name"]): distribution.version for distribution in metadata.distributions()}
    return {name: versions[name] for name in sorted(versions) if name.startswith("nvidia-")}


def _processors() -> Processors:
    limit = cgroup_limit()
    return Processors(
        machine=os.cpu_count(),
        affinity=allowed_processors(),
        cgroup=None if math.isinf(limit) else limit,
        threads=usable_processors(),
    )


def _model_files() -> Iterator[ModelFile]:
    for model, entry in bundled().items():
        for file in entry["files"].values():
            problem = ""
            try:
                read_model(FOLDER / file["name"], file["sha256"])
            except InferenceError as error:
                problem = str(error)
            yield ModelFile(model, file["name"], file["sha256"], problem)
