"""The inner maximisation of ARKS (Zhu et al. 2022): no ball, a Gaussian kernel makes far points worth less.

Of an image x it seeks the point u with the greatest k(u, x) l(u), where l is the loss and
k = exp(-||u - x||^2 / (2 sigma^2)). The authors climb to it with AMSGrad, whose first step moves every pixel by its
learning rate however steep the loss is; on robust networks that ends below where it began. Here, and this is not the
paper's, log l - ||u - x||^2 / (2 sigma^2) is climbed, with a step in units of sigma^2, and the best iterate is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_zoo.training.attacks.norms import as_images
from robust_zoo.training.attacks.pgd import Watch, eval_mode

_FAR = 15.0  # a margin from which on log softplus(-margin) is -margin to 2e-7, and softplus is about to vanish


def log_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of the cross-entropy, exact where that is too small for a logarithm of itself.

    With m = z_label - logsumexp(other z), cross-entropy is softplus(-m), and its logarithm tends to -m.

    Args:
        logits: (B, K), two classes or more.
        labels: (B,) integer classes.

    Returns:
        (B,), finite, with a gradient that does not vanish however right the logits are.
    """
    true = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    margin = true.squeeze(1) - others.logsumexp(1)
    far = margin > _FAR
    near = F.softplus(-torch.where(far, 0, margin)).log()  # no NaN comes back from what is not chosen
    return torch.where(far, -margin, near)


def log_kernel(adv_images: Tensor, images: Tensor, sigma: float) -> Tensor:
    """The logarithm of the Gaussian kernel between images and points.

    Args:
        adv_images: (B, ...), points.
        images: (B, ...), of the same shape.
        sigma: Its width, in units of the L2 distance of images in [0, 1].

    Returns:
        (B,), at most 0.
    """
    return -(adv_images - images).flatten(1).square().sum(1) / (2 * sigma**2)


def supremal(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    sigma: float,
    steps: int,
    step_size: float = 0.5,
    log_loss: Callable[[Tensor, Tensor], Tensor] = log_cross_entropy,
    watch: Watch | None = None,
) -> Tensor:
    """For each image the best point found of the supremal convolution of the loss with a Gaussian kernel.

    With a the step's size, d <- (1 - a) d + a sigma^2 grad log l(x + d), kept inside [0, 1]: ascent on
    log l - ||d||^2 / (2 sigma^2) with the step a sigma^2, which is that of Sinha et al. 2018 (WRM) on log l with
    gamma = 1 / (2 sigma^2). Nothing is drawn at random, and no parameter of the model receives a gradient.

    Args:
        model: (B, C, H, W) in [0, 1] -> logits (B, K). Runs in eval mode; every module is left in its own mode.
        images: (B, C, H, W) float in [0, 1]; not modified.
        labels: (B,) integer classes.
        sigma: The kernel's width, > 0, an L2 distance: images of n times the pixels need sqrt(n) times as much.
        steps: Gradient steps; one more forward pass judges where the last of them ends.
        step_size: In units of sigma^2; from 1 on it overshoots on standard networks.
        log_loss: (logits, labels) -> (B,), the logarithm of the loss.
        watch: Called with (step, logits) in every gradient pass; may raise to end the search.

    Returns:
        adv_images (B, C, H, W) in [0, 1]; of the points seen, the image itself among them, the one of the greatest
        k(u, x) l(u).
    """
    images = images.detach()
    best, best_value = images, torch.full((len(images),), float("-inf"), device=images.device, dtype=images.dtype)
    adv_images = images.clone()

    def judged(adv_images: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """log l, and what is climbed."""
        logits = model(adv_images).to(images.dtype)
        if watch and adv_images.requires_grad:
            watch(step, logits.detach())
        log_l = log_loss(logits, labels)
        return log_l, log_l.detach() + log_kernel(adv_images.detach(), images, sigma)

    def keep_better(adv_images: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        higher = value > best_value
        return torch.where(as_images(higher, images), adv_images, best), torch.where(higher, value, best_value)

    with eval_mode(model):
        for step in range(steps):
            with torch.enable_grad():
                log_l, value = judged(adv_images.requires_grad_(True), step)
                (grad,) = torch.autograd.grad(log_l.sum(), adv_images)
            with torch.no_grad():
                adv_images = adv_images.detach()
                best, best_value = keep_better(adv_images, value)
                delta = (1 - step_size) * (adv_images - images) + step_size * sigma**2 * grad
                adv_images = (images + delta).clamp(0, 1)
        with torch.no_grad():
            _, value = judged(adv_images, steps)
            return keep_better(adv_images, value)[0]
