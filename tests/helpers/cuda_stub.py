"""Runs scenarios with onnxruntime-gpu on the stand-ins for CUDA that tests/cuda_stub/build.py writes.

The test process keeps its own ONNX Runtime, so a scenario runs in a subprocess:

    python -m tests.helpers.cuda_stub SCENARIO

Each scenario prints a JSON object. The stub answers with the class (first byte of the image) mod 10.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from cifar10_runtime import Classifier, DeviceError, InferenceError

from tests.helpers.command_line import ROOT

SIZES = (1, 2, 31, 511, 513, 10_000)


def run_scenario(stub: Path, name: str, *words: str, **environment: str) -> dict[str, Any]:
    """Run a scenario with the package and the libraries in ``stub``; return what it prints."""
    command = [sys.executable, "-m", "tests.helpers.cuda_stub", name, *words]
    result = subprocess.run(
        command, cwd=ROOT, env=stub_environment(stub, **environment), capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def stub_environment(stub: Path, **environment: str) -> dict[str, str]:
    """Return the environment of a process that uses the libraries in ``stub``."""
    paths = {"LD_LIBRARY_PATH": str(stub / "lib"), "PYTHONPATH": os.pathsep.join((str(stub / "site"), str(ROOT)))}
    return os.environ | paths | environment


def counts() -> dict[str, int]:
    """Return how often each function of the stub was called since the last call of this function."""
    import onnxruntime

    major = onnxruntime.cuda_version.partition(".")[0]
    runtime = ctypes.CDLL(f"libcudart.so.{major}")
    with tempfile.NamedTemporaryFile() as file:
        runtime.stub_write(file.name.encode())
        lines = Path(file.name).read_text().splitlines()
    runtime.stub_reset()
    return {name: int(count) for count, _, name in (line.partition("\t") for line in lines)}


def random_batch(images: int, seed: int) -> np.ndarray:
    """Return random images [images, 32, 32, 3] uint8."""
    return np.random.default_rng(seed).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)


def all_right(classifier: Classifier, batch: np.ndarray) -> bool:
    """Return whether the stub's answers for ``batch`` are those of its images, in order."""
    return bool((classifier.probabilities(batch).argmax(axis=1) == batch[:, 0, 0, 0] % 10).all())


def batch_sizes() -> dict[str, Any]:
    """Classify batches of all sizes, twice, on one thread."""
    with Classifier(device="cuda") as classifier:
        right = [all_right(classifier, random_batch(size, size)) for size in (*SIZES, *SIZES)]
        empty = classifier.probabilities(random_batch(0, 0)).shape
    return {"right": all(right), "empty": empty, "counts": counts()}


def one_batch(size: str) -> dict[str, Any]:
    """Count the calls of the third batch of a size."""
    with Classifier(device="cuda") as classifier:
        for _ in range(2):
            classifier.probabilities(random_batch(int(size), 0))
        counts()
        classifier.probabilities(random_batch(int(size), 0))
        return {"counts": counts()}


def many_threads() -> dict[str, Any]:
    """Classify on 8 threads with two classifiers, while a third thread opens and closes others."""
    done = threading.Event()

    def open_and_close() -> int:
        opened = 0
        while not done.is_set():
            with Classifier("fp16", device="cuda") as classifier:
                assert all_right(classifier, random_batch(3, opened))
            opened += 1
        return opened

    with ThreadPoolExecutor(9) as pool, Classifier(device="cuda") as first, Classifier("fp16", device="cuda") as second:
        opened = pool.submit(open_and_close)
        jobs = [
            pool.submit(all_right, classifier, random_batch(size, seed))
            for seed in range(3)
            for classifier in (first, second)
            for size in SIZES
        ]
        right = all(job.result() for job in jobs)
        done.set()
        return {"right": right, "opened": opened.result(), "counts": counts()}


def close_under_load() -> dict[str, Any]:
    """Close a classifier while 8 threads use it: each call ends with right answers or an error."""

    def work(classifier: Classifier, answers: list[bool]) -> None:
        with suppress(InferenceError):
            while True:
                answers.append(all_right(classifier, random_batch(40, 0)))

    everything: list[bool] = []
    for _ in range(4):
        answers: list[bool] = []
        classifier = Classifier(device="cuda")
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(work, classifier, answers) for _ in range(8)]
            while len(answers) < 5:
                time.sleep(0.001)
            classifier.close()
            for job in jobs:
                job.result()
        everything += answers
    return {"right": all(everything), "counts": counts()}


def captures_at_once() -> dict[str, Any]:
    """Open a classifier on each of two threads and classify at once, 20 times."""
    start = threading.Barrier(2)

    def work() -> bool:
        start.wait()
        with Classifier(device="cuda") as classifier:
            return all(all_right(classifier, random_batch(size, size)) for size in (1, 2, 5))

    with ThreadPoolExecutor(2) as pool:
        right = [job.result() for _ in range(20) for job in [pool.submit(work), pool.submit(work)]]
    return {"right": all(right), "counts": counts()}


def failing_launches() -> dict[str, Any]:
    """Classify while launches fail, before, in and after a capture, then again without failures."""
    answers = []
    with Classifier(device="cuda") as classifier:
        for variable, size in (("LAUNCH", 64), ("LAUNCH", 64), ("CAPTURE", 128), ("LAUNCH", 1)):
            os.environ[f"STUB_{variable}_ERROR"] = "719"
            try:
                classifier.probabilities(random_batch(size, 1))
                answers.append("no error")
            except InferenceError as error:
                answers.append(str(error))
            del os.environ[f"STUB_{variable}_ERROR"]
            right = [all_right(classifier, random_batch(size, seed)) for seed in range(5)]
            answers.append("right" if all(right) else "wrong")
    return {"answers": answers}


def little_memory() -> dict[str, Any]:
    """Classify 10,000 images on a GPU without the memory for the largest graphs."""
    with Classifier(device="cuda") as classifier:
        os.environ["STUB_MEMORY"] = str(256 << 20)
        return {"right": all_right(classifier, random_batch(10_000, 0)), "counts": counts()}


def never_closed() -> dict[str, Any]:
    """Leave one classifier to the garbage collector and one to the end of the process."""
    right = all_right(Classifier(device="cuda"), random_batch(3, 0))
    globals()["kept"] = Classifier(device="cuda")
    return {"right": right and all_right(globals()["kept"], random_batch(3, 0)), "counts": counts()}


def open_model(model: str, device: str, fast_math: str = "") -> dict[str, Any]:
    """Open a model; return its device, batch size and provider options, or the error."""
    options: list[dict[str, str]] = []
    import onnxruntime

    class Recording(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            options.append(self.get_provider_options().get("CUDAExecutionProvider", {}))

    onnxruntime.InferenceSession = Recording
    try:
        with Classifier(model, device=device, fast_math=bool(fast_math)) as classifier:
            return {"device": classifier.device, "batch_size": classifier.batch_size, "options": options[-1]}
    except DeviceError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
