"""Runs scenarios with ONNX Runtime's OpenVINO package, which replaces the package of the test process.

A scenario runs in a subprocess and prints a JSON object:

    PYTHONPATH=FOLDER python -m tests.helpers.openvino SCENARIO
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
from cifar10_runtime import Classifier, InferenceError
from cifar10_runtime.engine import devices
from cifar10_runtime.engine.models import find_model

from tests.helpers.command_line import ROOT

TASKS = Path("/proc/self/task")
"""Linux's folder of the threads of this process."""


def run_scenario(site: str, name: str, *words: object) -> dict[str, Any]:
    """Run a scenario with the package in the folder ``site``, or the installed one; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.helpers.openvino", name, *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": python_path(site)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def python_path(site: str) -> str:
    """Return a PYTHONPATH with the folder ``site``, if there is one, and this repository."""
    return os.pathsep.join(filter(None, (site, str(ROOT))))


def compare(model: str, images: str, labels: str = "") -> dict[str, Any]:
    """Compare the logits of a bundled model on OpenVINO with those on the CPU, and the top-1 predictions.

    Args:
        model: Name of the model.
        images: A .npy file of images [N, 32, 32, 3] uint8.
        labels: A .npy file of their labels, for the accuracy on OpenVINO.
    """
    batch = np.load(images)
    on_cpu, on_openvino = (_logits(model, device, batch) for device in ("cpu", "openvino"))
    top1 = on_openvino.argmax(axis=1)
    return {
        "differences": np.abs(on_cpu - on_openvino).max(axis=1).tolist(),
        "other_top1": int((on_cpu.argmax(axis=1) != top1).sum()),
        "accuracy": float((top1 == np.load(labels)).mean()) if labels else None,
    }


def _logits(model: str, device: str, batch: np.ndarray) -> np.ndarray:
    """Return the logits [N, classes] of a bundled model, in batches of 16."""
    path, _ = find_model(model, devices.provider_of(device).conv2_algorithm)
    session = devices.open_on_device(path, path.read_bytes(), device, fast_math=False, threads=1)
    parts = [batch[start : start + 16] for start in range(0, len(batch), 16)]
    return np.concatenate([session.run(["logits"], {"images": part})[0] for part in parts])


def batch_sizes(model: str) -> dict[str, Any]:
    """Return the largest difference between the probabilities of batches and those of single images."""
    batch = _random_images(100)
    with Classifier(model, device="openvino", threads=2) as classifier:
        single = np.concatenate([classifier.probabilities(image[None]) for image in batch])
        sizes = (0, 1, 2, 3, 15, 16, 17, 33, 100)
        shapes = [classifier.probabilities(batch[:size]).shape for size in sizes]
        differences = [np.abs(classifier.probabilities(batch[:size]) - single[:size]).max(initial=0) for size in sizes]
    return {"shapes": shapes, "difference": float(max(differences))}


def threads(count: str) -> dict[str, Any]:
    """Let as many threads classify at once as the classifier has, and watch all threads of the process.

    Returns:
        The CPU time of each thread but this one, in clock ticks, and the CPUs that threads might use in the meantime.
    """
    batch, masks = _random_images(1), set()
    with Classifier(device="openvino", threads=int(count)) as classifier, ThreadPoolExecutor(int(count)) as pool:
        before = _ticks()
        end = time.process_time() + int(count)  # seconds of CPU time of all threads

        def work() -> None:
            while time.process_time() < end:
                classifier.probabilities(batch)

        jobs = [pool.submit(work) for _ in range(int(count))]
        while not all(job.done() for job in jobs):
            masks |= {_mask(task) for task in TASKS.iterdir()}
            time.sleep(0.01)
        this = threading.get_native_id()
        ticks = [ticks - before.get(thread, 0) for thread, ticks in _ticks().items() if thread != this]
    return {"ticks": ticks, "masks": sorted(masks - {""}), "own_mask": _mask(TASKS / str(this))}


def _ticks() -> dict[int, int]:
    """Return the CPU time of each thread in clock ticks, by thread id."""
    found = {}
    for task in TASKS.iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the thread has ended
            continue
        found[int(task.name)] = int(fields[11]) + int(fields[12])  # utime and stime
    return found


def _mask(task: Path) -> str:
    """Return the CPUs that a thread may use, empty if it has ended."""
    try:
        lines = (task / "status").read_text().splitlines()
    except OSError:
        return ""
    return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))


def close_busy() -> dict[str, Any]:
    """Close a classifier that four threads use; return how their calls end."""
    classifier, batch = Classifier("int8", device="openvino"), _random_images(2000)
    busy = [threading.Event() for _ in range(4)]

    def compute_forever(event: threading.Event) -> str:
        try:
            while True:
                classifier.probabilities(batch)
                event.set()
        except InferenceError as error:
            return type(error).__name__

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(compute_forever, event) for event in busy]
        all(event.wait(60) for event in busy)
        classifier.close()
        return {"ends": [job.result() for job in jobs]}


def session_options(fast_math: str) -> dict[str, Any]:
    """Return the options that a classifier of 3 threads passes to OpenVINO on a processor with bf16."""
    opened: list[dict[str, str]] = []

    class Recording(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            opened.append(kwargs["providers"][0][1])

    onnxruntime.InferenceSession = Recording
    with patch.object(devices, "has_bf16", return_value=True):
        Classifier(device="openvino", fast_math=bool(fast_math), threads=3).close()
    return {"config": json.loads(opened[0]["load_config"])["CPU"]}


def fast_math() -> dict[str, Any]:
    """Return the largest difference that fast math makes to the probabilities of the default model, or the error."""
    batch = _random_images(100)
    try:
        with Classifier(device="openvino", fast_math=True) as fast, Classifier(device="openvino") as exact:
            return {"difference": float(np.abs(fast.probabilities(batch) - exact.probabilities(batch)).max())}
    except InferenceError as error:
        return {"error": str(error)}


def auto(avx512: str) -> dict[str, Any]:
    """Return the device that ``auto`` takes on a processor with or without AVX-512."""
    with (
        patch.object(devices, "has_avx512", return_value=bool(avx512)),
        Classifier("int8", device="auto") as classifier,
    ):
        return {"device": classifier.device, "available": devices.available()}


def _random_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


if __name__ == "__main__":
    scenario: Callable[..., dict[str, Any]] = globals()[sys.argv[1]]
    print(json.dumps(scenario(*sys.argv[2:])))
