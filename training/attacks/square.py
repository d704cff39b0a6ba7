"""Square attack (Andriushchenko et al. 2020): random squares kept when they lower the margin; it needs no gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.attacks.pgd import Poll
from robust_zoo.training.attacks.square_moves import Rng

_SHARE = 0.8  # of an image's pixels that the first squares cover
# queries after which the share is halved once more
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


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
    """Square (Andriushchenko et al. 2020), which needs no gradient.

    Args:
        model: [0, 1] images -> logits, in eval mode.
        images: (B, C, H, W) float in [0, 1]; not modified.
        labels: (B,) integer classes.
        threat: The norm, and the radius of the ball.
        queries: The model is asked about an image until it is misclassified, this often at most.
        seed: Of the squares, which are drawn on the CPU.
        poll: Called after every query; may raise.

    Returns:
        Adversarial images (B, C, H, W) where one was found, the images themselves elsewhere.
    """
    with torch.no_grad():
        rows = (model(images).argmax(1) == labels).nonzero().squeeze(1)
        if not len(rows):
            return images.clone()
        found = _run(model, images[rows], labels[rows], threat, queries, Rng(seed, images), poll)
        wrong = model(found).argmax(1) != labels[rows]
        adv_images = images.clone()
        adv_images[rows[wrong]] = found[wrong]
        return adv_images


def _run(
    model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, queries: int, rng: Rng, poll: Poll
) -> Tensor:
    norm = rules(threat.norm)
    best = norm.square_start(images, threat.eps, rng)
    margins = _margins(model, best, labels)
    if (margins < 0).all():
        return best
    for query in range(queries):
        rows = (margins > 0).nonzero().squeeze(1)
        if not len(rows):
            break
        share = _SHARE / 2 ** sum(query > halving for halving in _HALVINGS)
        new = norm.square_move(images[rows], best[rows], threat.eps, share, rng)
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
