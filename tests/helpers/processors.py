"""Logits of models on other processors than that of this machine, by the user-mode emulation of qemu.

    qemu-x86_64 -cpu Haswell python tests/helpers/processors.py MODEL IMAGES.npy LOGITS.npy

This file is also the program that qemu runs, so it imports only NumPy and ONNX Runtime.
"""

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

QEMU = shutil.which("qemu-x86_64") if platform.machine() == "x86_64" else None
"""The emulator, or None if it is not installed or cannot run this Python."""
NO_QEMU = "qemu-x86_64 is not installed, or this machine is not x86-64: apt install qemu-user"


def logits_on(processor: str, model: Path, images: NDArray[np.uint8], folder: Path) -> NDArray[np.float32]:
    """Return the logits [N, classes] of a model on an emulated processor.

    Args:
        processor: A name that ``qemu-x86_64 -cpu help`` lists.
        model: The .onnx file.
        images: [N, 32, 32, 3].
        folder: A folder for temporary files.
    """
    assert QEMU is not None
    return _emulate([QEMU, "-cpu", processor, sys.executable], model, images, folder)


def logits_on_aarch64(root: Path, model: Path, images: NDArray[np.uint8], folder: Path) -> NDArray[np.float32]:
    """Return the logits [N, classes] of a model, computed by the Python for aarch64 in ``root``.

    Args:
        root: The folder that tests/aarch64/build.sh wrote.
        model: The .onnx file.
        images: [N, 32, 32, 3].
        folder: A folder for temporary files.
    """
    python = ["qemu-aarch64", "-L", root, "-E", f"PYTHONPATH={root / 'site'}", root / "usr" / "bin" / "python3", "-S"]
    return _emulate(python, model, images, folder)


def _emulate(python: Sequence[object], model: Path, images: NDArray[np.uint8], folder: Path) -> NDArray[np.float32]:
    """Return the logits that this file computes as a program of an emulated Python."""
    inputs, outputs = folder / "images.npy", folder / "logits.npy"
    np.save(inputs, images)
    command = [*map(str, python), __file__, str(model), str(inputs), str(outputs)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    logits: NDArray[np.float32] = np.load(outputs)
    return logits


def logits_here(model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits [N, classes] of a model on this processor, computed as the runtime does: by one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    batches = np.split(images, range(50, len(images), 50))
    return np.concatenate([session.run(["logits"], {"images": batch})[0] for batch in batches])


if __name__ == "__main__":
    source, inputs, outputs = map(Path, sys.argv[1:])
    np.save(outputs, logits_here(source, np.load(inputs)))
