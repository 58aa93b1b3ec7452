"""Classify images with an exported model through ONNX Runtime; needs no PyTorch.

from cifar10_runtime import Classifier

for prediction in Classifier().classify(["cat.png"]):
    print(prediction.label, prediction.probability)
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cifar10_runtime.engine.classifier import Classifier
    from cifar10_runtime.errors import (
        DeviceError,
        ImageError,
        InferenceError,
        ModelError,
        OutputError,
        TooManyFailures,
        UsageError,
    )
    from cifar10_runtime.prediction import Prediction

__all__ = [
    "Classifier",
    "DeviceError",
    "ImageError",
    "InferenceError",
    "ModelError",
    "OutputError",
    "Prediction",
    "TooManyFailures",
    "UsageError",
]


def __getattr__(name: str) -> object:
    """Import a name on first use, so that cifar10-infer handles signals and --help before it imports NumPy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"Classifier": "engine.classifier", "Prediction": "prediction"}.get(name, "errors")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
