"""The device ``openvino``: the answers of the CPU, one CPU per call, fast math, and when ``auto`` takes it."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from cifar10_runtime.engine import devices
from cifar10_runtime.engine.instructions import has_avx512, has_bf16
from cifar10_runtime.engine.models import bundled, find_model
from cifar10_runtime.engine.threads import usable_processors

from cifar10_zoo.data import cifar10
from cifar10_zoo.data.dataset import Dataset
from cifar10_zoo.data.load import load
from tests.helpers.command_line import assert_fails_cleanly, infer
from tests.helpers.openvino import python_path, run_scenario
from tests.stress.interrupt_inference import end, rows_of, start, wait_for_reader

OPENVINO = devices.PROVIDERS["openvino"].name


@pytest.fixture(scope="module")
def site() -> str:
    """The folder of onnxruntime-openvino, empty if it is the installed ONNX Runtime; skips without the package."""
    if OPENVINO in onnxruntime.get_available_providers():
        return ""
    folder = Path(os.environ.get("CIFAR10_OPENVINO", "none")).absolute()
    if not (folder / "onnxruntime").is_dir():
        pytest.skip("CIFAR10_OPENVINO must name a folder: pip install --no-deps --target FOLDER onnxruntime-openvino")
    return str(folder)


@pytest.fixture
def with_openvino(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that the test starts use onnxruntime-openvino."""
    monkeypatch.setenv("PYTHONPATH", python_path(site))


@pytest.fixture(scope="module")
def synthetic_images(drawings_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .npy file of 200 synthetic images."""
    path = tmp_path_factory.mktemp("synthetic") / "images.npy"
    np.save(path, pixels(load(drawings_dir, "test"))[:200])
    return path


@pytest.fixture(scope="module")
def real_images(cifar10_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """.npy files of the test images of CIFAR-10 and of their labels."""
    data, folder = cifar10.load(cifar10_dir, "test"), tmp_path_factory.mktemp("real")
    np.save(folder / "images.npy", pixels(data))
    np.save(folder / "labels.npy", data.labels.numpy())
    return folder / "images.npy", folder / "labels.npy"


def pixels(data: Dataset) -> np.ndarray:
    """Return all images [N, 32, 32, 3] uint8."""
    return data.images.permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.parametrize("model", bundled())
def test_each_bundled_model_gives_the_logits_and_the_top1_of_the_cpu(
    site: str, synthetic_images: Path, model: str
) -> None:
    found = run_scenario(site, "compare", model, synthetic_images)
    assert_same_logits(model, found["differences"])
    assert found["other_top1"] == 0


def assert_same_logits(model: str, differences: list[float]) -> None:
    """Assert that the largest difference of an image's logits is small.

    In int8, float32 rounds a value that lies between two integers to one of them on the CPU, to the other on OpenVINO,
    in one image of 400: its logits change by up to 0.1. All other images have the same logits.
    """
    if model == "int8":
        assert np.mean(np.array(differences) > 1e-3) <= 0.02
        assert max(differences) <= 0.3
    else:
        assert max(differences) <= (1e-2 if model == "fp16" else 1e-4)


@pytest.mark.parametrize(("model", "least"), [("fp32", 0.8817), ("int8", 0.8807)])
def test_the_accuracy_on_real_images_is_that_of_the_cpu(
    site: str, real_images: tuple[Path, Path], model: str, least: float
) -> None:
    found = run_scenario(site, "compare", model, *real_images)
    assert found["accuracy"] >= least
    assert found["other_top1"] <= 2
    assert_same_logits(model, found["differences"])


@pytest.mark.parametrize("model", ["fp32", "int8"])
def test_the_answers_do_not_depend_on_the_batch_size(site: str, model: str) -> None:
    found = run_scenario(site, "batch_sizes", model)
    assert found["shapes"] == [[size, 10] for size in (0, 1, 2, 3, 15, 16, 17, 33, 100)]
    assert found["difference"] <= 1e-5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/task")
@pytest.mark.parametrize("count", range(1, usable_processors() + 1)[:4])
def test_calls_compute_on_as_many_threads_as_the_classifier_has_and_on_any_cpu(site: str, count: int) -> None:
    found = run_scenario(site, "threads", count)
    busy = sorted(found["ticks"], reverse=True)[:count]
    assert sum(busy) >= 0.8 * sum(found["ticks"])
    assert min(busy) >= 0.25 * max(busy)
    assert found["masks"] == [found["own_mask"]]  # no thread is pinned to a CPU


@pytest.mark.parametrize(("fast_math", "precision"), [("", "f32"), ("1", "bf16")])
def test_a_session_has_a_stream_per_thread_and_computes_float32_without_fast_math(
    site: str, fast_math: str, precision: str
) -> None:
    assert run_scenario(site, "session_options", fast_math)["config"] == {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": "3",
        "INFERENCE_NUM_THREADS": "3",
        "ENABLE_CPU_PINNING": "NO",
    }


def test_fast_math_is_bf16_and_an_error_on_a_processor_without_bf16(site: str) -> None:
    found = run_scenario(site, "fast_math")
    if has_bf16():
        assert 1e-4 < found["difference"] < 0.1
    else:
        message = "--fast-math on OpenVINO needs bf16 instructions, which this processor does not have"
        assert found == {"error": message}


@pytest.mark.parametrize(("avx512", "device"), [("", "cpu"), ("1", "openvino")])
def test_auto_takes_openvino_only_on_a_processor_with_avx512(site: str, avx512: str, device: str) -> None:
    assert run_scenario(site, "auto", avx512) == {"device": device, "available": ["openvino", "cpu"]}


def test_closing_a_busy_classifier_ends_every_call_with_an_error(site: str) -> None:
    ends = run_scenario(site, "close_busy")["ends"]
    assert set(ends) <= {"InferenceError", "UsageError"}
    assert len(ends) == 4


@pytest.mark.usefixtures("with_openvino")
def test_the_command_classifies_on_openvino_and_says_so(folder: Path, tmp_path: Path) -> None:
    outputs = {device: tmp_path / f"{device}.csv" for device in ("cpu", "openvino", "auto")}
    for device, output in outputs.items():
        result = infer(folder, "--model", "int8", "--device", device, "--output", output)
        assert result.returncode == 0, result.stderr
        chosen = ("openvino" if has_avx512() else "cpu") if device == "auto" else device
        assert f"images/s, device {chosen}, model int8" in result.stderr
    labels = {device: [row[:2] for row in rows_of(output.read_bytes(), ".csv")] for device, output in outputs.items()}
    assert len(labels["cpu"]) == 301
    assert labels["openvino"] == labels["auto"] == labels["cpu"]


@pytest.mark.usefixtures("with_openvino")
def test_a_signal_ends_the_command_in_the_middle_of_a_call(photo: Path, tmp_path: Path) -> None:
    """OpenVINO cannot cancel a call: 5,000 images in ten-crop take a minute, but the command does not wait."""
    pipe, paths = tmp_path / "last.png", tmp_path / "paths"
    os.mkfifo(pipe)
    paths.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in [*[photo] * 4999, pipe]))
    words = ("--device", "openvino", "--model", "views10", "--batch-size", 5000)
    process = start("--files-from", paths, *words, before=("env", "--default-signal=INT"))
    wait_for_reader(pipe, process)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 128 + signal.SIGINT
    assert time.monotonic() - begin < 2


@pytest.mark.usefixtures("with_openvino")
def test_a_device_of_another_package_is_one_line_that_says_what_to_install(photo: Path) -> None:
    assert_fails_cleanly(
        infer(photo, "--device", "cuda"),
        1,
        "error: --device cuda: this ONNX Runtime has no CUDAExecutionProvider: pip uninstall onnxruntime-openvino "
        "onnxruntime, then pip install 'cifar10-zoo[gpu]'",
    )


@pytest.mark.usefixtures("with_openvino")
def test_a_model_with_an_operator_that_openvino_lacks_is_one_line(photo: Path, tmp_path: Path) -> None:
    path, model = tmp_path / "hardmax.onnx", onnx.load(find_model("fp32", "direct")[0])
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type = "Hardmax"
    onnx.save(model, path)
    result = infer(photo, "--device", "openvino", "--model", path)
    assert_fails_cleanly(result, 1, f"--device openvino lacks operators of {path}: use --device cpu")
    assert infer(photo, "--device", "cpu", "--model", path).returncode == 0


@pytest.mark.skipif(OPENVINO in onnxruntime.get_available_providers(), reason="onnxruntime-openvino is installed")
def test_openvino_without_its_package_is_one_line_that_says_what_to_install(photo: Path) -> None:
    assert_fails_cleanly(
        infer(photo, "--device", "openvino"),
        1,
        "error: --device openvino: this ONNX Runtime has no OpenVINOExecutionProvider: pip uninstall onnxruntime-gpu "
        "onnxruntime, then pip install 'cifar10-zoo[openvino]'",
    )


@pytest.mark.parametrize(
    ("installed", "avx512", "tried"),
    [
        (["cpu"], True, ["cpu"]),
        (["cuda", "cpu"], True, ["cuda", "cpu"]),
        (["openvino", "cpu"], True, ["openvino", "cpu"]),
        (["openvino", "cpu"], False, ["cpu"]),
    ],
)
def test_auto_tries_cuda_then_openvino_with_avx512_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], avx512: bool, tried: list[str]
) -> None:
    monkeypatch.setattr(devices, "available", lambda: installed)
    monkeypatch.setattr(devices, "has_avx512", lambda: avx512)
    assert devices.candidates("auto") == tried


@pytest.mark.parametrize(
    ("baseline", "found", "avx512"),
    [
        pytest.param(["X86_V2"], ["X86_V3"], False, id="NumPy 2.4, AVX2"),
        pytest.param(["X86_V2"], ["X86_V3", "X86_V4", "AVX512_ICL"], True, id="NumPy 2.4, AVX-512"),
        pytest.param(["SSE", "SSE2", "SSE3"], ["SSSE3", "AVX2", "FMA3"], False, id="NumPy 2.0, AVX2"),
        pytest.param(["SSE", "SSE2"], ["AVX2", "AVX512F", "AVX512CD", "AVX512_SKX"], True, id="NumPy 2.0, AVX-512"),
        pytest.param(["SSE", "SSE2"], ["AVX2", "AVX512F", "AVX512CD", "AVX512_KNL"], False, id="NumPy 2.0, Xeon Phi"),
        pytest.param(["X86_V2", "X86_V3", "X86_V4"], None, True, id="NumPy built for this processor"),
        pytest.param(["NEON", "ASIMD"], ["ASIMDHP", "SVE"], False, id="Arm"),
    ],
)
def test_avx512_is_found_by_the_names_of_each_numpy(
    monkeypatch: pytest.MonkeyPatch, baseline: list[str], found: list[str] | None, avx512: bool
) -> None:
    simd = {"baseline": baseline} | ({} if found is None else {"found": found})
    monkeypatch.setattr(np, "show_config", lambda **_mode: {"SIMD Extensions": simd})
    assert has_avx512() is avx512


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_avx512_is_found_where_linux_finds_it() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    assert has_avx512() == ({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= set(flags))


@pytest.mark.parametrize(
    ("flags", "bf16"),
    [
        pytest.param("fma avx2", False, id="AVX2"),
        pytest.param("avx2 avx512f avx512bw avx512_vnni", False, id="AVX-512 of Cascade Lake"),
        pytest.param("avx2 avx512f avx512bw avx512_vnni avx512_bf16", True, id="AVX-512 of Zen 4"),
    ],
)
def test_bf16_is_found_by_the_flags_of_linux(tmp_path: Path, flags: str, bf16: bool) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags} erms\n")
    assert has_bf16(tmp_path) is bf16


@pytest.mark.parametrize(("found", "bf16"), [(["X86_V4", "AVX512_ICL"], False), (["X86_V4", "AVX512_SPR"], True)])
def test_bf16_is_found_by_numpy_where_there_is_no_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: list[str], bf16: bool
) -> None:
    monkeypatch.setattr(np, "show_config", lambda **_mode: {"SIMD Extensions": {"found": found}})
    assert has_bf16(tmp_path) is bf16
