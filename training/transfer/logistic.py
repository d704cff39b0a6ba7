"""Logistic regression on fixed features, for a path of penalties."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_zoo.training.transfer.heads import Head

_GAIN = 1e-6  # of the objective: a step that promises less is the last
_STEPS = 100  # of Newton, for a penalty, at most; five are usual
_TURNS = 500  # of conjugate gradients, for a step, at most


def objective(head: Head, features: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """Mean cross-entropy + penalty / 2 x the squared weights, the bias free; scikit-learn's C is 1 / (N penalty).

    Args:
        head: Of K classes.
        features: (N, D), scaled.
        labels: (N,) int64.
        penalty: At least 0.

    Returns:
        A scalar.
    """
    return F.cross_entropy(head(features), labels) + 0.5 * penalty * head.weight.square().sum()


def logistic_path(features: Tensor, labels: Tensor, classes: int, penalties: Sequence[float]) -> list[Head]:
    """The minimum of `objective` for each penalty, by Newton's method, from the largest penalty to the smallest.

    Losses and gradients are float64. A Newton step only has to point the right way, so it is found in float32, by
    conjugate gradients (truncated Newton: Nocedal and Wright 2006, section 7.1).

    Args:
        features: (N, D), scaled.
        labels: (N,) int64.
        classes: K.
        penalties: Of `objective`, above 0, in any order.

    Returns:
        Heads in the order of `penalties`, in the type of `features`.
    """
    n, width = features.shape
    if n < width:  # the minimum is in the span of the images
        axes, triangle = torch.linalg.qr(features.T)
        heads = logistic_path(triangle.T, labels, classes, penalties)
        return [Head(head.weight @ axes.T, head.bias) for head in heads]
    images, path = _Images.of(features, labels), dict[float, Tensor]()
    weight = images.full.new_zeros(classes, width + 1)
    for penalty in sorted(set(penalties), reverse=True):
        starts = [weight, *_beyond(path, penalty)]
        weight = min(starts, key=lambda start: images.loss(start, images.logits(start), penalty))
        weight = path[penalty] = _minimum(images, weight, penalty)
    found = (path[penalty].to(features.dtype) for penalty in penalties)
    return [Head(weight[:, :-1], weight[:, -1]) for weight in found]


def _beyond(path: dict[float, Tensor], penalty: float) -> list[Tensor]:
    """Where the line through the last two minima, over log penalty, has the next."""
    if len(path) < 2:
        return []
    (before, first), (last, second) = list(path.items())[-2:]
    return [second + (second - first) * (math.log(penalty / last) / math.log(last / before))]


@dataclass(frozen=True)
class _Images:
    """Features with a column of ones, the bias's; weights here are (K, D + 1), logits and what is like them (K, N).

    Attributes:
        full: (N, D + 1) float64.
        rough: The same in float32.
        labels: (N,) int64.
        penalised: (D + 1,), 1 for weights and 0 for the bias.
    """

    full: Tensor
    rough: Tensor
    labels: Tensor
    penalised: Tensor

    @staticmethod
    def of(features: Tensor, labels: Tensor) -> _Images:
        full = F.pad(features.double(), (0, 1), value=1.0)
        penalised = torch.ones_like(full[0])
        penalised[-1] = 0
        return _Images(full, full.float(), labels, penalised)

    def logits(self, weight: Tensor) -> Tensor:
        return weight @ self.full.T

    def loss(self, weight: Tensor, logits: Tensor, penalty: float) -> float:
        """`objective`."""
        squares = (weight.square() @ self.penalised).sum()
        return float(F.cross_entropy(logits[None], self.labels[None]) + 0.5 * penalty * squares)

    def gradient(self, weight: Tensor, p: Tensor, penalty: float) -> Tensor:
        """Of `loss`, where the probabilities of the classes are `p`."""
        error = p.clone()
        error[self.labels, torch.arange(len(self.labels))] -= 1
        return error @ self.full / len(self.labels) + penalty * weight * self.penalised

    def curvature(self, p: Tensor, penalty: float) -> Callable[[Tensor], Tensor]:
        """The product of the Hessian of `loss` with a direction."""
        rough = p.float()

        def product(direction: Tensor) -> Tensor:
            change = rough * (direction.float() @ self.rough.T)
            change -= rough * change.sum(0)
            return (change @ self.rough).double() / len(self.labels) + penalty * direction * self.penalised

        return product

    def mean_curvature(self, p: Tensor, penalty: float) -> Tensor:
        """The Cholesky factor of the Hessian's block for one class, the mean of all classes'."""
        rough = p.float()
        each = (rough - rough.square()).mean(0)
        block = (self.rough.T * each) @ self.rough / len(self.labels)
        noise = torch.finfo(torch.float32).eps * block.trace()  # of block; without it a weak penalty may be lost there
        block.diagonal().add_(penalty + noise)
        return torch.linalg.cholesky_ex(block.double()).L


def _minimum(images: _Images, weight: Tensor, penalty: float) -> Tensor:
    """The weight (K, D + 1) of least loss, searched for from `weight`."""
    logits = images.logits(weight)
    loss = images.loss(weight, logits, penalty)
    factor = images.mean_curvature(logits.softmax(0), penalty)
    for _ in range(_STEPS):
        p = logits.softmax(0)
        gradient = images.gradient(weight, p, penalty)
        step = _newton_step(gradient, images.curvature(p, penalty), factor)
        slope = float((gradient * step).sum())
        step_logits, length = images.logits(step), 1.0
        while (tried := images.loss(weight + length * step, logits + length * step_logits, penalty)) > (
            loss + 1e-4 * length * slope
        ) and length > _GAIN:
            length /= 2
        weight, logits, loss = weight + length * step, logits + length * step_logits, tried
        if not -slope / 2 > _GAIN:  # nor if it is no number
            break
    return weight


def _newton_step(gradient: Tensor, curvature: Callable[[Tensor], Tensor], factor: Tensor) -> Tensor:
    """Conjugate gradients for curvature(step) = -gradient, to a tenth of it as `factor` weighs it."""
    step, residual = torch.zeros_like(gradient), -gradient
    direction = towards = torch.cholesky_solve(residual.T, factor).T
    size = first = float((residual * towards).sum())
    for _ in range(_TURNS):
        product = curvature(direction)
        bend = float((direction * product).sum())
        if bend <= 0:  # lost in float32's noise
            break
        step = step + size / bend * direction
        residual = residual - size / bend * product
        towards = torch.cholesky_solve(residual.T, factor).T
        size, before = float((residual * towards).sum()), size
        if not size > 0.1 * first:
            break
        direction = towards + size / before * direction
    return step
