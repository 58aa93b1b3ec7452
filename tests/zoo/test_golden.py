"""Preprocessing, network, loss, gradients and training give the numbers of the original program.

A tolerance is ten times the noise floor. The noise floor is the larger of two differences: between two runs of the
original with another backend and thread count, and between the original and an exact (float64) computation. It is at
least the resolution of float32 (``golden_reference.assert_matches``).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.transforms import Augmentation, augment, evaluation_images
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.training.ema import EmaWeights
from cifar10_zoo.training.loss import losses
from cifar10_zoo.training.schedule import decay_steps, learning_rate
from cifar10_zoo.training.state import TrainingState
from tests.helpers.golden_reference import (
    NOISE_MULTIPLE,
    TOWER_GRADIENT_NOISE,
    TOWER_LOSS_TOLERANCE,
    TOWER_VARIABLE_NOISE,
    VARIABLES,
    Array,
    Reference,
    assert_matches,
    nhwc,
    tf_name,
    to_tf,
)

ACTIVATION_NOISE = {
    "conv1": 0.0,
    "pool1": 0.0,
    "norm1": 0.0,
    "conv2": 2.38e-6,
    "norm2": 2.38e-6,
    "pool2": 2.38e-6,
    "local3": 2.86e-6,
    "local4": 2.21e-6,
    "softmax_linear": 1.49e-7,
}
GRADIENT_NOISE = {
    "conv1/weights": 6.52e-9,
    "conv1/biases": 5.82e-9,
    "conv2/weights": 7.57e-10,
    "conv2/biases": 1.86e-9,
    "local3/weights": 1.08e-9,
    "local3/biases": 2.33e-10,
    "local4/weights": 3.61e-9,
    "local4/biases": 3.49e-10,
    "softmax_linear/weights": 2.68e-7,
    "softmax_linear/biases": 7.45e-9,
}
TRAJECTORY_NOISE = {
    "trajectory_b": {1: 4.66e-8, 2: 6.28e-8, 10: 1.64e-7},
    "trajectory_c": {1: 1.33e-8, 2: 1.49e-8, 10: 4.23e-8, 30: 6.56e-8},
}
"""Of variables and of their EMA, by the number of updates."""
LOSS_NOISE = {"trajectory_b": 5.5e-7, "trajectory_c": 6.3e-7}
PROBABILITY_NOISE = 2.98e-8
AUGMENTATION_NOISE = 2.38e-7
"""The spacing of float32 numbers at 2, near the largest standardized value."""
INIT_STANDARD_ERRORS = 4.5
"""Limit for the statistics of the initial weights; a correct initialization exceeds it once in 10^5 statistics."""


@pytest.fixture(scope="module")
def reference(golden_folder: Path) -> Reference:
    return Reference(golden_folder)


@pytest.fixture(scope="module")
def batch(reference: Reference) -> torch.Tensor:
    """The 16 evaluation images of the original, [16, 3, 24, 24] float32."""
    images = reference.arrays("preprocess")["eval_images"]
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def test_the_known_weights_and_images_are_reproduced(reference: Reference) -> None:
    golden = reference.arrays("inputs")
    for name, value in reference.variables.items():
        assert_matches(value, golden, f"known_{name.replace('/', '_')}")
    assert_matches(reference.images_nhwc.astype(np.float32), golden, "known_images_u8")
    assert reference.labels.tolist() == golden["known_labels"].tolist()


def test_evaluation_images_match_the_original(reference: Reference) -> None:
    golden = reference.arrays("preprocess")
    assert_matches(nhwc(evaluation_images(reference.images)), golden, "eval_images")
    assert not evaluation_images(reference.images)[15].any(), "an image whose values are all equal becomes exact zeros"


@pytest.mark.parametrize("kind", ["distort", "random"], ids=["explicit parameters", "random parameters"])
def test_augmented_images_match_the_original(reference: Reference, kind: str) -> None:
    golden = reference.arrays("preprocess")
    image, y, x, flip, brightness, contrast = torch.from_numpy(golden[f"{kind}_params"].astype(np.float64)).T
    augmentation = Augmentation(y.long(), x.long(), flip.bool(), brightness.float(), contrast.float())
    augmented = nhwc(augment(reference.images[image.long()], augmentation))
    for row, actual in enumerate(augmented):
        assert_matches(actual, golden, f"{kind}_{row:02d}_out", AUGMENTATION_NOISE)


def test_activations_and_logits_match_the_original(reference: Reference, batch: torch.Tensor) -> None:
    golden = reference.arrays("forward")
    activations = reference.state().model.activations(batch)
    assert list(activations) == list(ACTIVATION_NOISE)
    for name, actual in activations.items():
        golden_name = "act_logits" if name == "softmax_linear" else f"act_{name}"
        assert_matches(nhwc(actual), golden, golden_name, ACTIVATION_NOISE[name])
    logits = activations["softmax_linear"]
    assert_matches(nhwc(logits), golden, "logits", ACTIVATION_NOISE["softmax_linear"])
    assert_matches(nhwc(logits.softmax(dim=1)), golden, "probs", PROBABILITY_NOISE)
    assert (logits.argmax(dim=1) == reference.labels).tolist() == golden["in_top_1"].tolist()


def test_losses_and_gradients_match_the_original(reference: Reference, batch: torch.Tensor) -> None:
    golden = reference.arrays("forward")
    model = reference.state().model
    logits = model(batch)
    cross_entropy = F.cross_entropy(logits, reference.labels, reduction="none")
    assert_matches(nhwc(cross_entropy), golden, "cross_entropy_per_example")
    values = losses(model, logits, reference.labels, Hyperparameters())
    names = ("cross_entropy", "weight_loss_local3", "weight_loss_local4", "total_loss")
    for name, value in zip(names, values.detach(), strict=True):
        assert_matches(value.numpy(), golden, f"loss_{name}")
    values[-1].backward()
    for name, gradient in gradients(model).items():
        assert_matches(gradient, golden, f"grad_{name.replace('/', '_')}", GRADIENT_NOISE[name])


def test_the_average_gradient_of_two_towers_and_its_update_match_the_original(
    reference: Reference, batch: torch.Tensor
) -> None:
    golden = reference.arrays("multi_gpu")
    state = reference.state()
    total = torch.zeros(())
    for tower, half in enumerate((slice(0, 8), slice(8, 16))):
        values = losses(state.model, state.model(batch[half]), reference.labels[half], Hyperparameters())
        np.testing.assert_allclose(
            values[-1].item(), golden["tower_total_loss"][tower], rtol=0, atol=TOWER_LOSS_TOLERANCE
        )
        total = total + values[-1] / 2
    total.backward()
    for name, gradient in gradients(state.model).items():
        assert_matches(gradient, golden, f"avg_grad_{name.replace('/', '_')}", TOWER_GRADIENT_NOISE[name])
    state.rate.fill_(0.1)
    state.optimizer.step()
    for name, parameter in state.model.named_parameters():
        variable = to_tf(tf_name(name), parameter)
        assert_matches(variable, golden, f"step01_var_{tf_name(name).replace('/', '_')}", TOWER_VARIABLE_NOISE)


def test_ten_updates_at_the_tutorials_learning_rate_match_the_original(
    reference: Reference, batch: torch.Tensor
) -> None:
    """Trajectory_b, in float64.

    Training on this noise is chaotic: in float32, another memory format or thread count changes roundings, and one
    changed rounding can switch a unit on or off at step 9 of seed 1. Exact arithmetic follows the original.
    """
    state = reference.state()
    state.model.double()
    state.ema = EmaWeights(state.model)
    state.loss_averages.values = state.loss_averages.values.double()
    assert_training_matches(reference, "trajectory_b", state, batch.double(), steps=10)


def test_thirty_updates_over_several_learning_rate_decays_match_the_original(
    reference: Reference, batch: torch.Tensor
) -> None:
    """Trajectory_c, which is well conditioned, in float32."""
    hyperparameters = Hyperparameters(batch_size=16, initial_learning_rate=0.02, num_epochs_per_decay=0.00321)
    assert_training_matches(reference, "trajectory_c", reference.state(hyperparameters), batch, steps=30)


def test_the_staircase_schedule_matches_the_original(reference: Reference) -> None:
    golden = reference.arrays("schedule")
    for batch_size in (32, 100, 128, 256):
        assert decay_steps(Hyperparameters(batch_size=batch_size)) == golden[f"decay_steps_{batch_size}"]
    for step, rate in zip(golden["steps"].tolist(), golden["lr"], strict=True):
        assert learning_rate(step, Hyperparameters()) == pytest.approx(float(rate), rel=1e-6)


def test_initial_weights_have_the_distribution_of_the_original(reference: Reference) -> None:
    """Columns of the golden rows: sigma, n, mean, std, min, max, std/sigma, max|w|/(2 sigma), fraction in 1 sigma."""
    golden = reference.arrays("init")
    weights = {tf_name(name): p.detach().numpy().ravel() for name, p in Cifar10Net(seed=1).named_parameters()}
    for name in VARIABLES:
        if name.endswith("biases"):
            assert (weights[name] == golden[f"graph_init_{name.replace('/', '_')}"][0]).all(), name
            continue
        sigma, _, _, std, _, _, _, _, within = golden[f"init_{name.replace('/', '_')}"]
        values = weights[name]
        error = INIT_STANDARD_ERRORS / np.sqrt(values.size)
        assert abs(values.mean()) < error * std, name
        assert abs(values.std() / std - 1) < error, name
        assert abs((np.abs(values) < sigma).mean() - within) < error * np.sqrt(within * (1 - within)), name
        assert np.abs(values).max() <= 2 * sigma, name
    assert golden["shadow_equals_initial"].all()
    state = TrainingState(Hyperparameters())
    for name, parameter in state.model.named_parameters():
        assert torch.equal(state.ema.weights[name], parameter)


def gradients(model: Cifar10Net) -> dict[str, Array]:
    """Return the gradient of each variable under its name and in its layout in the original."""
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        found[tf_name(name)] = to_tf(tf_name(name), parameter.grad)
    return found


def assert_training_matches(
    reference: Reference, name: str, state: TrainingState, images: torch.Tensor, steps: int
) -> None:
    """Compare losses, loss averages and learning rate at every step, variables and their EMA at the recorded steps."""
    golden = reference.arrays(name)
    tolerance = NOISE_MULTIPLE * LOSS_NOISE[name]
    for step in range(steps):
        chosen = torch.from_numpy(golden["batch_index"][step])
        row = golden["steps"][step]
        assert learning_rate(state.step, state.hyperparameters) == pytest.approx(row[8], rel=1e-6)
        values = state.train_step(images[chosen], reference.labels[chosen])
        np.testing.assert_allclose(values, row[:4], rtol=0, atol=tolerance)
        np.testing.assert_allclose(state.loss_averages.values, row[4:8], rtol=0, atol=tolerance)
        if noise := TRAJECTORY_NOISE[name].get(state.step):
            assert_state_matches(state, golden, f"step{state.step:02d}", noise)
    assert state.step == golden["steps"][steps - 1, 11]


def assert_state_matches(state: TrainingState, golden: Mapping[str, Array], prefix: str, noise: float) -> None:
    for name, parameter in state.model.named_parameters():
        variable = tf_name(name)
        key = variable.replace("/", "_")
        assert_matches(to_tf(variable, parameter), golden, f"{prefix}_var_{key}", noise)
        assert_matches(to_tf(variable, state.ema.weights[name]), golden, f"{prefix}_ema_{key}", noise)
