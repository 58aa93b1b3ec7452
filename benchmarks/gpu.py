"""Run everything that only a GPU can show, and keep the results: ``make gpu``.

    python benchmarks/gpu.py [--output DIR] [--device cuda|cpu] [STEP ...]

Each step is a process of its own and writes DIR/STEP.json, or DIR/STEP.log with its error. The steps run in the order
of their importance, and a second run skips those that have a result. ``hundred_thousand`` runs only if it is named.
Without installation: PYTHONPATH=.:runtime:export. With ``--device cpu``, the training steps run on a CPU, shortened,
which shows that they work.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from cifar10_runtime import atomic

from benchmarks import gpu_steps
from benchmarks.runs import RESULTS

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of: {', '.join(gpu_steps.STEPS)} (default: all)")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu", help="folder of the results (%(default)s)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="device of the training steps")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.steps) - set(gpu_steps.STEPS):
        parser.error(f"unknown step {', '.join(sorted(unknown))}; choose from {', '.join(gpu_steps.STEPS)}")
    if options.one:
        print(json.dumps(gpu_steps.STEPS[options.steps[0]](options.device)))
        return
    names = options.steps or [name for name in gpu_steps.STEPS if name != "hundred_thousand"]
    options.output.mkdir(parents=True, exist_ok=True)
    failed = [name for name in names if not run(name, options.output, options.device)]
    print(f"{len(names) - len(failed)} of {len(names)} steps have results in {options.output}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def run(name: str, output: Path, device: str) -> bool:
    """Run a step unless it has a result; return whether it has one now."""
    result = output / f"{name}.json"
    if result.exists():
        return True
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.gpu", "--one", "--device", device, name]
    with (output / f"{name}.log").open("w") as log:
        process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
    seconds = time.perf_counter() - start
    print(f"{name}: {'done' if process.returncode == 0 else 'failed'} in {seconds:.1f} s", file=sys.stderr)
    if process.returncode:
        return False
    found = json.loads(process.stdout.splitlines()[-1])
    atomic.write_file(result, (json.dumps({"seconds": round(seconds, 1)} | found, indent=1) + os.linesep).encode())
    return True


if __name__ == "__main__":
    main()
