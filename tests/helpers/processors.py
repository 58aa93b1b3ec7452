"""Logits of models on other processors than that of this machine, by the user-mode emulation of qemu.

    qemu-x86_64 -cpu Haswell python tests/helpers/processors.py FOLDER MODEL COUNT ...

computes the logits of the first COUNT images in FOLDER/images.npy and writes them to FOLDER/MODEL.npy.

This file is also the program that qemu runs, so it imports only NumPy and ONNX Runtime.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

QEMU = shutil.which("qemu-x86_64") if platform.machine() == "x86_64" else None
"""The emulator, or None if it is not installed or cannot run this Python."""
NO_QEMU = "qemu-x86_64 is not installed, or this machine is not x86-64: apt install qemu-user"


def logits_on(
    processor: str, models: Mapping[Path, int], images: NDArray[np.uint8], folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Return the logits of models on an emulated processor, by file name.

    Args:
        processor: A name that ``qemu-x86_64 -cpu help`` lists.
        models: The .onnx files, each with the number of images that it classifies: the first ones.
        images: [N, 32, 32, 3].
        folder: A folder for temporary files.
    """
    assert QEMU is not None
    return _emulate([QEMU, "-cpu", processor, sys.executable], models, images, folder)


def logits_on_aarch64(
    root: Path, models: Mapping[Path, int], images: NDArray[np.uint8], folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Return the logits of models, computed by the Python for aarch64 in ``root``, by file name.

    Args:
        root: The folder that tests/aarch64/build.sh wrote.
        models: The .onnx files, each with the number of images that it classifies: the first ones.
        images: [N, 32, 32, 3].
        folder: A folder for temporary files.
    """
    python = ["qemu-aarch64", "-L", root, "-E", f"PYTHONPATH={root / 'site'}", root / "usr" / "bin" / "python3", "-S"]
    return _emulate(python, models, images, folder)


def _emulate(
    python: Sequence[object], models: Mapping[Path, int], images: NDArray[np.uint8], folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Return the logits that this file computes as a program of an emulated Python, whose start takes seconds."""
    np.save(folder / "images.npy", images)
    counts = [word for model, count in models.items() for word in (model, count)]
    command = list(map(str, [*python, __file__, folder, *counts]))
    # OPENBLAS_CORETYPE names the kernels of this processor; the emulated one may not have their instructions.
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return {model.name: np.load(folder / f"{model.name}.npy") for model in models}


def logits_here(model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits [N, classes] of a model on this processor, computed as the runtime does: by one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    batches = np.split(images, range(50, len(images), 50))
    return np.concatenate([session.run(["logits"], {"images": batch})[0] for batch in batches])


def main(folder: Path, *words: str) -> None:
    """Write the logits of each model in ``words``, for as many images in ``folder`` as the word after it says."""
    images = np.load(folder / "images.npy")
    for model, count in zip(map(Path, words[::2]), map(int, words[1::2]), strict=True):
        np.save(folder / f"{model.name}.npy", logits_here(model, images[:count]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
