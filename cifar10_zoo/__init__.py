"""The TensorFlow CIFAR-10 tutorial in PyTorch: data, network, training, evaluation."""

__version__ = "0.1.0"
