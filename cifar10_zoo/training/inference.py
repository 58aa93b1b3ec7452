"""Predictions of a network in PyTorch, and their top-1 accuracy."""

from typing import Literal

import torch
from torch import Tensor

from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.transforms import evaluation_images, ten_crop
from cifar10_zoo.network.model import Cifar10Net, scaled_count

BATCH_SIZE = 500
"""Images of 32x32 pixels that are computed together by default; of larger images, fewer are."""

Views = Literal[1, 10]
"""Crops per image: the center crop, or ten-crop test-time augmentation."""


@torch.inference_mode()
def predict(model: Cifar10Net, images: Tensor, batch_size: int = BATCH_SIZE) -> Tensor:
    """Return the logits of the center crops of ``images``.

    Args:
        model: The network in evaluation mode; it computes on its own device.
        images: [N, 3, S, S] uint8.
        batch_size: Images of 32x32 pixels that are computed together; it does not change the result.

    Returns:
        [N, classes] float32, on the device of ``model``.
    """
    device = next(model.parameters()).device
    return torch.cat([model(evaluation_images(batch.to(device))) for batch in _batches(images, batch_size)])


@torch.inference_mode()
def predict_ten_crop(model: Cifar10Net, images: Tensor, batch_size: int = BATCH_SIZE) -> Tensor:
    """Return the class probabilities of ``images``, averaged over ten crops per image.

    Args:
        model: The network in evaluation mode; it computes on its own device.
        images: [N, 3, S, S] uint8.
        batch_size: Images of 32x32 pixels that are computed together; it does not change the result.

    Returns:
        [N, classes] float32, on the device of ``model``.
    """
    device = next(model.parameters()).device
    batches = (ten_crop(batch.to(device)) for batch in _batches(images, batch_size))  # each [10, N, 3, K, K]
    return torch.cat([torch.stack([model(crop).softmax(dim=1) for crop in crops]).mean(dim=0) for crops in batches])


def logits(model: Cifar10Net, images: Tensor, views: Views = 1, batch_size: int = BATCH_SIZE) -> Tensor:
    """Return the logits that an exported model gives: for ten crops, the logarithms of the averaged probabilities.

    Args:
        model: The network in evaluation mode; it computes on its own device.
        images: [N, 3, S, S] uint8.
        views: Crops per image.
        batch_size: Images of 32x32 pixels that are computed together; it does not change the result.

    Returns:
        [N, classes] float32, on the CPU.
    """
    if views == 10:
        return predict_ten_crop(model, images, batch_size).log().cpu()
    return predict(model, images, batch_size).cpu()


def predicted_classes(model: Cifar10Net, images: Tensor) -> Tensor:
    """Return the top-1 prediction of each of ``images`` [N, 3, S, S] uint8, as [N] int64 on the CPU."""
    return logits(model, images).argmax(dim=1)


def top1_accuracy(model: Cifar10Net, data: Dataset) -> float:
    """Return the fraction of the images in ``data`` whose top-1 prediction is their label."""
    return float((predicted_classes(model, data.images) == data.labels).double().mean())


def _batches(images: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    batches: tuple[Tensor, ...] = images.split(scaled_count(batch_size, images.shape[-1]))
    return batches
