"""Batch normalization without a scale, and folding it into the weights."""

import torch

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.network.batch_norm import MOMENTUM, Cifar10NetBN, fold_batch_norm, named_tensors
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training.state import TrainingState


def test_batch_norm_equals_pytorchs_with_a_weight_of_one() -> None:
    norm, reference = Cifar10NetBN().conv1_norm, torch.nn.BatchNorm2d(64, momentum=MOMENTUM)
    with torch.no_grad():
        reference.bias.copy_(norm.bias.normal_())
    for _ in range(3):
        x = torch.randn(16, 64, 5, 5) * 3 + 1
        assert torch.equal(norm(x), reference(x))
    norm.eval(), reference.eval()
    assert torch.equal(norm(x), reference(x))


def test_the_weight_of_batch_norm_is_neither_trained_nor_saved() -> None:
    state = TrainingState(Hyperparameters(batch_size=4, batch_norm=True, momentum=0.9, kernel_decay=0.1))
    state.train_step(torch.randn(4, 3, 24, 24), torch.arange(4))
    norms = [module for name, module in state.model.named_children() if name in ("conv1_norm", "local3_norm")]
    assert len(norms) == 2
    for norm in norms:
        assert [name for name, _ in norm.named_parameters()] == ["bias"]
        assert torch.equal(norm.get_buffer("weight"), torch.ones_like(norm.get_buffer("weight")))
        assert norm.get_parameter("bias").any(), "the bias is trained"
    assert not any(name.endswith("norm.weight") for name in state.tensors())


def test_the_running_statistics_have_their_checkpoint_names() -> None:
    names = {name for name in named_tensors(Cifar10NetBN()) if name.startswith("conv1_norm")}
    assert names == {"conv1_norm.bias", "conv1_norm.mean", "conv1_norm.variance"}


def test_fold_batch_norm_returns_a_network_without_batch_norm_unchanged() -> None:
    model = Cifar10Net()
    assert fold_batch_norm(model) is model
