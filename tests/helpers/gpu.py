"""Whether this machine has a GPU that a package can use."""

from functools import cache

import torch
from cifar10_runtime import Classifier, DeviceError


@cache
def can_use_gpu(package: str) -> bool:
    """Return whether ``package``, torch or onnxruntime-gpu, can use a CUDA GPU."""
    if package == "torch":
        return torch.cuda.is_available()
    try:
        Classifier(device="cuda").close()
    except DeviceError:
        return False
    return True
