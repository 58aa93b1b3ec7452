"""The training state (weights, EMA weights, momentum, step) and the training step that updates it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cifar10_zoo.config import Hyperparameters
from cifar10_zoo.data import class_weights
from cifar10_zoo.data.transforms import evaluation_images
from cifar10_zoo.network import whitening
from cifar10_zoo.network.batch_norm import (
    STATISTICS_IMAGES,
    Cifar10NetBN,
    fold_batch_norm,
    named_tensors,
    unfold_batch_norm,
)
from cifar10_zoo.network.model import Cifar10Net, scaled_count
from cifar10_zoo.training.distributed import Ranks
from cifar10_zoo.training.ema import EmaWeights, ema_decay
from cifar10_zoo.training.loss import LossAverages, balanced_weights, losses
from cifar10_zoo.training.schedule import learning_rate

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def new_model(hyperparameters: Hyperparameters, classes: int = 10, image_size: int = 32) -> Cifar10Net:
    """Return a network with initial weights, with batch normalization if ``hyperparameters`` ask for it."""
    network = Cifar10NetBN if hyperparameters.batch_norm else Cifar10Net
    return network(hyperparameters.seed, classes, image_size)


@torch.no_grad()
def evaluation_model(model: Cifar10Net, weights: Mapping[str, Tensor]) -> Cifar10Net:
    """Return ``model`` with other weights for evaluation, batch normalization folded.

    Args:
        model: A network of ``new_model``; its weights are overwritten.
        weights: The weights and running statistics, by the names of ``named_tensors``.
    """
    for name, tensor in named_tensors(model).items():
        tensor.copy_(weights[name])
    return fold_batch_norm(model).eval()


class TrainingState:
    """The weights, EMA weights, momentum, loss averages, loss scale and step of a run; initially at step 0.

    Args:
        hyperparameters: The hyperparameters of the run.
        device: The device that trains.
        ranks: The processes that train together; None for this process only.
        classes: Number of classes of the data set.
        image_size: Height and width of its images in pixels, one of ``network.model.IMAGE_SIZES``.
    """

    network: nn.Module
    """The module that a step calls: ``model``, or a wrapper that compiles it."""

    def __init__(
        self,
        hyperparameters: Hyperparameters,
        device: torch.device | str = "cpu",
        ranks: Ranks | None = None,
        classes: int = 10,
        image_size: int = 32,
    ) -> None:
        self.hyperparameters = hyperparameters
        self.ranks = ranks or Ranks()
        self.device = torch.device(device)
        self.step = 0
        self.model = new_model(hyperparameters, classes, image_size).to(device)
        self.network = self.model
        self.class_weights: Tensor | None = None
        self.ema = EmaWeights(self.model)
        self.loss_averages = LossAverages(hyperparameters.loss_average_decay, device)
        # The learning rate and the EMA weight are tensors, because each replay of a CUDA graph reads their values.
        self.rate = torch.zeros((), device=device)
        self.ema_weight = torch.zeros((), device=device)
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=hyperparameters.precision == "fp16")

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Initialize conv1 with whitening filters, from the first of ``images`` [N, 3, S, S] uint8: 2,000 of 32x32."""
        some = images[: scaled_count(whitening.IMAGES, images.shape[-1])]
        crops = evaluation_images(some.cpu())
        self.model.conv1.weight.copy_(whitening.whitening_filters(crops))
        self.ema = EmaWeights(self.model)

    def weigh_classes(self, labels: Tensor) -> None:
        """Weigh the classes in the loss as the hyperparameters say; ``labels`` [N] are those of all training images."""
        match self.hyperparameters.class_weights:
            case "none":
                self.class_weights = None
            case "balanced":
                self.class_weights = balanced_weights(labels, self.model.classes).to(self.device)
            case text:
                self.class_weights = torch.tensor(class_weights.values(text), device=self.device)

    def start_from(self, trained: Cifar10Net, images: Tensor, keep_classes: bool) -> None:
        """Start with the weights of ``trained``; the EMA weights become equal to the weights.

        In evaluation mode, the layers that are kept compute what they compute in ``trained``, also with batch
        normalization.

        Args:
            trained: A plain network for images of the same size, on the CPU.
            images: Training images [N, 3, S, S] uint8; with batch normalization, the first ones give its statistics.
            keep_classes: Whether to keep the last layer of ``trained``; otherwise this layer keeps its initial weights.
        """
        if self.hyperparameters.batch_norm:
            some = images[: scaled_count(STATISTICS_IMAGES, images.shape[-1])]
            trained = unfold_batch_norm(trained, evaluation_images(some.cpu()))
        weights = trained.state_dict()
        if not keep_classes:
            weights |= self.model.softmax_linear.state_dict(prefix="softmax_linear.")
        self.model.load_state_dict(weights)
        self.ema = EmaWeights(self.model)

    def ema_model(self) -> Cifar10Net:
        """Return a new network with the EMA weights for evaluation, batch normalization folded, on the CPU."""
        model = new_model(self.hyperparameters, self.model.classes, self.model.image_size)
        return evaluation_model(model, self.ema.weights)

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take one step: loss, gradients, SGD, then loss averages and EMA weights.

        Args:
            images: [N, 3, K, K] float32, standardized.
            labels: [N] int64, or probabilities [N, classes] float32.

        Returns:
            The losses before the update, [4] float32, in the order of ``loss.LOSS_NAMES``.

        Source: ``cifar10.train()``.
        """
        self.begin_step()
        return self.update(images, labels)

    def begin_step(self) -> None:
        """Increment the step, and set its learning rate and EMA weight."""
        self.rate.fill_(learning_rate(self.step, self.hyperparameters))
        self.step += 1
        self.ema_weight.fill_(1 - ema_decay(self.step, self.hyperparameters.moving_average_decay))

    def update(self, images: Tensor, labels: Tensor) -> Tensor:
        """Do the part of ``train_step`` that runs on the device. It never synchronizes: a CUDA graph captures it."""
        with self._autocast():
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        values = losses(self.model, logits.float(), labels, self.hyperparameters, self.class_weights)
        self.optimizer.zero_grad()
        self.scaler.scale(values[-1]).backward()
        self.ranks.average(self.model.parameters())
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)  # here, because summaries show the gradients of the unscaled loss
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update(self.ema_weight)
        self.loss_averages.update(values)
        return values.detach()

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that a step changes, by its name in a checkpoint.

        Returns:
            ``weights/NAME`` and ``averages/NAME`` (the EMA weights) for each NAME in ``named_tensors``; with momentum,
            ``momentum/NAME`` for each parameter; ``loss_averages`` [4]; with precision fp16, ``loss_scale`` [2]: the
            scale and the number of steps since it changed. All are float32. ``loss_scale`` is a copy; all other tensors
            share memory with the state.
        """
        tensors = {f"weights/{name}": tensor for name, tensor in named_tensors(self.model).items()}
        tensors |= {f"averages/{name}": tensor for name, tensor in self.ema.weights.items()}
        if self.hyperparameters.momentum:
            tensors |= {f"momentum/{name}": self._momentum(p) for name, p in self.model.named_parameters()}
        tensors["loss_averages"] = self.loss_averages.values
        if scaler := self.scaler.state_dict():
            tensors["loss_scale"] = torch.tensor([scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float32)
        return tensors

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Restore the state after ``step`` completed steps.

        Args:
            tensors: The saved tensors, with the names and shapes of ``tensors()``.
            step: Number of completed steps.
        """
        for name, target in self.tensors().items():
            target.copy_(tensors[name])
        if scaler := self.scaler.state_dict():
            scale, growth_tracker = tensors["loss_scale"].tolist()
            self.scaler.load_state_dict(scaler | {"scale": scale, "_growth_tracker": int(growth_tracker)})
        self.step = step

    @torch.no_grad()
    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``Cifar10Net.activations`` for ``images`` and the current weights, in the training precision."""
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
            # The fused kernel skips a step with infinite gradients on the GPU, without a synchronization.
            fused=self.device.type == "cuda",
        )
        if recipe.momentum:  # SGD would create the buffers at the first step, but ``load`` needs them before
            for p in self.model.parameters():
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return optimizer

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        buffer: Tensor = self.optimizer.state[parameter]["momentum_buffer"]
        return buffer

    def _autocast(self) -> torch.autocast:
        dtype = _AUTOCAST.get(self.hyperparameters.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)
