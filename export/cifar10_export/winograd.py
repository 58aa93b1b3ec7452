"""The network for CPUs: conv2 by Winograd's minimal filtering F(4, 5) along the height, with 8 products instead of 20.

conv2 is two thirds of the network's work. A direct convolution computes 4 output rows by 4 * 5 = 20 products of an
input row with a filter row. Winograd's algorithm needs 8 products: B^T combines 8 input rows to 8 rows, G combines the
5 filter rows to 8 rows, and sums of the 8 products are the 4 output rows. Two polynomials can be multiplied in the same
way: by the products of their values at 8 points (Winograd 1980; Lavin and Gray 2015, https://arxiv.org/abs/1509.09308).

Along the width, conv2 stays a convolution. So the graph has only standard ONNX operators, which ONNX Runtime computes
in its blocked memory format without a transpose. The 12 output rows are 3 tiles of 4 rows. The network keeps them as 4
tensors, the phases: row 4t + p of the output is row t of phase p. The results equal Cifar10Net's up to float32
rounding.
"""

from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar10_zoo.network.model import Cifar10Net

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


class WinogradNet(nn.Module):
    """``model`` with conv2 by Winograd's algorithm; all layers except conv2 and local3 use the weights of ``model``."""

    def __init__(self, model: Cifar10Net) -> None:
        super().__init__()
        self.model = model
        channels = model.conv2.out_channels
        inputs, filters = (torch.tensor([[float(entry) for entry in row] for row in m]) for m in transforms())
        self.rows = _constants([row[None, None, :, None].repeat(channels, 1, 1, 1) for row in inputs])
        kernels = torch.einsum("kt,oitw->koiw", filters.double(), model.conv2.weight.detach().double())
        self.kernels = _constants([kernel[:, :, None, :].float() for kernel in kernels])
        self.scales = nn.ParameterDict(
            {_name(s): _constant(torch.full((channels, 1, 1, 1), float(s))) for s in (Fraction(-2), *_powers())}
        )
        # Reorder the columns from (channel, row, column) to the order of _pool2: (row % 2, channel, row // 2, column).
        columns = model.local3.weight.detach().unflatten(1, (channels, 3, 2, 6)).permute(0, 3, 1, 2, 4).flatten(1)
        self.local3 = _constant(columns)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, 10] of ``images`` [N, 3, 24, 24] float32, standardized."""
        model = self.model
        x = F.max_pool2d(F.relu(model.conv1(images)), 3, stride=2, ceil_mode=True)  # [N, 64, 12, 12]
        phases = [self._normalize(F.relu(phase)) for phase in self._conv2(self._normalize(x))]  # [N, 64, 3, 12] each
        x = F.relu(F.linear(_pool2(phases).flatten(1), self.local3, model.local3.bias))  # [N, 384]
        logits: Tensor = model.softmax_linear(F.relu(model.local4(x)))
        return logits

    def _conv2(self, x: Tensor) -> list[Tensor]:
        """Compute the four phases of conv2, [N, 64, 3, 12] each, of ``x`` [N, 64, 12, 12].

        The difference a - b is computed as (a + b) - 2b: a convolution by -2, then an addition. ONNX Runtime fuses a
        convolution with an addition, but a subtraction would leave its blocked memory format.
        """
        bias = self.model.conv2.bias
        first, last = self._product(x, 0, bias), self._product(x, 7, bias)
        sums, differences = [], []
        for pair in range(3):
            minus = self._product(x, 2 * pair + 2)
            sums.append(self._product(x, 2 * pair + 1) + minus)
            differences.append(self._scale(minus, Fraction(-2)) + sums[-1])
        one, two, half = differences
        return [
            first + (sums[0] + sums[1] + sums[2]),
            self._scale(two, PAIRS[1], bias) + (self._scale(half, PAIRS[2]) + one),
            self._scale(sums[1], PAIRS[1] ** 2, bias) + (self._scale(sums[2], PAIRS[2] ** 2) + sums[0]),
            last + (self._scale(two, PAIRS[1] ** 3) + (self._scale(half, PAIRS[2] ** 3) + one)),
        ]

    def _product(self, x: Tensor, index: int, bias: Tensor | None = None) -> Tensor:
        """Return product ``index``: the input rows combined by B^T, convolved with the filter rows combined by G."""
        rows = F.conv2d(x, self.rows[index], stride=(ROWS, 1), padding=(2, 0), groups=x.shape[1])
        return F.conv2d(rows, self.kernels[index], bias, padding=(0, 2))

    def _scale(self, x: Tensor, factor: Fraction, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, self.scales[_name(factor)], bias, groups=x.shape[1])

    def _normalize(self, x: Tensor) -> Tensor:
        """Return x * d^-0.75 like ``LocalResponseNorm``, but with one pass over memory less."""
        norm = self.model.norm1
        d = F.conv2d(x * x, norm.band, norm.biases)
        return x / torch.sqrt(d * torch.sqrt(d))


def _pool2(phases: list[Tensor]) -> Tensor:
    """Return pool2 of the phases, [N, 2 * 64, 3, 6]: the rows 2t of all channels, then the rows 2t + 1."""
    p = [F.max_pool2d(phase, (1, 3), stride=(1, 2), ceil_mode=True) for phase in phases]
    # Row 0 of the next tile. Zeros stand below the last tile: they never exceed a value after a ReLU.
    below = F.pad(p[0][:, :, 1:], (0, 0, 0, 1))
    even = torch.maximum(torch.maximum(p[0], p[1]), p[2])
    odd = torch.maximum(torch.maximum(p[2], p[3]), below)
    return torch.cat([even, odd], dim=1)


def _powers() -> list[Fraction]:
    return [point**power for point in PAIRS[1:] for power in (1, 2, 3)]


def _name(factor: Fraction) -> str:
    return str(factor).replace("/", "_over_").replace("-", "minus_")


def _constant(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.contiguous(), requires_grad=False)


def _constants(tensors: list[Tensor]) -> nn.ParameterList:
    return nn.ParameterList([_constant(tensor) for tensor in tensors])
