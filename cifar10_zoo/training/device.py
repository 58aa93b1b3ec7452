"""Choice of the device to compute on."""

import os
from typing import Literal

import torch

from cifar10_zoo.errors import DeviceError

DeviceChoice = Literal["auto", "cpu", "cuda"]


def choose_device(device: DeviceChoice) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is a usable GPU, else the CPU.

    Raises:
        DeviceError: ``cuda`` without a usable GPU; there is no silent fall-back.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: this PyTorch finds no CUDA GPU; use --device cpu, or check nvidia-smi")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False  # float32 as on the CPU
    number = int(os.environ.get("LOCAL_RANK", "0"))  # torchrun's: each process has a GPU of its own
    if number >= torch.cuda.device_count():
        raise DeviceError(f"process {number + 1} of this machine has no GPU: it has {torch.cuda.device_count()}")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
