"""Export a trained network to ONNX, and verify the exported file against PyTorch."""

from cifar10_export.graph import ServingGraph
from cifar10_export.variants import Variant, build
from cifar10_export.verify import VerificationError, verify

__all__ = ["ServingGraph", "Variant", "VerificationError", "build", "verify"]
