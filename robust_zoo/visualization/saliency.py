"""Which pixels matter: the gradient of the loss in the image, and its picture (Tsipras et al. 2019, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_zoo.training.attacks.pgd import eval_mode
from robust_zoo.visualization.engine import BATCH_SIZE
from robust_zoo.visualization.models import Model, subject

_DEVIATIONS = 3  # of an image's gradient that its picture shows, as in the paper


def gradients(
    model: Model, images: Tensor, classes: Sequence[int | str] | Tensor | None = None, *, batch_size: int = BATCH_SIZE
) -> Tensor:
    """How a model's loss changes with each pixel.

    Args:
        model: A checkpoint's name, a file that robust-zoo wrote, or a model of [0, 1] images or timm's.
        images: (N, C, H, W) float in [0, 1].
        classes: Of the images, in whose cross-entropy the gradient is taken; what the model says of them when None.
        batch_size: Images at once.

    Returns:
        (N, C, H, W), on the CPU; `as_pictures` makes images of it.

    Raises:
        UsageError: A class that the model does not have.
        UnknownCheckpoint: No checkpoint has that name.

    Example:
        >>> shown = as_pictures(gradients("resnet50_l2_eps3", images))
    """
    of = subject(model)
    labels = of.logits(images, batch_size).argmax(1) if classes is None else of.labels(classes)
    where = next(of.pixels.parameters(), images).device
    found = []
    with eval_mode(of.pixels):
        for some, wanted in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            pixels = some.detach().to(where, copy=True).requires_grad_(True)
            with torch.enable_grad():
                loss = F.cross_entropy(of.pixels(pixels), wanted.to(where), reduction="sum")
            found.append(torch.autograd.grad(loss, pixels)[0].cpu())
    return torch.cat(found)


def as_pictures(found: Tensor) -> Tensor:
    """Gradients as images: grey is none; clipped at 3 standard deviations of each image.

    Args:
        found: (N, C, H, W), of any size.

    Returns:
        (N, C, H, W) in [0, 1].
    """
    scale = _DEVIATIONS * found.flatten(1).std(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    return ((found / scale).clamp(-1, 1) + 1) / 2
