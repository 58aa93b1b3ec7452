"""Models, ONNX Runtime sessions and the classifier."""
