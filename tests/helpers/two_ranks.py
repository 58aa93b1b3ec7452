"""One training step on the golden weights and images, with half of the batch on each of two ranks."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.training.distributed import connect_ranks
from tests.helpers.golden_reference import Reference


def golden_step(golden: Path, output: Path) -> None:
    """Take one training step on this rank.

    Args:
        golden: A folder with numbers of the original program.
        output: Where rank 0 writes the losses of both ranks, the average gradients and the new weights: a safetensors
            file.
    """
    torch.set_num_threads(1)
    reference = Reference(golden)
    images = np.ascontiguousarray(reference.arrays("preprocess")["eval_images"].transpose(0, 3, 1, 2))
    with connect_ranks() as ranks:
        state = reference.state(Hyperparameters(batch_size=8, num_gpus=ranks.world_size))
        state.ranks = ranks
        half = slice(8 * ranks.rank, 8 * ranks.rank + 8)
        losses = state.train_step(torch.from_numpy(images)[half], reference.labels[half])
        total_losses = [torch.zeros(()) for _ in range(ranks.world_size)]
        torch.distributed.all_gather(total_losses, losses[-1])
    if ranks.is_main:
        results = {"total_loss": torch.stack(total_losses)}
        for name, parameter in state.model.named_parameters():
            assert parameter.grad is not None
            results |= {f"gradient/{name}": parameter.grad, f"weights/{name}": parameter.detach()}
        save_file({name: tensor.contiguous() for name, tensor in results.items()}, output)
