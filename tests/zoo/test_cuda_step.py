"""The training step of a CUDA GPU without a GPU: its operations, recorded on a CPU, and its buffers."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cifar10_zoo.config import Hyperparameters, Precision
from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.recipes import MODERN, TUTORIAL
from cifar10_zoo.training.cuda_graph import SampleBuffer
from cifar10_zoo.training.state import TrainingState

CPU = torch.device("cpu")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "bincount")
"""Operations whose result the host needs: with a GPU, the host would wait for it."""


class Recorder(TorchDispatchMode):
    """Counts the operations by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[function.name().partition("::")[2].partition(".")[0]] += 1
        return function(*args, **(kwargs or {}))


def training_batches(recipe: Hyperparameters) -> TrainingBatches:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (500, 3, 32, 32), dtype=torch.uint8, generator=random)
    return TrainingBatches(Dataset("custom", (), images, torch.arange(500) % 10), recipe, CPU)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recipe", [TUTORIAL, MODERN], ids=["tutorial", "modern"])
def test_the_host_needs_no_result_of_a_step(recipe: Hyperparameters, precision: Precision) -> None:
    recipe = replace(recipe, batch_size=8, precision=precision)
    state, batches = TrainingState(recipe), training_batches(recipe)
    for group in state.optimizer.param_groups:
        group["fused"] = True  # as on a GPU
    sample = batches.sample(0)
    state.begin_step()
    with Recorder() as recorder:
        state.update(*batches.assemble(sample))
    assert [name for name in WAITS if recorder.counts[name]] == []
    assert recorder.counts["lerp_"] == 2  # one kernel for the EMA of all weights, one for the loss averages
    assert recorder.counts["_fused_sgd_"] == 2  # weights, biases


def test_one_buffer_holds_a_sample() -> None:
    """One copy of ``buffer`` moves all random parameters."""
    batches = training_batches(Hyperparameters())
    source, target = (SampleBuffer(batches.sample(0), CPU) for _ in range(2))
    for number in range(3):
        sample = batches.sample(number)
        source.fill(sample)
        target.buffer.copy_(source.buffer)
        for found, expected in zip(target.sample.tensors(), sample.tensors(), strict=True):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
