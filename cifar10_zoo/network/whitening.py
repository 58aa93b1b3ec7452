"""Initial filters for conv1 that whiten image patches.

Source: Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.1, and Coates and Ng 2011.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

FILTERS = 32
"""Number of computed filters. The other 32 of conv1 are their negatives, because a ReLU passes only one sign."""
SIZE = 5
"""Height and width of a filter in pixels."""
IMAGES = 2_000
"""Number of images of 32x32 pixels to compute the filters from; each has 400 patches."""
EPSILON = 1e-2
"""Added to each variance, so that noise is not amplified to the variance of the image content."""


@torch.no_grad()
def whitening_filters(crops: Tensor) -> Tensor:
    """Return whitening filters: the principal components of the patches, each divided by its standard deviation.

    Args:
        crops: [N, 3, K, K] float32, standardized.

    Returns:
        [64, 3, 5, 5] float32: 32 filters in descending order of variance, then their negatives.
    """
    patches = F.unfold(crops, SIZE).double()  # [N, 75, 400] of crops with 24x24 pixels
    covariance = torch.einsum("npk,nqk->pq", patches, patches) / (len(patches) * patches.shape[2])
    variances, components = torch.linalg.eigh(covariance)
    scaled = components * torch.rsqrt(variances + EPSILON)
    filters = scaled.T.flip(0)[:FILTERS].reshape(FILTERS, crops.shape[1], SIZE, SIZE).float()
    return torch.cat([filters, -filters])
