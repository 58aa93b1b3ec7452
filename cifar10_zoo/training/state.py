"""Everything that training changes, and the step that changes it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.network.batch_norm import Cifar10NetBN
from cifar10_zoo.network.model import Cifar10Net
from cifar10_zoo.network.whitening import whitening_filters
from cifar10_zoo.training.ema import EmaWeights, ema_decay
from cifar10_zoo.training.loss import LossAverages, losses
from cifar10_zoo.training.schedule import learning_rate

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def new_model(hyperparameters: Hyperparameters) -> Cifar10Net:
    """The network to train, freshly initialized."""
    network = Cifar10NetBN if hyperparameters.batch_norm else Cifar10Net
    return network(hyperparameters.seed)


class TrainingState:
    """The weights, their averages, momentum, the loss averages and the number of completed steps.

    A new one holds freshly initialized weights at step 0.
    """

    network: nn.Module
    """What a step computes with: ``model``, or a wrapper around it that compiles it or averages gradients."""

    def __init__(self, hyperparameters: Hyperparameters, device: torch.device | str = "cpu") -> None:
        self.hyperparameters = hyperparameters
        self.device = torch.device(device)
        self.step = 0
        self.model = new_model(hyperparameters).to(device)
        self.network = self.model
        self.ema = EmaWeights(self.model)
        self.loss_averages = LossAverages(hyperparameters.loss_average_decay, device)
        # Tensors, since a CUDA graph reads the values of its step from them.
        self.rate = torch.zeros((), device=device)
        self.ema_weight = torch.zeros((), device=device)
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=hyperparameters.precision == "fp16")

    def whiten(self, images: Tensor) -> None:
        """Begin with whitening filters in conv1, computed from ``images`` [N, 3, H, W] uint8."""
        with torch.no_grad():
            self.model.conv1.weight.copy_(whitening_filters(images))
        self.ema = EmaWeights(self.model)

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One update: loss, gradients, SGD, then the averages of losses and of the new weights.

        Args:
            images: [N, 3, 24, 24] float32, standardized.
            labels: [N] int64.

        Returns:
            The losses before the update, [4] float32, in the order of ``loss.LOSS_NAMES``.

        Source: ``cifar10.train()``.
        """
        self.begin_step()
        return self.update(images, labels)

    def begin_step(self) -> None:
        """Count a step, and set its learning rate and how much of the new weights goes into their averages."""
        self.rate.fill_(learning_rate(self.step, self.hyperparameters))
        self.step += 1
        self.ema_weight.fill_(1 - ema_decay(self.step, self.hyperparameters.moving_average_decay))

    def update(self, images: Tensor, labels: Tensor) -> Tensor:
        """What a step does on the device; see ``train_step``. It waits for nothing, as a CUDA graph demands."""
        with self._autocast():
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        values = losses(self.model, logits.float(), labels, self.hyperparameters)
        self.optimizer.zero_grad()
        self.scaler.scale(values[-1]).backward()
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)  # the summaries show gradients of the loss itself
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update(self.model, self.ema_weight)
        self.loss_averages.update(values)
        return values.detach()

    def tensors(self) -> dict[str, Tensor]:
        """Weights, averaged weights, momentum, averaged losses and loss scale, by their names in a checkpoint."""
        weights = {f"weights/{name}": tensor for name, tensor in self.model.state_dict().items()}
        averages = {f"averages/{name}": average for name, average in self.ema.weights.items()}
        momentum = {
            f"momentum/{name}": self.optimizer.state[p]["momentum_buffer"]
            for name, p in self.model.named_parameters()
            if self.hyperparameters.momentum
        }
        scale = {"loss_scale": self._loss_scale()} if self.scaler.is_enabled() else {}
        return weights | averages | momentum | {"loss_averages": self.loss_averages.values} | scale

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Continue from ``step`` with the values of ``tensors``, which have the names and shapes of ``tensors()``."""
        for name, target in self.tensors().items():
            target.copy_(tensors[name])
        if self.scaler.is_enabled():
            scale, steps = tensors["loss_scale"].tolist()
            changed = {"scale": scale, "_growth_tracker": int(steps)}
            self.scaler.load_state_dict(self.scaler.state_dict() | changed)
        self.step = step

    def _loss_scale(self) -> Tensor:
        """The loss scale and the steps since it changed, [2] float32."""
        scaler = self.scaler.state_dict()
        return torch.tensor([scaler["scale"], scaler["_growth_tracker"]])

    @torch.no_grad()
    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """What ``Cifar10Net.activations`` gives with the weights of now."""
        with self._autocast():
            return self.model.activations(images.contiguous(memory_format=torch.channels_last))

    def _optimizer(self) -> torch.optim.SGD:
        recipe = self.hyperparameters
        kernels: dict[str, Any] = {
            "params": [p for p in self.model.parameters() if p.ndim > 1],
            "weight_decay": recipe.kernel_decay,
        }
        biases: dict[str, Any] = {"params": [p for p in self.model.parameters() if p.ndim == 1]}
        optimizer = torch.optim.SGD(
            [kernels, biases],
            lr=self.rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            fused=self.device.type == "cuda",  # a step whose scaled gradients overflow is skipped on the GPU itself
        )
        if recipe.momentum:  # from the start, so that a checkpoint can fill it
            for p in self.model.parameters():
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return optimizer

    def _autocast(self) -> torch.autocast:
        dtype = _AUTOCAST.get(self.hyperparameters.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)
