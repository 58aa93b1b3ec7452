"""Classify a folder with a torch DataLoader that decodes in one process per CPU.

python benchmarks/dataloader_loop.py MODEL FOLDER OUTPUT [--draft]

With --draft, Pillow decodes a JPEG file at 1/2, 1/4 or 1/8 of its size, as small as the model allows: the fastest
loop for photographs that we know.
"""

import csv
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.plain_loop import BATCH_SIZE, SIZE, image_paths, load, to_pixels

DRAFT_BATCH_SIZE = 8
"""Small, so that all workers have photographs to decode until the end."""


def load_draft(path: Path) -> np.ndarray:
    """Return the pixels of an image file, RGB [32, 32, 3] uint8; a large JPEG file is decoded at a reduced size."""
    with Image.open(path) as image:
        image.draft("RGB", (SIZE, SIZE))
        return to_pixels(image)


class Files(Dataset[tuple[np.ndarray, str]]):
    """Pixels and path of each file below a folder."""

    def __init__(self, folder: str, draft: bool) -> None:
        self.paths = image_paths(folder)
        self.load = load_draft if draft else load

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        return self.load(self.paths[index]), str(self.paths[index])


def main(model: str, folder: str, output: str, *flags: str) -> None:
    """Write path, class and probability of every file."""
    draft = "--draft" in flags
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    batch_size = DRAFT_BATCH_SIZE if draft else BATCH_SIZE
    batches = DataLoader(Files(folder, draft), batch_size, num_workers=os.cpu_count() or 1)
    with open(output, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for images, paths in batches:
            (probabilities,) = session.run(["probabilities"], {"images": images.numpy()})
            for path, row in zip(paths, probabilities, strict=True):
                writer.writerow([path, row.argmax(), row.max()])


if __name__ == "__main__":
    main(*sys.argv[1:])
