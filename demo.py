"""The whole way on the synthetic data set: draw, train, evaluate, export, classify image files. See `make demo`.

python demo.py FOLDER
"""

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

STEPS = 400


def main(folder: Path) -> None:
    """Run every command as a user would, then print what came of it."""
    data, train_dir, images = folder / "data", folder / "train", folder / "images"
    model, predictions = folder / "synthetic.onnx", folder / "predictions.csv"
    python = [sys.executable, "-m"]
    infer = [str(Path(sys.executable).with_name("cifar10-infer"))]

    run([*python, "cifar10_zoo.synthetic", "--data-dir", data])
    training = run([*python, "cifar10_zoo.train", "--data-dir", data, "--train-dir", train_dir, "--max-steps", STEPS])
    evaluation = run([*python, "cifar10_zoo.evaluate", "--data-dir", data, "--checkpoint-dir", train_dir, "--run-once"])
    to_onnx = os.path.relpath(Path(__file__).parent / "export" / "to_onnx.py")
    run([sys.executable, to_onnx, "--data-dir", data, "--checkpoint-dir", train_dir, "--output", model])
    run([*python, "cifar10_zoo.image_folders", "--data-dir", data, "--output", images])
    inference = run([*infer, images, "--model", model, "--output", predictions])

    speeds = [float(speed) for speed in re.findall(r"\(([\d.]+) examples/sec", training)]
    rows = [
        ("data", "synthetic: ten drawn classes, not CIFAR-10"),
        ("precision @ 1, PyTorch, 10,000 test images", found(r"precision @ 1 = ([\d.]+)", evaluation)),
        ("accuracy, ONNX Runtime, the same as PNG files", found(r"accuracy ([\d.]+)", inference)),
        ("training, images/s (median)", f"{statistics.median(speeds):,.0f}"),
        ("inference from PNG files, images/s", f"{int(found('([0-9]+) images/s', inference)):,}"),
        ("checkpoints", train_dir),
        ("ONNX model", model),
        ("image files", images),
        ("predictions", predictions),
    ]
    print()
    for name, value in rows:
        print(f"{name:<46}  {value}")


def run(command: list[object]) -> str:
    """Run a command, show what it prints and return it; end the demo where it fails."""
    words = [str(word) for word in command]
    print("\n$", Path(words[0]).name, *words[1:], flush=True)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if status := process.wait():
        sys.exit(status)
    return "".join(lines)


def found(pattern: str, text: str) -> str:
    """The first group of the last match of ``pattern``."""
    return str(re.findall(pattern, text)[-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
