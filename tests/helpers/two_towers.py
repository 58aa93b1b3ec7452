"""One step of training on the golden weights and images, half of the batch in each of two processes.

    torchrun --nproc-per-node=2 tests/helpers/two_towers.py tests/golden/seed0 OUTPUT

The first process writes the average gradients and the new weights to OUTPUT, as safetensors.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.training.distributed import connect_ranks
from tests.helpers.golden_reference import Reference


def main(golden: Path, output: Path) -> None:
    """Take the step; write what came of it."""
    torch.set_num_threads(1)
    reference = Reference(golden)
    images = np.ascontiguousarray(reference.arrays("preprocess")["eval_images"].transpose(0, 3, 1, 2))
    with connect_ranks() as processes:
        state = reference.state(Hyperparameters(batch_size=8, num_gpus=processes.world_size))
        state.network = processes.replicate(state.model)
        mine = slice(8 * processes.rank, 8 * processes.rank + 8)
        losses = state.train_step(torch.from_numpy(images)[mine], reference.labels[mine])
        total_losses = [torch.zeros(()) for _ in range(processes.world_size)]
        torch.distributed.all_gather(total_losses, losses[-1])
    if processes.is_main:
        found = {"total_loss": torch.stack(total_losses)}
        for name, parameter in state.model.named_parameters():
            assert parameter.grad is not None
            found |= {f"gradient/{name}": parameter.grad, f"weights/{name}": parameter.detach()}
        save_file({name: tensor.contiguous() for name, tensor in found.items()}, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
