"""The network for CPUs, with conv2 by Winograd's minimal filtering: 8 products give what directly takes 20.

conv2 is two thirds of the work. Along the height, 4 rows of its output are a product of polynomials in disguise: 8
combinations of 8 rows of input, each multiplied with one combination of the 5 rows of the filter, give them all
(Winograd 1980; Lavin and Gray 2015, https://arxiv.org/abs/1509.09308). Along the width it stays a convolution, so all
of it is plain ONNX: ONNX Runtime runs it in its blocked layout, without a transpose. From conv2 on, a row lies where
its tile and its phase say: tile t of phase p is row 4t + p. The same numbers as Cifar10Net, to the rounding of float32.
"""

from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar10_zoo.network.model import Cifar10Net

ROWS = 4
"""Rows of output in a tile: the 12 of conv2 are 3 tiles."""
TAPS = 5
"""Rows of the filter."""
PAIRS = (Fraction(1), Fraction(2), Fraction(1, 2))
"""Besides 0 and infinity, the polynomials are evaluated at these points and their negatives."""

Matrix = list[list[Fraction]]


def transforms() -> tuple[Matrix, Matrix]:
    """B^T [8, 8] for the rows of the input and G [8, 5] for those of the filter, by the method of Toom and Cook.

    Rows stand for the points 0, 1, -1, 2, -2, 1/2, -1/2, infinity. The largest entry of each row of B^T is 1: what
    that takes is put into G, where it costs nothing.
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
    """Coefficients of the product of all (x - root), the constant first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [-root * c for c in coefficients] + [Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


class WinogradNet(nn.Module):
    """``model`` in the layout described above; it shares the weights of all layers but conv2 and local3."""

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
        # columns of local3 in (row in tile, channel, tile, column) order
        columns = model.local3.weight.detach().unflatten(1, (channels, 3, 2, 6)).permute(0, 3, 1, 2, 4).flatten(1)
        self.local3 = _constant(columns)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, 10] of ``images`` [N, 3, 24, 24] float32, standardized."""
        model = self.model
        x = F.max_pool2d(F.relu(model.conv1(images)), 3, stride=2, ceil_mode=True)  # [N, 64, 12, 12]
        phases = [self._normalize(F.relu(phase)) for phase in self._conv2(self._normalize(x))]  # [N, 64, 3, 12] each
        x = F.relu(F.linear(_pool2(phases).flatten(1), self.local3, model.local3.bias))  # [N, 384]
        logits: Tensor = model.softmax_linear(F.relu(model.local4(x)))
        return logits

    def _conv2(self, x: Tensor) -> list[Tensor]:
        """[N, 64, 12, 12] -> the four phases of conv2, [N, 64, 3, 12] each.

        A convolution followed by an addition is one operation of ONNX Runtime; a subtraction would leave its layout.
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
        """One combination of the rows of each tile, times the same of the filter."""
        rows = F.conv2d(x, self.rows[index], stride=(ROWS, 1), padding=(2, 0), groups=x.shape[1])
        return F.conv2d(rows, self.kernels[index], bias, padding=(0, 2))

    def _scale(self, x: Tensor, factor: Fraction, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, self.scales[_name(factor)], bias, groups=x.shape[1])

    def _normalize(self, x: Tensor) -> Tensor:
        """Local response normalization in one pass over memory less than the trained network takes."""
        norm = self.model.norm1
        d = F.conv2d(x * x, norm.band, norm.biases)
        return x / torch.sqrt(d * torch.sqrt(d))


def _pool2(phases: list[Tensor]) -> Tensor:
    """pool2 [N, 64, 6, 6] of the phases, as [N, 2 * 64, 3, 6]: row 2t of all channels, then row 2t + 1."""
    p = [F.max_pool2d(phase, (1, 3), stride=(1, 2), ceil_mode=True) for phase in phases]
    below = F.pad(p[0][:, :, 1:], (0, 0, 0, 1))  # the first row of the next tile; zeros never win after a ReLU
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
