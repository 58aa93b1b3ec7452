"""Classify a folder with the simplest loop: decode a batch with Pillow, then run ONNX Runtime.

python benchmarks/plain_loop.py MODEL FOLDER OUTPUT
"""

import csv
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

BATCH_SIZE = 64
SIZE = 32


def image_paths(folder: str) -> list[Path]:
    """Return the PNG and JPEG files below ``folder``, sorted."""
    return sorted(path for path in Path(folder).rglob("*") if path.suffix in (".png", ".jpg"))


def load(path: Path) -> np.ndarray:
    """Return the pixels of an image file, RGB [32, 32, 3] uint8."""
    with Image.open(path) as image:
        return to_pixels(image)


def to_pixels(image: Image.Image) -> np.ndarray:
    """Return RGB [32, 32, 3] uint8 of an open image."""
    rgb = image.convert("RGB")
    return np.asarray(rgb if rgb.size == (SIZE, SIZE) else rgb.resize((SIZE, SIZE)))


def main(model: str, folder: str, output: str) -> None:
    """Write path, class and probability of every file."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    paths = image_paths(folder)
    with open(output, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for start in range(0, len(paths), BATCH_SIZE):
            chunk = paths[start : start + BATCH_SIZE]
            (probabilities,) = session.run(["probabilities"], {"images": np.stack([load(path) for path in chunk])})
            for path, row in zip(chunk, probabilities, strict=True):
                writer.writerow([path, row.argmax(), row.max()])


if __name__ == "__main__":
    main(*sys.argv[1:])
