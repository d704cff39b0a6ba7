"""Linear heads on fixed features, their scale, and a whole grid of them trained by SGD at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_zoo.training.data.dataset import epoch_order

_MOMENTUM = 0.9


@dataclass(frozen=True)
class Head:
    """logits (N, K) = features (N, D) @ weight.T + bias.

    Attributes:
        weight: (K, D).
        bias: (K,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)


@dataclass(frozen=True)
class Scale:
    """Features are brought to mean 0 and variance 1 over the training images, so that one penalty fits any model.

    Attributes:
        mean: (D,), of the features.
        std: (D,), 1 for a unit that hardly varies.
    """

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(features: Tensor) -> Scale:
        """The scale of (N, D) features."""
        std = features.std(0, correction=0)
        return Scale(features.mean(0), torch.where(std > 1e-6 * std.max(), std, 1.0))  # a dead unit stays as it is

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std

    def folded_into(self, head: Head) -> Head:
        """The head on features as the network gives them."""
        weight = head.weight / self.std
        return Head(weight, head.bias - weight @ self.mean)


def sgd_grid(
    features: Tensor,
    labels: Tensor,
    classes: int,
    grid: Sequence[tuple[float, float]],
    *,
    epochs: int = 150,
    batch_size: int = 64,
    step: int = 50,
    seed: int = 0,
) -> list[Head]:
    """Trains a head for each (learning rate, weight decay), all in one product per step.

    SGD with momentum 0.9 from heads of zero, the rate divided by 10 every `step` epochs.

    Args:
        features: (V, N, D): V views of N images, seen in turn from epoch to epoch.
        labels: (N,) int64.
        classes: K.
        grid: (Learning rate, weight decay) of each head.
        epochs: Passes over the images.
        batch_size: Images per step, all of them where there are fewer.
        step: Epochs after which the rate is divided by 10.
        seed: Of the order of images.

    Returns:
        Heads in the order of `grid`.
    """
    views, n, width = features.shape
    heads = len(grid)
    rates = features.new_tensor([rate for rate, _ in grid]).view(-1, 1, 1)
    decays = features.new_tensor([decay for _, decay in grid]).view(-1, 1, 1)
    weight = features.new_zeros(heads, classes, width + 1)  # the last column is the bias
    velocity = torch.zeros_like(weight)
    batch_size = min(batch_size, n)
    for epoch in range(epochs):
        rate = rates * 0.1 ** (epoch // step)
        inputs = F.pad(features[epoch % views], (0, 1), value=1.0)
        for index in epoch_order(n, batch_size, seed=seed, epoch=epoch):
            x, y = inputs[index], labels[index]
            # (heads, classes, images): torch's softmax works on many images at once when they come last
            error = (weight.flatten(0, 1) @ x.T).view(heads, classes, len(x)).softmax(1)
            error[:, y, torch.arange(len(x))] -= 1
            gradient = (error.flatten(0, 1) @ x).view_as(weight) / len(x)
            velocity.mul_(_MOMENTUM).add_(gradient.addcmul_(weight, decays))
            weight.addcmul_(velocity, rate, value=-1)
    return [Head(w[:, :-1].clone(), w[:, -1].clone()) for w in weight]
