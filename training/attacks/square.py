"""Square attack (Andriushchenko et al. 2020): random squares kept when they lower the margin; it needs no gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.apgd import Poll, sizes

_SHARE = 0.8  # of an image's pixels that the first squares cover
# queries after which the share is halved once more
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_TINY = 1e-12


class _Luck:
    """The random numbers of a run, in the reference's order; drawn on the CPU."""

    def __init__(self, seed: int, like: Tensor) -> None:
        self.generator, self.like = torch.Generator().manual_seed(seed), like

    def signs(self, *shape: int) -> Tensor:
        return (2 * torch.rand(shape, generator=self.generator) - 1).sign().to(self.like)

    def below(self, n: int) -> int:
        return int((n * torch.rand(1, generator=self.generator)).long())

    def coin(self) -> bool:
        return bool(torch.rand(1, generator=self.generator) > 0.5)


def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    queries: int = 5000,
    seed: int = 0,
    poll: Poll = None,
) -> Tensor:
    """Adversarial images where one was found, the images themselves elsewhere.

    images: (B, C, H, W); an image is asked about until it is misclassified, `queries` times at most.
    """
    with torch.no_grad():
        rows = (model(images).argmax(1) == labels).nonzero().squeeze(1)
        if not len(rows):
            return images.clone()
        found = _run(model, images[rows], labels[rows], threat, queries, _Luck(seed, images), poll)
        wrong = model(found).argmax(1) != labels[rows]
        adv_images = images.clone()
        adv_images[rows[wrong]] = found[wrong]
        return adv_images


def _run(
    model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, queries: int, luck: _Luck, poll: Poll
) -> Tensor:
    start, propose = (_linf_start, _linf_step) if threat.norm == "linf" else (_l2_start, _l2_step)
    best = start(images, threat.eps, luck)
    margins = _margins(model, best, labels)
    if (margins < 0).all():
        return best
    for query in range(queries):
        rows = (margins > 0).nonzero().squeeze(1)
        if not len(rows):
            break
        share = _SHARE / 2 ** sum(query > halving for halving in _HALVINGS)
        new = propose(images[rows], best[rows], threat.eps, share, luck)
        margin = _margins(model, new, labels[rows])
        better = (margin < margins[rows]) | (margin <= 0)
        best[rows[better]], margins[rows[better]] = new[better], margin[better]
        if poll:
            poll()
    return best


def _margins(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the highest other."""
    logits = model(images)
    true = logits.gather(1, labels[:, None])
    return (true - logits.scatter(1, labels[:, None], float("-inf")).amax(1, keepdim=True)).squeeze(1)


def _linf_start(images: Tensor, eps: float, luck: _Luck) -> Tensor:
    """Vertical stripes of +-eps."""
    batch, channels, _, width = images.shape
    return (images + eps * luck.signs(batch, channels, 1, width)).clamp(0, 1)


def _linf_step(images: Tensor, best: Tensor, eps: float, share: float, luck: _Luck) -> Tensor:
    """One square, of one colour, at one place for the whole batch, set to +-eps."""
    channels, height, width = images.shape[1:]
    side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
    top, left = luck.below(height - side), luck.below(width - side)
    new = best.clone()
    new[:, :, top : top + side, left : left + side] += 2 * eps * luck.signs(channels, 1, 1)
    return new.clamp(images - eps, images + eps).clamp(0, 1)


def _pyramid(rows: int, columns: int, like: Tensor) -> Tensor:
    """Rectangles within each other, each weighted by its number's inverse square; of L2 norm 1."""
    delta = torch.zeros(rows, columns, dtype=like.dtype, device=like.device)
    top, left = rows // 2, columns // 2
    for i in range(max(rows // 2 + 1, columns // 2 + 1)):
        delta[max(top - i, 0) : top + i + 1, max(left - i, 0) : left + i + 1] += 1 / (i + 1) ** 2
    return delta / delta.square().sum().sqrt()


def _bump(side: int, like: Tensor, luck: _Luck) -> Tensor:
    """A hill beside a valley, one above the other or side by side; of L2 norm 1."""
    delta = torch.cat([_pyramid(side // 2, side, like), -_pyramid(side - side // 2, side, like)])
    delta = delta / delta.square().sum().sqrt()
    return delta.T if luck.coin() else delta


def _l2_start(images: Tensor, eps: float, luck: _Luck) -> Tensor:
    """A grid of bumps, 5 x 5 or a few more."""
    batch, channels, height, width = images.shape
    side = height // 5
    delta, margin = torch.zeros_like(images), (height - side * 5) // 2
    for i in range(height // side):
        for j in range(width // side):
            top, left = margin + i * side, margin + j * side
            bump = _bump(side, images, luck) * luck.signs(batch, channels, 1, 1)
            window = delta[:, :, top : top + side, left : left + side]
            window += bump[:, :, : window.shape[2], : window.shape[3]]
    return (images + delta / (sizes(delta, "l2") + _TINY) * eps).clamp(0, 1)


def _l2_step(images: Tensor, best: Tensor, eps: float, share: float, luck: _Luck) -> Tensor:
    """Takes the perturbation out of one window, and gives its budget, and what is unused, to a bump in another."""
    batch, channels, height, width = images.shape
    side = max(round(math.sqrt(share * height * width)), 3)
    side = min(side + (side % 2 == 0), height, width)
    top, left = luck.below(height - side), luck.below(width - side)
    top2, left2 = luck.below(height - side), luck.below(width - side)
    delta = best - images
    here = (..., slice(top, top + side), slice(left, left + side))
    there = (..., slice(top2, top2 + side), slice(left2, left2 + side))
    mask = torch.zeros_like(delta)
    mask[here] = mask[there] = 1
    budget = (delta * mask).square().sum((-2, -1), keepdim=True)
    unused = (eps**2 - sizes(delta, "l2").square()).clamp_min(0) / channels
    old = delta[here] / (_TINY + delta[here].square().sum((-2, -1), keepdim=True).sqrt())
    new = _bump(side, images, luck) * luck.signs(batch, channels, 1, 1) + old
    new = new / (_TINY + new.square().sum((-2, -1), keepdim=True).sqrt()) * (unused + budget).sqrt()
    delta[there] = 0
    delta[here] = new
    return (images + delta / (sizes(delta, "l2") + _TINY) * eps).clamp(0, 1)
