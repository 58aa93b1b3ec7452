"""The machine that runs the benchmarks: hardware and versions, for the results, their file name and the pages."""

import contextlib
import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

import torch
from cifar10_runtime.engine.threads import usable_processors

PACKAGES = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "onnxruntime-gpu": "ONNX Runtime for GPUs",
    "openvino": "OpenVINO",
    "kornia-rs": "kornia-rs",
    "simplejpeg": "simplejpeg",
    "pillow": "Pillow",
    "numpy": "NumPy",
}
"""The packages that decide on the speed, and how they are written."""
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX INT8",
    "amx_bf16": "AMX BF16",
}
"""CPU flags of Linux that decide on the speed of int8 and bf16, and how they are written."""

Machine = dict[str, Any]
"""``processor``, ``processors``, ``instructions``, ``gpu`` and ``versions``, as the results keep them in JSON."""


def this_machine() -> Machine:
    """Describe this machine."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    cpu = _cpu()
    return {
        "processor": cpu.get("name", platform.processor() or platform.machine()),
        "processors": usable_processors(),
        "instructions": [name for flag, name in INSTRUCTIONS.items() if flag in cpu.get("flags", "").split()],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"python": platform.python_version(), **versions},
    }


def _cpu() -> dict[str, str]:
    """Return the CPU's name and flags; empty except on Linux.

    The name ends with family and model, because many virtual machines hide the rest of the name.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "cpu family" not in facts:  # not an x86 CPU
        return {}
    name = f"{facts['model name']} family {facts['cpu family']} model {facts['model']}"
    return {"name": name, "flags": facts["flags"]}


def file_name(machine: Machine) -> str:
    """Return versions and hardware as the beginning of a file name."""
    versions = machine["versions"]
    runtime = versions.get("onnxruntime") or versions.get("onnxruntime-gpu")
    hardware = machine["gpu"] or f"{machine['processor']} {machine['processors']} cores"
    slug = re.sub(r"[^a-z0-9.]+", "-", hardware.lower()).strip("-")
    return f"bench-torch{versions['torch'].split('+')[0]}-onnxruntime{runtime}-{slug}"


def in_words(machine: Machine) -> str:
    """Return hardware and versions as two sentences."""
    processor = re.sub(r" family (\d+) model (\d+)$", r" (family \1, model \2)", machine["processor"])
    instructions = f" with {', '.join(machine['instructions'])}" if machine.get("instructions") else ""
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    versions = machine["versions"]
    packages = [f"{name} {versions[package]}" for package, name in PACKAGES.items() if package in versions]
    hardware = f"Hardware: {machine['processors']} cores of {processor}{instructions}{gpu}."
    return f"{hardware} Versions: Python {versions['python']}, {', '.join(packages)}."
