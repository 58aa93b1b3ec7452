"""The weights of conv2 and local3 for Winograd's minimal filtering F(4, 5) along the height, and back.

A direct convolution computes 4 output rows by 4 * 5 = 20 products of an input row with a filter row. Winograd's
algorithm needs 8 products: B^T combines 8 input rows to 8 rows, G combines the 5 filter rows to 8 rows, and sums of
the 8 products are the 4 output rows. Two polynomials can be multiplied in the same way: by the products of their values
at 8 points (Winograd 1980; Lavin and Gray 2015, https://arxiv.org/abs/1509.09308).

The exporter builds the graph of such a network (``cifar10_export.winograd``).
"""

from fractions import Fraction

import torch
from torch import Tensor

from cifar10_zoo.network.model import Cifar10Net, pool2_size

ROWS = 4
"""Output rows per tile."""
TAPS = 5
"""Filter rows."""
PAIRS = (Fraction(1), Fraction(2), Fraction(1, 2))
"""The polynomials are evaluated at these points, at their negatives, at 0 and at infinity."""

Matrix = list[list[Fraction]]


def transforms() -> tuple[Matrix, Matrix]:
    """Return B^T [8, 8] for the input rows and G [8, 5] for the filter rows, by the method of Toom and Cook.

    The rows of both stand for the points 0, 1, -1, 2, -2, 1/2, -1/2, infinity. Each row of B^T is divided by its
    largest entry, and the row of G is multiplied by this entry. G costs nothing at inference, because the filter is
    transformed once, before the export.
    """
    points = [Fraction(0)] + [signed for point in PAIRS for signed in (point, -point)]
    inputs, filters = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        inputs.append([*_polynomial(others), Fraction(0)])
        filters.append([point**power / scale for power in range(TAPS)])
    inputs.append(_polynomial(points))
    filters.append([Fraction(0)] * (TAPS - 1) + [Fraction(1)])
    largest = [max(map(abs, row)) for row in inputs]
    return (
        [[entry / scale for entry in row] for row, scale in zip(inputs, largest, strict=True)],
        [[entry * scale for entry in row] for row, scale in zip(filters, largest, strict=True)],
    )


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Return the coefficients of the product of all (x - root), constant term first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [-root * c for c in coefficients] + [Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def as_tensor(matrix: Matrix) -> Tensor:
    """Return ``matrix`` as float32."""
    return torch.tensor([[float(entry) for entry in row] for row in matrix])


def rows_above(image_size: int) -> int:
    """Return how many rows of pool2 the first tile begins above the image: 0, or 1 if pool2 has an odd height.

    A tile of conv2 has 4 rows and makes 2 rows of pool2. An additional row above the image fills up the tiles.
    """
    return pool2_size(image_size) % 2


def to_winograd(model: Cifar10Net) -> tuple[Tensor, Tensor]:
    """Return the weights of ``model`` that Winograd's algorithm needs.

    Returns:
        The transformed filters of conv2, [8, 64, 64, 5] float32 (product, out, in, column), and the weights of local3,
        [384, columns] float32. The columns are in the order (row % 2, channel, row // 2, column) of pool2; the columns
        of a row above the image are 0.
    """
    conv2, local3 = model.conv2.weight.detach(), model.local3.weight.detach()
    kernels = torch.einsum("kt,oitw->koiw", as_tensor(transforms()[1]).double(), conv2.double()).float()
    size = pool2_size(model.image_size)
    pixels = local3.unflatten(1, (conv2.shape[0], size, size))
    pixels = torch.nn.functional.pad(pixels, (0, 0, rows_above(model.image_size), 0))
    return kernels, pixels.unflatten(2, (-1, 2)).permute(0, 3, 1, 2, 4).flatten(1)


def from_winograd(kernels: Tensor, local3: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
    """Return the weights of conv2 [64, 64, 5, 5] and local3 [384, 64 * height * width of pool2]: ``to_winograd`` back.

    The 8 transformed filter rows determine the 5 filter rows more than once; least squares use all of them.
    """
    inverse = torch.linalg.pinv(as_tensor(transforms()[1]).double())  # [5, 8]
    conv2 = torch.einsum("tk,koiw->oitw", inverse, kernels.double()).float()
    pixels = local3.unflatten(1, (2, conv2.shape[0], -1, pool2_size(image_size)))
    pixels = pixels.permute(0, 2, 3, 1, 4).flatten(2, 3)[:, :, rows_above(image_size) :]
    return conv2, pixels.flatten(1)
