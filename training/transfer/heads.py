"""Linear heads on fixed features: a logistic regression for each penalty, or a whole grid of SGD heads at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_zoo.training.data import epoch_order

_MOMENTUM = 0.9


@dataclass(frozen=True)
class Head:
    """logits (N, K) = features (N, D) @ weight.T + bias."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)


@dataclass(frozen=True)
class Scale:
    """Features are brought to mean 0 and variance 1 over the training images, so that one penalty fits any model."""

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(features: Tensor) -> Scale:
        std = features.std(0, correction=0)
        return Scale(features.mean(0), torch.where(std > 1e-6 * std.max(), std, 1.0))  # a dead unit stays as it is

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std

    def folded_into(self, head: Head) -> Head:
        """The head on features as the network gives them."""
        weight = head.weight / self.std
        return Head(weight, head.bias - weight @ self.mean)


def objective(head: Head, features: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """Mean cross-entropy + penalty / 2 x the squared weights, the bias free; scikit-learn's C is 1 / (N penalty)."""
    return F.cross_entropy(head(features), labels) + 0.5 * penalty * head.weight.square().sum()


def logistic_path(
    features: Tensor, labels: Tensor, classes: int, penalties: Sequence[float], *, steps: int = 500
) -> list[Head]:
    """The minimum of `objective` for each penalty, by L-BFGS, each begun where the next larger one ended.

    features: (N, D), scaled; labels (N,) int64. Returns heads in the order of `penalties`.
    """
    weight = features.new_zeros(classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    found = {}
    for penalty in sorted(set(penalties), reverse=True):
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=steps, history_size=10, tolerance_grad=1e-6, tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def loss(penalty: float = penalty) -> Tensor:
            for parameter in (weight, bias):
                parameter.grad = None
            value = objective(Head(weight, bias), features, labels, penalty)
            value.backward()
            return value

        solver.step(loss)  # type: ignore[arg-type]
        found[penalty] = Head(weight.detach().clone(), bias.detach().clone())
    return [found[penalty] for penalty in penalties]


def sgd_grid(
    features: Tensor, labels: Tensor, classes: int, grid: Sequence[tuple[float, float]], *,
    epochs: int = 150, batch_size: int = 64, step: int = 50, seed: int = 0,
) -> list[Head]:  # fmt: skip
    """A head for each (learning rate, weight decay), all in one product a step: SGD with momentum 0.9, the rate
    divided by 10 every `step` epochs, zero at the start.

    features: (V, N, D): V views of N images, seen in turn from epoch to epoch. labels: (N,).
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
            logits = F.linear(x, weight.flatten(0, 1)).view(len(x), heads, classes)
            error = logits.softmax(2)
            error[torch.arange(len(x)), :, y] -= 1
            gradient = (error.flatten(1).T @ x).view_as(weight) / len(x)
            velocity.mul_(_MOMENTUM).add_(gradient.addcmul_(weight, decays))
            weight.addcmul_(velocity, rate, value=-1)
    return [Head(w[:, :-1].clone(), w[:, -1].clone()) for w in weight]
