"""Run all commands on the synthetic data set: draw it, train, evaluate, export, classify image files (`make demo`).

python demo.py DIRECTORY
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
from pathlib import Path

STEPS = 400


def main(directory: Path) -> int:
    """Run each command as a user would, print a table of the results and return the exit status."""
    data, train_dir, images = directory / "data", directory / "train", directory / "images"
    model, predictions = directory / "synthetic.onnx", directory / "predictions.csv"
    python = [sys.executable, "-m"]
    to_onnx = os.path.relpath(Path(__file__).parent / "export" / "to_onnx.py")
    infer = shutil.which("cifar10-infer", path=sysconfig.get_path("scripts")) or "cifar10-infer"

    try:
        run(*python, "cifar10_zoo.synthetic", "--data-dir", data)
        training = run(*python, "cifar10_zoo.train", "--data-dir", data, "--train-dir", train_dir, "--max-steps", STEPS)
        evaluation = run(
            *python, "cifar10_zoo.evaluate", "--data-dir", data, "--checkpoint-dir", train_dir, "--run-once"
        )
        run(sys.executable, to_onnx, "--data-dir", data, "--checkpoint-dir", train_dir, "--output", model)
        run(*python, "cifar10_zoo.image_folders", "--data-dir", data, "--output", images)
        inference = run(infer, images, "--model", model, "--output", predictions)
    except subprocess.CalledProcessError as error:
        return error.returncode

    speeds = [float(speed) for speed in re.findall(r"\(([\d.]+) examples/sec", training)]
    rows = [
        ("data", "synthetic: ten drawn classes, not CIFAR-10"),
        ("top-1 accuracy, PyTorch, 10,000 test images", last_match(r"precision @ 1 = ([\d.]+)", evaluation)),
        ("top-1 accuracy, ONNX Runtime, 10,000 PNG files", last_match(r"accuracy ([\d.]+)", inference)),
        ("training, images/s (median)", f"{statistics.median(speeds):,.0f}"),
        ("inference from PNG files, images/s", f"{int(last_match('([0-9]+) images/s', inference)):,}"),
        ("checkpoints", train_dir),
        ("ONNX model", model),
        ("image files", images),
        ("predictions", predictions),
    ]
    print()
    for name, value in rows:
        print(f"{name:<46}  {value}")
    return 0


def run(*command: object) -> str:
    """Run a command, print its output while it runs, and return this output.

    Raises:
        subprocess.CalledProcessError: The command failed.
    """
    words = [str(word) for word in command]
    print("\n$", Path(words[0]).name, *words[1:], flush=True)
    lines = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return "".join(lines)


def last_match(pattern: str, text: str) -> str:
    """Return the first group of the last match of ``pattern`` in ``text``."""
    return str(re.findall(pattern, text)[-1])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
