"""The whole training step, input pipeline and averages included, against a plain port using precomputed batches."""

from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.peers import PlainNet, plain_step
from benchmarks.timing import compare, median_seconds
from cifar10_zoo.config import Hyperparameters, Precision
from cifar10_zoo.data.batches import TrainingBatches
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.tracking.tensorboard import Summaries
from cifar10_zoo.training.cuda_graph import GraphedStep
from cifar10_zoo.training.device import choose_device
from cifar10_zoo.training.state import TrainingState
from tests.helpers.gpu import can_use_gpu

BATCH_SIZE = 128
CPU = torch.device("cpu")


def random_data() -> Dataset:
    """Return 50,000 random images: the speed of a step does not depend on the pixels."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=random)
    return Dataset("custom", (), images, torch.randint(0, 10, (50_000,), generator=random))


@pytest.fixture(scope="module")
def batches() -> TrainingBatches:
    return TrainingBatches(random_data(), Hyperparameters(batch_size=BATCH_SIZE), CPU)


@pytest.mark.benchmark(group="training step")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_step(benchmark: BenchmarkFixture, batches: TrainingBatches, precision: Precision) -> None:
    recipe = Hyperparameters(batch_size=BATCH_SIZE, initial_learning_rate=0.01, precision=precision)
    state = TrainingState(recipe)
    plain = PlainNet()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01)
    images, labels = batches.batch(0)
    compare(
        benchmark,
        {
            "ours": lambda: state.train_step(*batches.batch(state.step)),
            "plain port": lambda: plain_step(plain, optimizer, images, labels, precision),
        },
        images=BATCH_SIZE,
    )


@pytest.mark.benchmark(group="training step on CUDA")
@pytest.mark.skipif(not can_use_gpu("torch"), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_training_step_on_cuda(benchmark: BenchmarkFixture, precision: Precision) -> None:
    """The GPU is synchronized once per 50 steps, in ours and in the plain port."""
    steps, cuda = 50, choose_device("cuda", tf32=precision == "tf32")
    state = TrainingState(Hyperparameters(initial_learning_rate=0.01, precision=precision), cuda)
    batches = TrainingBatches(random_data(), state.hyperparameters, cuda)
    take_step = GraphedStep(state, batches)
    plain = PlainNet().to(cuda)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01)
    images, labels = batches.batch(0)

    def ours() -> None:
        for _ in range(steps):
            take_step(state.step)
        torch.cuda.synchronize()

    def peer() -> None:
        for _ in range(steps):
            plain_step(plain, optimizer, images, labels, precision)
        torch.cuda.synchronize()

    compare(benchmark, {"ours": ours, "plain port": peer}, images=steps * BATCH_SIZE)
    benchmark.extra_info["gpu"] = torch.cuda.get_device_name()


@pytest.mark.benchmark(group="training step")
def test_summaries(benchmark: BenchmarkFixture, batches: TrainingBatches, tmp_path: Path) -> None:
    """The time to write all summaries of one step, which training does once per 100 steps."""
    state = TrainingState(Hyperparameters(batch_size=BATCH_SIZE))
    images, labels = batches.batch(0)
    losses = state.train_step(images, labels)
    with Summaries(tmp_path) as summaries:

        def write() -> None:
            summaries.batch(0, images, state.activations(images))
            summaries.training(0, state, losses, 1.0)

        benchmark.pedantic(write, rounds=30, warmup_rounds=3)


@pytest.mark.benchmark(group="training step")
def test_input_pipeline(benchmark: BenchmarkFixture, batches: TrainingBatches) -> None:
    """The time to make one batch, which is part of the training step."""
    steps = iter(range(10**9))
    benchmark.pedantic(lambda: batches.batch(next(steps)), rounds=100, warmup_rounds=3)
    benchmark.extra_info["images_per_s"] = round(BATCH_SIZE / median_seconds(benchmark))
