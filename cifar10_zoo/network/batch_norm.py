"""The network as the modern recipe trains it: with batch normalization, which is folded away afterwards.

Normalized by the statistics of its batch, each layer trains at a learning rate that would otherwise diverge. With fixed
statistics the normalization is one factor and one summand a channel, so that it becomes part of the layer in front of
it: what is evaluated and exported is ``Cifar10Net``, with other weights.

Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar10_zoo.network.model import Cifar10Net

EPSILON = 1e-5
"""Added to each variance."""
MOMENTUM = 0.02
"""Share of a batch in the running statistics."""


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + epsilon) + bias, over everything but channels.

    There is no factor to learn: the layer behind the ReLU that follows can scale. So the normalization keeps the order
    of values, and may change places with a pooling.
    """

    factor: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        # PyTorch's CUDA kernels give no gradient of a bias that comes without a factor.
        self.register_buffer("factor", torch.ones(channels), persistent=False)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` [N, channels, ...], by its own statistics in training, else by the running ones."""
        return F.batch_norm(x, self.mean, self.variance, self.factor, self.bias, self.training, MOMENTUM, EPSILON)


class Cifar10NetBN(Cifar10Net):
    """``Cifar10Net`` with batch normalization in front of each ReLU.

    Args:
        seed: seed of the initial weights.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        for layer in (self.conv1, self.conv2, self.local3, self.local4):
            layer.register_parameter("bias", None)  # the normalization has one
        self.conv1_norm, self.conv2_norm = BatchNorm(64), BatchNorm(64)
        self.local3_norm, self.local4_norm = BatchNorm(384), BatchNorm(192)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, 10] of ``images`` [N, 3, 24, 24] float32, standardized."""
        # Normalization and ReLU do not change which value is the highest: after pool1 they have a quarter of the work.
        x = F.max_pool2d(self.conv1(images), 3, stride=2, ceil_mode=True)  # [N, 64, 12, 12]
        x = self.norm1(F.relu(self.conv1_norm(x)))
        x = self.norm2(F.relu(self.conv2_norm(self.conv2(x))))  # [N, 64, 12, 12]
        x = F.max_pool2d(x, 3, stride=2, ceil_mode=True).flatten(1)  # [N, 2304]
        x = F.relu(self.local3_norm(self.local3(x)))  # [N, 384]
        x = F.relu(self.local4_norm(self.local4(x)))  # [N, 192]
        logits: Tensor = self.softmax_linear(x)  # [N, 10]
        return logits

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Those of the folded network."""
        return fold_batch_norm(self).activations(images)


@torch.no_grad()
def fold_batch_norm(model: Cifar10Net) -> Cifar10Net:
    """The plain network that gives the same logits as ``model`` with its running statistics."""
    if not isinstance(model, Cifar10NetBN):
        return model
    plain = Cifar10Net().to(model.conv1.weight.device)
    for name in ("conv1", "conv2", "local3", "local4"):
        norm, kernel = getattr(model, f"{name}_norm"), getattr(model, name).weight
        factor = torch.rsqrt(norm.variance + EPSILON)
        target = getattr(plain, name)
        target.weight.copy_(kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1)))
        target.bias.copy_(norm.bias - norm.mean * factor)
    plain.softmax_linear.load_state_dict(model.softmax_linear.state_dict())
    return plain
