"""Projected gradient descent (Madry et al. 2018) in pixel space: one loop for every norm.

The model is a plain function from [0, 1] images to logits; wrap a normalising backbone with
`robust_zoo.pixel_model` first. There is no clamp inside the graph (see robust_zoo.pixels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_zoo.errors import UsageError, unknown
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import as_images, rules

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of logits (B, K) and labels (B,), or of what else a model answers and is compared with: one loss per image, (B,)."""
Poll = Callable[..., None] | None
"""Called after each step of what takes long; what it raises ends the work."""
Watch = Callable[[int, Tensor], None]
"""Called with a step's number and the logits (B, K) of its gradient pass; what it raises ends the attack."""


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Highest wrong logit minus the label's (Carlini & Wagner 2017, f6): positive when fooled."""
    true = logits.gather(1, labels[:, None]).squeeze(1)
    return logits.scatter(1, labels[:, None], float("-inf")).amax(1) - true


LOSSES: dict[str, Loss] = {
    "ce": lambda logits, labels: F.cross_entropy(logits, labels, reduction="none"),
    "margin": _margin,
}


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside, and back in its own mode after (frozen BatchNorms stay frozen).

    Args:
        model: Whose modules; changed in place.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float,
    random_start: bool = False,
    restarts: int = 1,
    loss: str | Loss = "ce",
    targeted: bool = False,
    keep_best: bool = False,
    start: Tensor | None = None,
    watch: Watch | None = None,
    visit: Callable[[Tensor], None] | None = None,
    in_range: bool = False,
) -> Tensor:
    """Adversarial images: `steps` of steepest ascent on the loss, projected after each (ball, then box).

    No parameter of the model receives a gradient.

    Args:
        model: (B, C, H, W) in [0, 1] -> logits (B, K). Runs in eval mode; every module is left in its own mode.
        images: (B, C, H, W) float in [0, 1]; not modified.
        labels: (B,) integer classes; with a loss of one's own (B, ...), whatever that compares the model's answer with.
        threat: The norm, and the radius of the ball.
        steps: Gradient steps; 0 returns the images themselves.
        step_size: In [0, 1] units of the norm; Salman et al. 2020 train with 3 steps of 2/3 eps, no random start.
        random_start: Begin at a point drawn uniformly from the ball.
        restarts: How often to begin, keeping for each image the restart with the highest final loss.
        loss: "ce", "margin" (Carlini & Wagner's), or a function (logits, labels) -> (B,).
        targeted: `labels` are the classes to reach; the loss is minimised.
        keep_best: Return for each image the iterate of highest loss (the start among them) instead of the last; one
            more forward pass. robustness' `use_best`.
        start: (B, C, H, W), where to begin instead of at the images.
        watch: Called with (step, logits) in every gradient pass; may raise to end the attack.
        visit: Called with each point of the path, (B, C, H, W): a start, then where each step ends.
        in_range: The images are known to be in [0, 1], or are looked at elsewhere: looking waits for the device.

    Returns:
        adv_images (B, C, H, W) in [0, 1] with ||adv_images - images|| <= eps; at eps 0 the images themselves.

    Raises:
        UsageError: Images are outside [0, 1], labels do not match them, restarts lack a random start, or the loss is
            unknown.

    Example:
        >>> model = pixel_model(create_model("resnet50_l2_eps3"))
        >>> adv_images = pgd(model, images, labels, ThreatModel("l2", 3.0), steps=20, step_size=0.375)
    """
    if not in_range:
        check_range(images)
    _check(images, labels, restarts, random_start, loss)
    if threat.eps == 0 or steps == 0:
        return images.detach().clone()
    norm, eps, images = rules(threat.norm), threat.eps, images.detach()
    of_logits, sign = LOSSES[loss] if isinstance(loss, str) else loss, -1.0 if targeted else 1.0

    def losses(adv_images: Tensor, step: int) -> Tensor:
        logits = model(adv_images).float() if adv_images.dtype != torch.float64 else model(adv_images)
        if watch and adv_images.requires_grad:
            watch(step, logits.detach())
        return sign * of_logits(logits, labels)

    best, best_loss = images, torch.full((len(images),), float("-inf"), device=images.device)
    with eval_mode(model):
        for _ in range(restarts):
            begin = images if start is None else start
            delta = norm.project(begin - images + (norm.start(images, eps) if random_start else 0), eps)
            adv_images = (images + delta).clamp(0, 1)
            for step in range(steps):
                if visit:
                    visit(adv_images)
                with torch.enable_grad():
                    loss_now = losses(adv_images.requires_grad_(True), step)
                    (grad,) = torch.autograd.grad(loss_now.sum(), adv_images)
                with torch.no_grad():
                    adv_images = adv_images.detach()
                    if keep_best:
                        best, best_loss = _better(best, best_loss, adv_images, loss_now)
                    delta = norm.project(adv_images + step_size * norm.direction(grad) - images, eps)
                    adv_images = (images + delta).clamp(0, 1)
            if visit:
                visit(adv_images)
            if not keep_best and restarts == 1:
                return adv_images
            with torch.no_grad():
                best, best_loss = _better(best, best_loss, adv_images, losses(adv_images, steps))
    return best


def pgd_until_wrong(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    restarts: int = 0,
    relative_step: float = 2.5,
    seed: int = 0,
    poll: Poll = None,
) -> Tensor:
    """PGD on the cross-entropy whose images leave at their first misclassified iterate: for counting, not for training.

    The logits that decide are those of the gradient passes, and of one pass after the last step.

    Args:
        model: (B, C, H, W) in [0, 1] -> logits (B, K), in eval mode.
        images: (B, C, H, W) float in [0, 1]; not modified.
        labels: (B,) integer classes.
        threat: The norm, and the radius of the ball.
        steps: Gradient steps per run.
        restarts: 0 is one run from the images, else so many from random starts drawn with `seed`.
        relative_step: A step is relative_step * eps / steps.
        seed: Of the random starts.
        poll: Called after every step; may raise.

    Returns:
        The misclassified iterates (B, C, H, W), and the images themselves where there is none.
    """
    norm, rng = rules(threat.norm), torch.Generator().manual_seed(seed)
    adv_images, left = images.clone(), torch.arange(len(images), device=images.device)
    step_size = relative_step * threat.eps / steps
    for _ in range(max(restarts, 1)):
        adv = images[left]
        if restarts:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
                adv = (adv + norm.start(adv.cpu(), threat.eps).to(adv)).clamp(0, 1)
        for step in range(steps + 1):
            last = step == steps
            with torch.set_grad_enabled(not last):
                pixels = adv.detach().requires_grad_(not last)
                logits = model(pixels)
                loss = LOSSES["ce"](logits, labels[left]).sum()
            with torch.no_grad():
                robust = logits.argmax(1) == labels[left]
                adv_images[left[~robust]] = pixels.detach()[~robust]
                if not last and robust.any():
                    grad = torch.autograd.grad(loss, pixels, materialize_grads=True, allow_unused=True)[0][robust]
                    origin = images[left][robust]
                    ahead = pixels.detach()[robust] + step_size * norm.direction(grad)
                    adv = (origin + norm.project(ahead - origin, threat.eps)).clamp(0, 1)
                left = left[robust]
            if poll:
                poll()
            if not len(left):
                return adv_images
    return adv_images


def _better(best: Tensor, best_loss: Tensor, adv_images: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Image by image whichever has the higher loss."""
    higher = loss > best_loss
    return torch.where(as_images(higher, adv_images), adv_images, best), torch.where(higher, loss, best_loss)


def check_range(images: Tensor) -> None:
    """Makes sure that images are what attacks take.

    Args:
        images: (B, ...), of any type.

    Raises:
        UsageError: They are not floats in [0, 1].
    """
    if not images.is_floating_point() or (len(images) and not 0 <= images.min() <= images.max() <= 1):
        low, high = images.aminmax()
        raise UsageError(
            "an attack needs images with pixels in [0, 1]",
            expected="a float tensor in [0, 1], not yet normalised",
            actual=f"{images.dtype} in [{low.item():g}, {high.item():g}]",
            next="images.float() / 255, and robust_zoo.pixel_model(model) to normalise inside the model",
        )


def _check(images: Tensor, labels: Tensor, restarts: int, random_start: bool, loss: str | Loss) -> None:
    if (labels.shape[:1] if callable(loss) else labels.shape) != images.shape[:1]:
        raise UsageError(
            "images and labels do not match", expected=f"labels ({len(images)},)", actual=str(tuple(labels.shape))
        )
    if restarts > 1 and not random_start:
        raise UsageError(
            f"{restarts} restarts without a random start would all be the same",
            expected="random_start=True",
            actual="random_start=False",
        )
    if isinstance(loss, str) and loss not in LOSSES:
        raise unknown("loss", loss, LOSSES, next="give one of these, or a function (logits, labels) -> (B,)")
