"""Everything that training changes, and the step that changes it."""

import torch
from torch import Tensor

from cifar10_zoo.averages import WeightAverages
from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.loss import LossAverages, losses
from cifar10_zoo.model import Cifar10Net
from cifar10_zoo.schedule import learning_rate

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingState:
    """The weights, their averages, the loss averages and the number of completed steps.

    A new one holds freshly initialized weights at step 0.
    """

    def __init__(self, hyperparameters: Hyperparameters, device: torch.device | str = "cpu") -> None:
        self.hyperparameters = hyperparameters
        self.device = torch.device(device)
        self.step = 0
        self.model = Cifar10Net(hyperparameters.seed).to(device)
        self.averages = WeightAverages(self.model, hyperparameters.moving_average_decay)
        self.loss_averages = LossAverages(hyperparameters.loss_average_decay, device)
        # Each step sets the learning rate. Fused, a step whose scaled gradients overflow is skipped on the GPU itself.
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0, fused=self.device.type == "cuda")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=hyperparameters.precision == "fp16")

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One update: loss, gradients, plain SGD, then the averages of losses and of the new weights.

        Args:
            images: [N, 3, 24, 24] float32, standardized.
            labels: [N] int64.

        Returns:
            The losses before the update, [4] float32, in the order of ``loss.LOSS_NAMES``.

        Source: ``cifar10.train()``.
        """
        with self._autocast():
            logits = self.model(images.contiguous(memory_format=torch.channels_last))
        values = losses(self.model, logits.float(), labels, self.hyperparameters.weight_decay)
        self.optimizer.zero_grad()
        self.scaler.scale(values[-1]).backward()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.hyperparameters)
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)  # the summaries show gradients of the loss itself
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.averages.update(self.model, self.step)
        self.loss_averages.update(values)
        return values.detach()

    def tensors(self) -> dict[str, Tensor]:
        """Weights, averaged weights and averaged losses, by their names in a checkpoint."""
        weights = {f"weights/{name}": p.detach() for name, p in self.model.named_parameters()}
        averages = {f"averages/{name}": average for name, average in self.averages.weights.items()}
        return weights | averages | {"loss_averages": self.loss_averages.values}

    @torch.no_grad()
    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """What ``Cifar10Net.activations`` gives with the weights of now."""
        with self._autocast():
            return self.model.activations(images.contiguous(memory_format=torch.channels_last))

    def _autocast(self) -> torch.autocast:
        dtype = _AUTOCAST.get(self.hyperparameters.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)
