"""Whitening filters for conv1."""

from pathlib import Path

import torch
from torch.nn import functional as F

from cifar10_zoo.data.load import load
from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.network.whitening import FILTERS, IMAGES, whitening_filters


def test_filtered_patches_have_unit_variance_and_no_correlation(drawings_dir: Path) -> None:
    crops = evaluation_images(load(drawings_dir, "train").images[:IMAGES])
    filters = whitening_filters(crops)
    assert torch.equal(filters[:FILTERS], -filters[FILTERS:]), "the second half negates the first"
    response = F.conv2d(crops, filters[:FILTERS]).transpose(0, 1).flatten(1).double()
    covariance = response @ response.T / response.shape[1]
    variances = covariance.diag()
    assert (variances.diff() < 1e-6).all(), "filters are in descending order of variance"
    assert 0.9 < variances[0] < 1
    assert (covariance - variances.diag()).abs().max() < 1e-3
