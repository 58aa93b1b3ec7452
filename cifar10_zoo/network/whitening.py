"""Filters that whiten image patches, for conv1 to begin with.

Source: Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.1, and Coates and Ng 2011.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar10_zoo.data.transforms import evaluation_images

FILTERS = 32
"""Half of conv1's: each filter comes with its negative, since a ReLU passes one sign alone."""
SIZE = 5
IMAGES = 2_000
"""How many images the patches are taken from, 400 of each."""
EPSILON = 1e-2
"""Added to each variance, lest noise be blown up to the size of the rest."""


@torch.no_grad()
def whitening_filters(images: Tensor) -> Tensor:
    """The principal components of image patches, each divided by its standard deviation, and their negatives.

    Args:
        images: [N, 3, H, W] uint8.

    Returns:
        [64, 3, 5, 5] float32, the component of the highest variance first.
    """
    patches = F.unfold(evaluation_images(images[:IMAGES].cpu()), SIZE).double()  # [N, 75, 400]
    covariance = torch.einsum("npk,nqk->pq", patches, patches) / (len(patches) * patches.shape[2])
    variances, components = torch.linalg.eigh(covariance)
    scaled = components * torch.rsqrt(variances + EPSILON)
    filters = scaled.T.flip(0)[:FILTERS].reshape(FILTERS, images.shape[1], SIZE, SIZE).float()
    return torch.cat([filters, -filters])
