"""Choice of the device to compute on."""

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
    torch.backends.cudnn.allow_tf32 = False  # float32 as on the CPU
    return torch.device(device)
