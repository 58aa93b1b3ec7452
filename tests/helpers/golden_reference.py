"""The weights and images behind the golden numbers, and comparison with golden arrays.

Golden arrays have TensorFlow's dimension order: kernels [height, width, in, out], dense weights [in, out], activations
[N, H, W, C], and the rows of local3 in (row, column, channel) order of pool2.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.training.state import TrainingState

Array = NDArray[Any]

GOLDEN = Path(__file__).parents[1] / "golden"

NOISE_MULTIPLE = 10
"""Tolerance of a value, in multiples of its noise floor."""
FLOAT32_RESOLUTION = 2.0**-23
CHECKSUM_TOLERANCE = 2.5e-6
"""Tolerance of a sum, relative to the magnitude of its terms.

The original rounds the mean to float32. So the sum of one of its standardized images differs by 2.1e-6 from exact
arithmetic."""

# Noise floors of the original on two towers, as explained in test_golden.py; for the loss, the tolerance itself.
TOWER_GRADIENT_NOISE = {
    "conv1/weights": 4.19e-9,
    "conv1/biases": 5.24e-9,
    "conv2/weights": 1.22e-9,
    "conv2/biases": 1.92e-9,
    "local3/weights": 1.16e-9,
    "local3/biases": 3.49e-10,
    "local4/weights": 3.38e-9,
    "local4/biases": 3.49e-10,
    "softmax_linear/weights": 2.53e-7,
    "softmax_linear/biases": 1.49e-8,
}
TOWER_VARIABLE_NOISE = 2.61e-8
TOWER_LOSS_TOLERANCE = 4.77e-6

VARIABLES = {
    "conv1/weights": ((5, 5, 3, 64), 0.05),
    "conv1/biases": ((64,), 0.1),
    "conv2/weights": ((5, 5, 64, 64), 0.05),
    "conv2/biases": ((64,), 0.1),
    "local3/weights": ((2304, 384), 0.04),
    "local3/biases": ((384,), 0.1),
    "local4/weights": ((384, 192), 0.04),
    "local4/biases": ((192,), 0.1),
    "softmax_linear/weights": ((192, 10), 1 / 192),
    "softmax_linear/biases": ((10,), 0.1),
}
"""Name, shape and scale of each variable of the original, in the order in which the random values are sampled."""


class Reference:
    """The golden numbers of one ``seedN`` folder with their weights and images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        random = np.random.default_rng(int(folder.name.removeprefix("seed")))
        self.variables = {
            name: (random.standard_normal(shape) * scale).astype(np.float32)
            for name, (shape, scale) in VARIABLES.items()
        }
        self.images_nhwc = random.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
        self.images_nhwc[15] = 77
        self.labels = torch.from_numpy(random.integers(0, 10, 16))

    @property
    def images(self) -> Tensor:
        """[16, 3, 32, 32] uint8."""
        return torch.from_numpy(self.images_nhwc).permute(0, 3, 1, 2)

    def arrays(self, name: str) -> Mapping[str, Array]:
        """Return the golden arrays of ``NAME.npz``."""
        with np.load(self.folder / f"{name}.npz") as file:
            return dict(file)

    def state(self, hyperparameters: Hyperparameters | None = None) -> TrainingState:
        """Return a training state at step 0; its weights and EMA weights are the known weights."""
        state = TrainingState(hyperparameters or Hyperparameters(batch_size=16))
        with torch.no_grad():
            for name, parameter in state.model.named_parameters():
                parameter.copy_(to_torch(tf_name(name), self.variables[tf_name(name)]))
                state.ema.weights[name].copy_(parameter)
        return state


def tf_name(name: str) -> str:
    """Return the name in the original: ``conv1.weight`` -> ``conv1/weights``."""
    return name.replace(".weight", "/weights").replace(".bias", "/biases")


def to_torch(name: str, value: Array) -> Tensor:
    """Return a variable of the original in PyTorch's dimension order."""
    if name == "local3/weights":
        value = value.reshape(6, 6, 64, 384).transpose(3, 2, 0, 1).reshape(384, 2304)
    elif value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    else:
        value = value.T
    return torch.from_numpy(np.ascontiguousarray(value))


def to_tf(name: str, value: Tensor) -> Array:
    """Return a tensor in the dimension order of the original: the inverse of ``to_torch``."""
    array = value.detach().numpy()
    if name == "local3/weights":
        return array.reshape(384, 64, 6, 6).transpose(2, 3, 1, 0).reshape(2304, 384)
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def nhwc(value: Tensor) -> Array:
    """Return an activation in TensorFlow's dimension order."""
    array = value.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def assert_matches(actual: Array, golden: Mapping[str, Array], name: str, noise_floor: float = 0.0) -> None:
    """Assert that ``actual`` matches ``golden[name]``, or its shape, sums and samples if only these were recorded.

    Values may differ by ``NOISE_MULTIPLE`` times the noise floor, which is at least the resolution of float32.
    """
    tolerance = NOISE_MULTIPLE * max(noise_floor, FLOAT32_RESOLUTION * float(np.abs(actual).max()))
    if name in golden:
        assert actual.shape == golden[name].shape, name
        np.testing.assert_allclose(actual, golden[name], rtol=0, atol=tolerance, err_msg=name)
        return
    assert list(actual.shape) == golden[f"{name}__shape"].tolist(), name
    samples = actual.ravel()[np.linspace(0, actual.size - 1, 64).astype(int)]
    np.testing.assert_allclose(samples, golden[f"{name}__samples"], rtol=0, atol=tolerance, err_msg=name)
    exact, sum_of_squares = actual.astype(np.float64), float(golden[f"{name}__sumsq"])
    magnitude = np.sqrt(sum_of_squares * actual.size)  # not the sum itself, because signed values cancel
    assert abs(exact.sum() - golden[f"{name}__sum"]) <= CHECKSUM_TOLERANCE * magnitude, name
    assert abs((exact**2).sum() - sum_of_squares) <= CHECKSUM_TOLERANCE * sum_of_squares, name
