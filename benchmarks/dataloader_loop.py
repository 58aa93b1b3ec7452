"""The same with a torch DataLoader that decodes in as many processes as there are processors.

python benchmarks/dataloader_loop.py MODEL FOLDER OUTPUT
"""

import csv
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from torch.utils.data import DataLoader, Dataset

from benchmarks.plain_loop import BATCH_SIZE, load


class Files(Dataset[tuple[np.ndarray, str]]):
    """Pixels and path of each file."""

    def __init__(self, folder: str) -> None:
        self.paths = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".png", ".jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        return load(self.paths[index]), str(self.paths[index])


def main(model: str, folder: str, output: str) -> None:
    """Write path, class and probability of every file."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    batches = DataLoader(Files(folder), BATCH_SIZE, num_workers=os.cpu_count() or 1)
    with open(output, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for images, paths in batches:
            (probabilities,) = session.run(["probabilities"], {"images": images.numpy()})
            for path, row in zip(paths, probabilities, strict=True):
                writer.writerow([path, row.argmax(), row.max()])


if __name__ == "__main__":
    main(*sys.argv[1:])
