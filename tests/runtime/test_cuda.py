"""CUDA without a GPU: ONNX Runtime's CUDA provider on stand-ins for CUDA's libraries; see tests/cuda_stub/build.py."""

import os
import shutil
from pathlib import Path

import pytest

from tests.cuda_stub.build import WHEELS
from tests.helpers.cuda_stub import SIZES, run_scenario


@pytest.fixture(params=[wheel.version for wheel in WHEELS])
def stub(request: pytest.FixtureRequest) -> Path:
    """The folder of one version of onnxruntime-gpu; skips unless CIFAR10_CUDA_STUB names the folder of all versions."""
    version: str = request.param
    folder = Path(os.environ.get("CIFAR10_CUDA_STUB", "none")).absolute() / version
    if not (folder / "lib").is_dir():
        pytest.skip("CIFAR10_CUDA_STUB must name the folder that tests/cuda_stub/build.py wrote")
    return folder


def forbidden(counts: dict[str, int]) -> list[str]:
    return [name for name in counts if name.startswith("forbidden")]


def test_each_image_gets_its_own_answer_at_every_batch_size(stub: Path) -> None:
    found = run_scenario(stub, "batch_sizes")
    assert found["right"]
    assert found["empty"] == [0, 10]
    assert forbidden(found["counts"]) == []
    # Each of the two GPU threads captures at most the graphs of 1, 2, 32, 512, 1,024 and 2,048 images.
    assert found["counts"]["cudaStreamBeginCapture"] <= 2 * len(SIZES)


@pytest.mark.parametrize("size", [1, 31, 512, 2048])
def test_a_batch_is_one_copy_in_one_launch_and_one_copy_out(stub: Path, size: int) -> None:
    counts = run_scenario(stub, "one_batch", str(size))["counts"]
    assert counts["cudaGraphLaunch"] == 1
    assert counts["copy host to device"] == counts["copy device to host"] == 1
    assert "kernel" not in counts
    assert "cudaMalloc" not in counts


def test_threads_and_classifiers_never_break_a_capture(stub: Path) -> None:
    found = run_scenario(stub, "many_threads")
    assert found["right"]
    assert found["opened"] > 0
    assert forbidden(found["counts"]) == []


def test_two_captures_at_once_do_not_break_each_other(stub: Path) -> None:
    found = run_scenario(stub, "captures_at_once")
    assert found["right"]
    assert forbidden(found["counts"]) == []
    assert found["counts"]["cudaStreamBeginCapture"] == 20 * 2 * 3  # no capture failed and was repeated


def test_closing_under_load_ends_every_call(stub: Path) -> None:
    found = run_scenario(stub, "close_under_load")
    assert found["right"]
    assert forbidden(found["counts"]) == []


def test_a_process_ends_although_its_classifiers_were_never_closed(stub: Path) -> None:
    assert run_scenario(stub, "never_closed")["right"]


def test_a_failed_graph_is_never_replayed(stub: Path) -> None:
    answers = run_scenario(stub, "failing_launches")["answers"]
    assert answers[1::2] == ["right"] * 4
    for answer, images in zip(answers[::2], (64, 64, 128, 1), strict=True):
        assert f"failed on a batch of {images} images" in answer


def test_little_memory_means_smaller_graphs(stub: Path) -> None:
    assert run_scenario(stub, "little_memory")["right"]


@pytest.mark.parametrize(
    ("model", "fast_math", "tensor_cores"),
    [("fp32", "", "0"), ("fp32", "1", "1"), ("fp16", "", "1"), ("views10", "", "0")],
)
def test_float32_is_exact_without_fast_math_and_float16_uses_tensor_cores(
    stub: Path, model: str, fast_math: str, tensor_cores: str
) -> None:
    assert run_scenario(stub, "open_model", model, "cuda", fast_math)["options"]["use_tf32"] == tensor_cores


@pytest.mark.parametrize("model", ["fp32", "fp16", "views10", "tutorial"])
def test_every_model_but_int8_runs_wholly_on_cuda(stub: Path, model: str) -> None:
    assert run_scenario(stub, "open_model", model, "cuda")["device"] == "cuda"


def test_int8_is_refused_on_cuda_and_auto_takes_the_cpu(stub: Path) -> None:
    error = run_scenario(stub, "open_model", "int8", "cuda")["error"]
    assert error == "--device cuda lacks operators of this model: use --model fp32 or fp16, or --device cpu"
    assert run_scenario(stub, "open_model", "int8", "auto")["device"] == "cpu"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param({"STUB_GPU_ERROR": "100"}, "finds no NVIDIA GPU", id="no GPU"),
        pytest.param({"STUB_GPU_ERROR": "35"}, "needs an NVIDIA driver, or a newer one", id="no driver or an old one"),
        pytest.param({"STUB_LAUNCH_ERROR": "209"}, "no machine code for this GPU", id="GPU of another generation"),
        pytest.param({"STUB_MEMORY": "1024"}, "too little free memory", id="no memory"),
    ],
)
def test_an_unusable_gpu_is_one_clear_line_and_auto_takes_the_cpu(
    stub: Path, environment: dict[str, str], message: str
) -> None:
    error = run_scenario(stub, "open_model", "fp32", "cuda", **environment)["error"]
    assert error.startswith("--device cuda ")
    assert message in error
    assert len(error) < 150
    assert run_scenario(stub, "open_model", "fp32", "auto", **environment)["device"] == "cpu"


@pytest.mark.parametrize(
    ("library", "message"),
    [
        ("libcudnn.so.9", "needs cuDNN 9: pip install 'cifar10-zoo[gpu]'"),
        ("libcurand.so.10", "needs libcurand.so.10: pip install 'cifar10-zoo[gpu]'"),
    ],
)
def test_a_missing_library_is_named_and_auto_takes_the_cpu(
    stub: Path, tmp_path: Path, library: str, message: str
) -> None:
    (tmp_path / "site").symlink_to(stub / "site")
    shutil.copytree(stub / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns(library))
    assert run_scenario(tmp_path, "open_model", "fp32", "cuda") == {"error": f"--device cuda {message}"}
    assert run_scenario(tmp_path, "open_model", "fp32", "auto")["device"] == "cpu"


def test_a_number_chooses_a_gpu(stub: Path) -> None:
    found = run_scenario(stub, "open_model", "fp32", "cuda:1", STUB_GPUS="2")
    assert found["device"] == "cuda:1"
    assert found["options"]["device_id"] == "1"
    error = run_scenario(stub, "open_model", "fp32", "cuda:1", STUB_GPUS="1")["error"]
    assert error == "--device cuda:1 finds no GPU with this number: see nvidia-smi and CUDA_VISIBLE_DEVICES"


def test_decoding_is_handed_out_in_batches_that_many_threads_share(stub: Path) -> None:
    """A thread gets 32 files at a time, also on a GPU: 1,000 photographs keep 32 threads busy."""
    assert run_scenario(stub, "open_model", "fp32", "cuda")["batch_size"] == 32
