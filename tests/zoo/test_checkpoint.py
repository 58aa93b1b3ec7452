"""Checkpoints: a restored state equals the saved one, and all damage is detected."""

import json
import resource
import signal
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data.cifar10 import CLASSES
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.errors import CheckpointError
from cifar10_zoo.tracking import history
from cifar10_zoo.tracking.history import Evaluation
from cifar10_zoo.tracking.logger import save_checkpoint
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.state import TrainingState

NAME_AND_CLASSES = ("synthetic", CLASSES["synthetic"])
DATA = Dataset(*NAME_AND_CLASSES, torch.zeros(0, 3, 32, 32, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
HYPERPARAMETERS = Hyperparameters(seed=7, batch_size=4)


@pytest.fixture(scope="module")
def state() -> TrainingState:
    """A state whose weights, EMA weights and loss averages all differ."""
    state = TrainingState(HYPERPARAMETERS)
    random = torch.Generator().manual_seed(0)
    for _ in range(2):
        state.train_step(torch.randn(4, 3, 24, 24, generator=random), torch.tensor([1, 2, 3, 4]))
    return state


@pytest.fixture(scope="module")
def saved(state: TrainingState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.save(state, tmp_path_factory.mktemp("checkpoint"), *NAME_AND_CLASSES)


def test_a_restored_state_equals_the_saved_one(state: TrainingState, saved: Path) -> None:
    read = checkpoint.read(saved)
    assert saved.name == "model.ckpt-2.safetensors"
    assert (read.step, read.dataset, read.classes) == (2, "synthetic", CLASSES["synthetic"])
    assert read.hyperparameters == HYPERPARAMETERS
    restored = TrainingState(Hyperparameters(seed=8, batch_size=4))
    read.restore(restored)
    assert restored.step == 2
    assert torch.equal(restored.loss_averages.values, state.loss_averages.values)
    ema = dict(read.ema_model().named_parameters())
    for name, parameter in state.model.named_parameters():
        assert torch.equal(dict(restored.model.named_parameters())[name], parameter)
        assert torch.equal(restored.ema.weights[name], state.ema.weights[name])
        assert torch.equal(ema[name], state.ema.weights[name])
        assert not torch.equal(ema[name], parameter)


def test_a_checkpoint_is_a_safetensors_file_with_the_documented_names_and_shapes(saved: Path) -> None:
    shapes = {name: list(tensor.shape) for name, tensor in safetensors.torch.load_file(saved).items()}
    parameters = {
        "conv1.weight": [64, 3, 5, 5],
        "conv1.bias": [64],
        "conv2.weight": [64, 64, 5, 5],
        "conv2.bias": [64],
        "local3.weight": [384, 2304],
        "local3.bias": [384],
        "local4.weight": [192, 384],
        "local4.bias": [192],
        "softmax_linear.weight": [10, 192],
        "softmax_linear.bias": [10],
    }
    expected = {f"{group}/{name}": shape for group in ("weights", "averages") for name, shape in parameters.items()}
    assert shapes == expected | {"loss_averages": [4]}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), in_header=st.booleans())
def test_each_flipped_bit_is_detected(saved: Path, tmp_path: Path, position: float, bit: int, in_header: bool) -> None:
    data = bytearray(saved.read_bytes())
    data[int(position * (3000 if in_header else len(data)))] ^= 1 << bit
    damaged = tmp_path / saved.name
    damaged.write_bytes(data)
    try:
        read = checkpoint.read(damaged)
    except CheckpointError as error:
        assert str(damaged) in str(error)  # noqa: PT017 - a flip in the padding of the header changes nothing
    else:
        assert read.sha256 == checkpoint.read(saved).sha256


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_each_truncation_is_detected(saved: Path, tmp_path: Path, fraction: float) -> None:
    data = saved.read_bytes()
    damaged = tmp_path / saved.name
    damaged.write_bytes(data[: int(fraction * len(data))])
    with pytest.raises(CheckpointError, match=r"model\.ckpt-2\.safetensors"):
        checkpoint.read(damaged)


def test_the_newest_five_and_the_most_accurate_checkpoint_are_kept(state: TrainingState, tmp_path: Path) -> None:
    for step, accuracy in ((1, 0.5), (2, 0.7), (3, 0.6), (4, 0.7 - 1e-9)):
        history.record(tmp_path, Evaluation(step, "test", 10_000, accuracy))
    history.record(tmp_path, Evaluation(4, "train_eval", 50_000, 0.99))
    with open(tmp_path / history.EVALUATIONS, "a", encoding="utf-8") as file:
        file.write("9,test\n")  # a damaged row
    for state.step in range(1, 10):
        save_checkpoint(state, DATA, tmp_path)
    state.step = 2
    assert [path.name for path in checkpoint.find(tmp_path)] == [
        f"model.ckpt-{step}.safetensors" for step in (2, 5, 6, 7, 8, 9)
    ]


def test_a_new_checkpoint_is_kept_although_damaged_ones_have_higher_steps(state: TrainingState, tmp_path: Path) -> None:
    """A run continues from the newest undamaged checkpoint, and so saves lower steps than the damaged ones."""
    for step in range(10, 16):
        (tmp_path / f"model.ckpt-{step}.safetensors").write_bytes(b"damaged")
    save_checkpoint(state, DATA, tmp_path)
    assert [path.name for path in checkpoint.find(tmp_path)] == [
        f"model.ckpt-{step}.safetensors" for step in (2, 11, 12, 13, 14, 15)
    ]


def test_a_damaged_newest_checkpoint_is_reported_and_the_previous_one_is_read(
    state: TrainingState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(state, tmp_path, *NAME_AND_CLASSES)
    newest = tmp_path / "model.ckpt-3.safetensors"
    newest.write_bytes((tmp_path / "model.ckpt-2.safetensors").read_bytes()[:-1])
    assert checkpoint.read_newest(tmp_path).step == 2
    assert f"warning: {newest} is damaged" in capsys.readouterr().err
    (tmp_path / "model.ckpt-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"none of the checkpoints in .* can be read"):
        checkpoint.read_newest(tmp_path)


def test_a_full_disk_does_not_harm_the_previous_checkpoint(state: TrainingState, tmp_path: Path) -> None:
    """A limit on the file size makes the write fail half-way, as a full disk does."""
    before = checkpoint.save(state, tmp_path, *NAME_AND_CLASSES)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        state.step += 1
        with pytest.raises(OSError, match=r"model\.ckpt-3\.safetensors"):
            checkpoint.save(state, tmp_path, *NAME_AND_CLASSES)
    finally:
        state.step -= 1
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == [before]
    assert checkpoint.read_newest(tmp_path).step == 2


def test_a_renamed_checkpoint_is_an_error(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt-99.safetensors").write_bytes(saved.read_bytes())
    with pytest.raises(CheckpointError, match=r"model\.ckpt-99\.safetensors is the checkpoint of step 2"):
        checkpoint.read(tmp_path / "model.ckpt-99.safetensors")


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        checkpoint.read(tmp_path / "nowhere")


def test_another_safetensors_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt-1.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of format"):
        checkpoint.read(path)


@pytest.fixture
def content(saved: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of ``saved`` without its checksum, for ``checkpoint.write``."""
    with safetensors.safe_open(saved, framework="pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    return tensors, {key: value for key, value in metadata.items() if key != "sha256"}


def test_missing_hyperparameters_of_an_earlier_version_get_their_defaults(
    content: tuple[dict[str, torch.Tensor], dict[str, str]], tmp_path: Path
) -> None:
    tensors, metadata = content
    metadata["hyperparameters"] = json.dumps({"seed": 7, "batch_size": 4, "weight_decay": 0.004})
    checkpoint.write(tmp_path / "earlier", tensors, metadata)
    assert checkpoint.read(tmp_path / "earlier").hyperparameters == HYPERPARAMETERS


def test_a_checkpoint_of_a_later_version_is_refused(
    content: tuple[dict[str, torch.Tensor], dict[str, str]], tmp_path: Path
) -> None:
    tensors, metadata = content
    metadata["hyperparameters"] = json.dumps(asdict(HYPERPARAMETERS) | {"hue": 1})
    checkpoint.write(tmp_path / "later", tensors, metadata)
    with pytest.raises(CheckpointError, match="by a later version: it has hyperparameters hue"):
        checkpoint.read(tmp_path / "later")


def test_the_newest_checkpoint_is_the_one_with_the_highest_step(state: TrainingState, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt-99999.safetensors.tmp").touch()
    (tmp_path / "notes.txt").touch()
    assert checkpoint.latest(tmp_path) is None
    for state.step in (2, 9, 10, 100, 20, 1000, 30):
        save_checkpoint(state, DATA, tmp_path)
    state.step = 2
    assert [path.name.split("-")[1] for path in checkpoint.find(tmp_path)] == [
        f"{step}.safetensors" for step in (10, 20, 30, 100, 1000)
    ]
    assert checkpoint.latest(tmp_path) == tmp_path / "model.ckpt-1000.safetensors"
