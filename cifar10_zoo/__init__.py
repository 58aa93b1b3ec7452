"""The TensorFlow CIFAR-10 tutorial in PyTorch: data, network, training, evaluation."""

from importlib.util import find_spec

from cifar10_zoo.interrupt import end_on_interrupt

__version__ = "0.1.0"

end_on_interrupt()
if find_spec("torch") is None or find_spec("safetensors") is None:
    raise ImportError("cifar10_zoo needs its extra train: pip install 'cifar10-zoo[train]'", name=__name__)
