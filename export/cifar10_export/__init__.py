"""Export of trained networks to ONNX, verified against PyTorch."""

from cifar10_export.graph import ServingGraph, build
from cifar10_export.verify import VerificationError, verify

__all__ = ["ServingGraph", "VerificationError", "build", "verify"]
