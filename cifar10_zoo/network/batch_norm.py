"""The network with batch normalization, as the modern recipe trains it.

Batch normalization makes training stable at learning rates that otherwise diverge. With fixed statistics it is a
per-channel scale and shift, and ``fold_batch_norm`` moves both into the preceding layer: evaluation and export use a
plain ``Cifar10Net``.

Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from cifar10_zoo.network.model import Cifar10Net

MOMENTUM = 0.02
"""Weight of a batch in the running statistics."""
STATISTICS_IMAGES = 2_000
"""Number of images of 32x32 pixels that ``unfold_batch_norm`` needs for the running means."""

_LAYERS = ("conv1", "conv2", "local3", "local4")
"""The layers whose outputs are normalized."""

_CHECKPOINT_NAMES = {"running_mean": "mean", "running_var": "variance"}
"""Names of the running statistics in a checkpoint; all other tensors have PyTorch's names."""

BatchNorm = TypeVar("BatchNorm", nn.BatchNorm1d, nn.BatchNorm2d)


class Cifar10NetBN(Cifar10Net):
    """``Cifar10Net`` with batch normalization before each ReLU.

    Args:
        seed: Seed of the initial weights.
        classes: As in ``Cifar10Net``.
        image_size: As in ``Cifar10Net``.
    """

    def __init__(self, seed: int = 0, classes: int = 10, image_size: int = 32) -> None:
        super().__init__(seed, classes, image_size)
        for name in _LAYERS:
            getattr(self, name).register_parameter("bias", None)  # batch normalization has one
        self.conv1_norm = _without_scale(nn.BatchNorm2d(64, momentum=MOMENTUM))
        self.conv2_norm = _without_scale(nn.BatchNorm2d(64, momentum=MOMENTUM))
        self.local3_norm = _without_scale(nn.BatchNorm1d(384, momentum=MOMENTUM))
        self.local4_norm = _without_scale(nn.BatchNorm1d(192, momentum=MOMENTUM))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, classes] of ``images`` [N, 3, K, K] float32, standardized."""
        # The normalization has a positive scale: it commutes with max pooling, which leaves it a quarter of the work.
        x = F.max_pool2d(self.conv1(images), 3, stride=2, ceil_mode=True)  # [N, 64, 12, 12]
        x = self.norm1(F.relu(self.conv1_norm(x)))
        x = self.norm2(F.relu(self.conv2_norm(self.conv2(x))))  # [N, 64, 12, 12]
        x = F.max_pool2d(x, 3, stride=2, ceil_mode=True).flatten(1)  # [N, 2304]
        x = F.relu(self.local3_norm(self.local3(x)))  # [N, 384]
        x = F.relu(self.local4_norm(self.local4(x)))  # [N, 192]
        logits: Tensor = self.softmax_linear(x)  # [N, 10]
        return logits

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Return the activations of the folded network; see ``Cifar10Net.activations``."""
        return fold_batch_norm(self).activations(images)


def _without_scale(norm: BatchNorm) -> BatchNorm:
    """Return ``norm`` with its weight fixed at 1: a constant, neither trained, decayed nor saved.

    The layer behind the ReLU that follows can scale. PyTorch's CUDA kernels compute no gradient of the bias without a
    weight, so the weight stays as a buffer.
    """
    del norm.weight
    norm.register_buffer("weight", torch.ones(norm.num_features), persistent=False)
    norm.num_batches_tracked = None  # only a cumulative average needs the count
    return norm


@torch.no_grad()
def fold_batch_norm(model: Cifar10Net) -> Cifar10Net:
    """Return the plain network with the same logits as ``model`` in evaluation mode; a plain ``model`` is returned."""
    if not isinstance(model, Cifar10NetBN):
        return model
    plain = Cifar10Net(classes=model.classes, image_size=model.image_size).to(model.conv1.weight.device)
    for name in _LAYERS:
        layer, norm, target = getattr(model, name), getattr(model, f"{name}_norm"), getattr(plain, name)
        fuse = fuse_conv_bn_weights if isinstance(layer, nn.Conv2d) else fuse_linear_bn_weights
        statistics = (norm.running_mean, norm.running_var, norm.eps)
        weight, bias = fuse(layer.weight, layer.bias, *statistics, norm.weight, norm.bias)
        target.weight.copy_(weight)
        target.bias.copy_(bias)
    plain.softmax_linear.load_state_dict(model.softmax_linear.state_dict())
    return plain


@torch.no_grad()
def unfold_batch_norm(plain: Cifar10Net, crops: Tensor) -> Cifar10NetBN:
    """Return a network with batch normalization that has the logits of ``plain`` in evaluation mode.

    Without a scale, batch normalization computes (Wx - mean) / sqrt(variance + eps) + bias. W are the weights of
    ``plain``, the divisor is 1, and bias = mean + the bias of ``plain``. For the logits, any mean would do. But
    training replaces mean and variance by those of each batch. With the means of ``crops``, training starts close to
    ``plain``, too, if the variance of each layer's outputs is about 1, as after training with batch normalization.

    Args:
        plain: The network, on the CPU.
        crops: [N, 3, K, K] float32, standardized; images like those of the coming training.
    """
    model = Cifar10NetBN(classes=plain.classes, image_size=plain.image_size).eval()
    hooks = []
    for name in _LAYERS:
        layer, norm, source = getattr(model, name), getattr(model, f"{name}_norm"), getattr(plain, name)
        layer.weight.copy_(source.weight)
        norm.bias.copy_(source.bias)
        norm.running_var.fill_(1 - norm.eps)
        hooks.append(norm.register_forward_pre_hook(_center))
    model.softmax_linear.load_state_dict(plain.softmax_linear.state_dict())
    model(crops)
    for hook in hooks:
        hook.remove()
    return model


def _center(norm: nn.BatchNorm1d | nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
    """Set the running mean of ``norm``, 0 before, to the mean of its input, and change its bias by as much."""
    assert norm.running_mean is not None
    norm.running_mean.copy_(inputs[0].transpose(0, 1).flatten(1).mean(dim=1))
    norm.bias.add_(norm.running_mean)


def named_tensors(model: Cifar10Net) -> dict[str, Tensor]:
    """Return the weights and running statistics of ``model`` by their names in a checkpoint; they share its memory."""
    return {_checkpoint_name(name): tensor for name, tensor in model.state_dict().items()}


def _checkpoint_name(name: str) -> str:
    """``conv1_norm.running_mean`` -> ``conv1_norm.mean``."""
    layer, tensor = name.rsplit(".", 1)
    return f"{layer}.{_CHECKPOINT_NAMES.get(tensor, tensor)}"
