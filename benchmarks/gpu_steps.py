"""The steps of ``make gpu``. Each returns its result as a dictionary for JSON; see ``benchmarks.gpu``."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from cifar10_runtime import Classifier, DeviceError
from cifar10_runtime.engine.models import bundled

from benchmarks.machine import this_machine
from cifar10_zoo import train
from cifar10_zoo.config import Hyperparameters, Precision
from cifar10_zoo.data import cifar10
from cifar10_zoo.data.batches import LazyBatch, TrainingBatches
from cifar10_zoo.recipes import RECIPES
from cifar10_zoo.training import checkpoint
from cifar10_zoo.training.device import DeviceChoice, choose_device
from cifar10_zoo.training.inference import top1_accuracy
from cifar10_zoo.training.state import TrainingState

Result = dict[str, Any]


def versions(device: DeviceChoice) -> Result:
    """The machine, and what the doctor says."""
    doctor = _command("-c", "from cifar10_runtime.cli.doctor.command import examine; examine()")
    return {"machine": this_machine(), "cuda": torch.version.cuda, "doctor": doctor.stdout.splitlines()}


def models(device: DeviceChoice) -> Result:
    """Each bundled model on CUDA against the CPU, on all test images; int8 must be refused, and auto must work."""
    test = cifar10.load(cifar10.default_data_dir(), "test").images.permute(0, 2, 3, 1).contiguous().numpy()
    result: Result = {}
    for name in bundled():
        with Classifier(name, device="cpu") as on_cpu, Classifier(name, device="auto") as on_auto:
            expected = on_cpu.probabilities(test)
            result[name] = {"auto": on_auto.device}
        try:
            with Classifier(name, device="cuda") as on_cuda:
                result[name] |= _differences(on_cuda.probabilities(test), expected)
        except DeviceError as error:
            result[name] |= {"error": str(error)}
    return result


def throughput(device: DeviceChoice) -> Result:
    """Images/s of each model by batch size, copies included, with and without TF32."""
    result: Result = {}
    for name, fast in (("fp32", False), ("fp32", True), ("fp16", False), ("views10", False), ("views10", True)):
        with Classifier(name, device="cuda", fast_math=fast) as classifier:
            for size in (1, 8, 64, 512, 2048, 16384):
                batch = np.random.default_rng(0).integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
                seconds = _median_seconds(partial(classifier.probabilities, batch))
                result[f"{name}{' TF32' if fast else ''}, batch {size}"] = round(size / seconds)
    return result


def tests(device: DeviceChoice) -> Result:
    """The tests marked gpu; without pytest they are not run."""
    if not find_spec("pytest"):
        return {"pytest": "not installed"}
    done = _command("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests")
    return {"status": done.returncode, "last line": done.stdout.strip().splitlines()[-1]}


def agreement(device: DeviceChoice) -> Result:
    """Relative distance of the weights on both devices after 5 steps, by precision."""
    result: Result = {}
    for precision in _precisions(device):
        targets: tuple[DeviceChoice, ...] = ("cpu", device)
        states = [_step_taker(target, Hyperparameters(precision=_on(target, precision)))(5) for target in targets]
        cpu, gpu = (torch.cat([p.detach().cpu().flatten() for p in s.model.parameters()]) for s in states)
        result[precision] = float((gpu - cpu).norm() / cpu.norm())
    return result


def determinism(device: DeviceChoice) -> Result:
    """Whether 200 steps give the same bits twice, and with an interruption after 100."""
    steps = 200 if device == "cuda" else 4
    digests = []
    for stops in ((steps,), (steps,), (steps // 2, steps)):
        with _run_directory() as directory:
            for stop in stops:
                _train(device, directory, stop)
            digests.append(checkpoint.read_newest(directory).sha256)
    return {"twice": digests[0] == digests[1], "resumed": digests[0] == digests[2]}


def training(device: DeviceChoice) -> Result:
    """Steps/s of the command and top-1 accuracy, by recipe and precision, with and without summaries."""
    steps = 3000 if device == "cuda" else 4
    result: Result = {}
    for name in RECIPES:
        for precision in _precisions(device):
            for summaries in (0, 100):
                with _run_directory() as directory:
                    hyperparameters = replace(RECIPES[name], precision=precision)
                    seconds = _seconds(partial(_train, device, directory, steps, hyperparameters, summaries))
                    label = f"{name} {precision}{' with summaries' if summaries else ''}"
                    result[label] = {"steps_per_s": round(steps / seconds, 1), "top1": _accuracy(directory, device)}
    return result


def steps_alone(device: DeviceChoice) -> Result:
    """Steps/s of the training step without the command around it, by precision, with and without --compile."""
    steps = 1000 if device == "cuda" else 2
    result: Result = {}
    for compiled in (False, True) if device == "cuda" else (False,):
        for precision in _precisions(device):
            take = _step_taker(device, Hyperparameters(precision=precision), compiled)
            take(10 if device == "cuda" else 1)
            rate = steps / _seconds(partial(take, steps))
            result[f"{precision}{' compiled' if compiled else ''}"] = round(rate, 1)
    return result


def one_rank(device: DeviceChoice) -> Result:
    """The command under torchrun, with one process."""
    with _run_directory() as directory:
        words = ["--train-dir", str(directory), "--max-steps", "20", "--device", device]
        done = _command("-m", "torch.distributed.run", "--nproc-per-node=1", "-m", "cifar10_zoo.train", *words)
        return {"status": done.returncode, "last line": done.stderr.strip().splitlines()[-1]}


def threads(device: DeviceChoice) -> Result:
    """Two classifiers on 8 threads: the largest difference from the answers on one thread."""
    sizes = (1, 2, 511, 513, 10_000)
    batches = [np.random.default_rng(size).integers(0, 256, (size, 32, 32, 3), dtype=np.uint8) for size in sizes]
    largest = 0.0
    with Classifier(device="cuda") as first, Classifier("fp16", device="cuda") as second, ThreadPoolExecutor(8) as pool:
        for classifier in (first, second):
            expected = [classifier.probabilities(batch) for batch in batches]
            for _ in range(10):
                for found, wanted in zip(pool.map(classifier.probabilities, batches), expected, strict=True):
                    largest = max(largest, float(np.abs(found - wanted).max()))
    return {"largest difference": largest}


def profile(device: DeviceChoice) -> Result:
    """The kernels of one training step: calls and microseconds."""
    take = _step_taker(device, Hyperparameters())
    take(6)
    with torch.profiler.profile() as trace:
        take(1)
    rows = sorted(trace.key_averages(), key=lambda row: -row.self_device_time_total)
    return {row.key[:120]: [row.count, round(row.self_device_time_total)] for row in rows[:40]}


def hundred_thousand(device: DeviceChoice) -> Result:
    """The tutorial's 100,000 steps: seconds and top-1 accuracy."""
    steps = 100_000 if device == "cuda" else 4
    with _run_directory() as directory:
        seconds = _seconds(partial(_train, device, directory, steps, summaries=100))
        return {"steps": steps, "training_s": round(seconds, 1), "top1": _accuracy(directory, device)}


STEPS: dict[str, Callable[[DeviceChoice], Result]] = {
    step.__name__: step
    for step in (
        versions,
        models,
        throughput,
        agreement,
        steps_alone,
        training,
        threads,
        determinism,
        one_rank,
        profile,
        tests,
        hundred_thousand,
    )
}
"""In the order of their importance, because the time on a GPU may be short."""


def _command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def _differences(found: np.ndarray, expected: np.ndarray) -> Result:
    same = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return {"largest difference": float(np.abs(found - expected).max()), "same answers": same}


def _precisions(device: DeviceChoice) -> tuple[Precision, ...]:
    return ("fp32", "tf32", "bf16", "fp16") if device == "cuda" else ("fp32", "bf16")


def _on(device: str, precision: Precision) -> Precision:
    """Return the precision that a CPU has in place of ``precision``."""
    return "fp32" if device == "cpu" and precision in ("tf32", "fp16") else precision


def _step_taker(
    device: DeviceChoice, hyperparameters: Hyperparameters, compiled: bool = False
) -> Callable[[int], TrainingState]:
    """Return a function that takes a number of training steps, waits for the GPU, and returns the state."""
    target = choose_device(device, tf32=hyperparameters.precision == "tf32")
    state = TrainingState(hyperparameters, target)
    batches = TrainingBatches(cifar10.load(cifar10.default_data_dir(), "train"), hyperparameters, target)
    take_step = train.step_function(state, batches, compiled)

    def take(steps: int) -> TrainingState:
        for _ in range(steps):
            take_step(LazyBatch(batches, state.step))
        if device == "cuda":
            torch.cuda.synchronize()
        return state

    return take


def _train(
    device: DeviceChoice,
    directory: Path,
    steps: int,
    hyperparameters: Hyperparameters | None = None,
    summaries: int = 0,
) -> None:
    options = train.Options(
        train_dir=directory,
        max_steps=steps,
        device=device,
        hyperparameters=hyperparameters or Hyperparameters(),
        summary_frequency=summaries,
        log_frequency=100,
    )
    train.train(options)


def _accuracy(directory: Path, device: DeviceChoice) -> float:
    model = checkpoint.read_newest(directory).ema_model().to(device)
    return float(top1_accuracy(model, cifar10.load(cifar10.default_data_dir(), "test")))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _median_seconds(run: Callable[[], object]) -> float:
    for _ in range(3):
        run()
    return median(_seconds(run) for _ in range(20))


@contextmanager
def _run_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
