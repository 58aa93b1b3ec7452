"""Export a trained network to ONNX, and verify the exported file against PyTorch."""

from importlib.util import find_spec

import cifar10_zoo  # noqa: F401 - first, because it handles Ctrl-C during the imports below

if find_spec("onnx") is None or find_spec("onnxscript") is None:
    raise ImportError("cifar10_export needs its extra export: pip install 'cifar10-zoo[export]'", name=__name__)

from cifar10_export.graph import ServingGraph
from cifar10_export.variants import Variant, build
from cifar10_export.verify import VerificationError, verify

__all__ = ["ServingGraph", "Variant", "VerificationError", "build", "verify"]
