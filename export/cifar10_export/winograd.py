"""The network for CPUs: conv2 by Winograd's minimal filtering F(4, 5) along the height, with 8 products instead of 20.

conv2 is two thirds of the network's work. ``cifar10_zoo.network.winograd`` has the algorithm and its weights.

Along the width, conv2 stays a convolution. So the graph has only standard ONNX operators, which ONNX Runtime computes
in its blocked memory format without a transpose. The 12 output rows are 3 tiles of 4 rows. The network keeps them as 4
tensors, the phases: row 4t + p of the output is row t of phase p. The results equal Cifar10Net's up to float32
rounding.

Shapes in comments are those for images of 32x32 pixels. For 48x48, conv2 has 18 rows, and 5 tiles have 20: the first
tile begins 2 rows above the image. These 2 rows make row -1 of pool2, whose weights in local3 are 0.
"""

from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.network.winograd import PAIRS, ROWS, as_tensor, rows_above, to_winograd, transforms


class WinogradNet(nn.Module):
    """``model`` with conv2 by Winograd's algorithm; all layers except conv2 and local3 use the weights of ``model``."""

    def __init__(self, model: Cifar10Net) -> None:
        super().__init__()
        self.model = model
        channels = model.conv2.out_channels
        self.padding = 2 + 2 * rows_above(model.image_size)
        inputs, _ = transforms()
        self.rows = _constants([row[None, None, :, None].repeat(channels, 1, 1, 1) for row in as_tensor(inputs)])
        kernels, local3 = to_winograd(model)
        self.kernels = _constants([kernel[:, :, None, :] for kernel in kernels])
        self.scales = nn.ParameterDict(
            {_name(s): _constant(torch.full((channels, 1, 1, 1), float(s))) for s in (Fraction(-2), *_powers())}
        )
        self.local3 = _constant(local3)

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return local4 [N, 192] and the logits [N, classes] of ``images`` [N, 3, K, K] float32, standardized."""
        model = self.model
        x = F.max_pool2d(F.relu(model.conv1(images)), 3, stride=2, ceil_mode=True)  # [N, 64, 12, 12]
        phases = [self._normalize(F.relu(phase)) for phase in self._conv2(self._normalize(x))]  # [N, 64, 3, 12] each
        x = F.relu(F.linear(_pool2(phases).flatten(1), self.local3, model.local3.bias))  # [N, 384]
        x = F.relu(model.local4(x))  # [N, 192]
        return x, model.softmax_linear(x)

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
        rows = F.conv2d(x, self.rows[index], stride=(ROWS, 1), padding=(self.padding, 0), groups=x.shape[1])
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
