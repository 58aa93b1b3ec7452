"""The command writes a verified file, or says why not and writes nothing."""

import sys
from pathlib import Path
from subprocess import run as run_process

import numpy as np
import onnx
import pytest
from cifar10_export import VerificationError
from cifar10_export.command import Options, export

from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.checkpoint import Checkpoint
from cifar10_zoo.training.state import TrainingState
from tests.helpers.command_line import ROOT, assert_fails_cleanly, run, run_here
from tests.helpers.onnx_files import metadata_of


def test_importing_the_exporter_imports_neither_matplotlib_nor_tensorboard() -> None:
    code = "import sys, cifar10_export.command; print(sorted({'matplotlib', 'tensorboard'} & sys.modules.keys()))"
    result = run_process([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


def test_a_failed_verification_leaves_no_file(trained: Checkpoint, tmp_path: Path) -> None:
    """Weights above the range of float16 are infinite there."""
    state = TrainingState(trained.hyperparameters)
    trained.restore(state)
    state.ema.weights["softmax_linear.weight"].mul_(1e8)
    checkpoint.save(state, tmp_path / "train", trained.dataset, trained.classes)
    output = tmp_path / "models" / "model.onnx"
    output.parent.mkdir()
    options = Options("fp16", checkpoint_dir=tmp_path / "train", output=output, data_dir=tmp_path / "nothing")
    with pytest.raises(VerificationError, match="differ from PyTorch by"):
        export(options)
    assert list(output.parent.iterdir()) == []


def test_without_a_data_set_the_accuracy_is_left_out(train_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    export(Options(checkpoint_dir=train_dir, output=output, data_dir=tmp_path / "nothing"))
    metadata = metadata_of(output.read_bytes())
    assert "step" in metadata
    assert "test_accuracy" not in metadata


@pytest.mark.parametrize("output", [".", "nowhere/model.onnx"], ids=["a folder", "in a missing folder"])
def test_an_output_that_cannot_be_written_is_refused(train_dir: Path, tmp_path: Path, output: str) -> None:
    result = run_here("cifar10_export", "--checkpoint-dir", train_dir, "--output", tmp_path / output)
    assert_fails_cleanly(result, 2, "--output")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    result = run_here("cifar10_export", "--checkpoint-dir", tmp_path, "--output", tmp_path / "model.onnx")
    assert_fails_cleanly(result, 1, f"no checkpoint in {tmp_path}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        pytest.param(
            ("--precision", "int8", "--data-dir", "nowhere"),
            1,
            "calibrated on training images, and nowhere has none",
            id="int8 without training images",
        ),
        pytest.param(("--precision", "int8", "--views", "10"), 2, "--views 10", id="int8 with ten-crop"),
        pytest.param(("--precision", "fp16", "--layout", "winograd"), 2, "--layout winograd", id="fp16 by winograd"),
    ],
)
def test_an_impossible_variant_is_refused(
    train_dir: Path, tmp_path: Path, words: tuple[str, ...], status: int, part: str
) -> None:
    result = run_here("cifar10_export", "--checkpoint-dir", train_dir, "--output", tmp_path / "model.onnx", *words)
    assert_fails_cleanly(result, status, part)
    assert list(tmp_path.iterdir()) == []


def test_int8_stores_every_large_weight_but_the_last_in_8_bits(
    train_dir: Path, drawings_dir: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.onnx"
    words = ("--checkpoint-dir", train_dir, "--data-dir", drawings_dir, "--output", output)
    result = run(ROOT / "export" / "to_onnx.py", *words, "--precision", "int8")
    assert result.returncode == 0, result.stderr
    assert "as accurate as PyTorch in int8" in result.stderr
    model = onnx.load(output)
    types = [onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer if np.prod(t.dims) > 1000]
    assert sorted(types) == ["FLOAT", "INT8", "INT8", "INT8", "INT8"]
    assert all(node.domain in ("", "ai.onnx") for node in model.graph.node)
    assert output.stat().st_size < 1_200_000
