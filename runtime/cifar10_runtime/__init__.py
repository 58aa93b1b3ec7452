"""Classify images with an exported model through ONNX Runtime; needs no PyTorch.

from cifar10_runtime import Classifier

for prediction in Classifier().classify(["cat.png"]):
    print(prediction.label, prediction.probability)
"""

from cifar10_runtime.classifier import Classifier, Prediction
from cifar10_runtime.errors import DeviceError, ImageError, InferenceError, ModelError, UsageError

__all__ = ["Classifier", "DeviceError", "ImageError", "InferenceError", "ModelError", "Prediction", "UsageError"]
