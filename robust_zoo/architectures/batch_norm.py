"""BatchNorm's statistics when a network meets other images: held as they are, or adapted."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def freeze_batch_norm(model: nn.Module) -> None:
    """BatchNorm goes on with the statistics it has; for after `model.train()`."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@torch.no_grad()
def adapt(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> None:
    """BatchNorm's running statistics become the plain average over the batches; nothing else of the model changes.

    Args:
        model: Changed in place; in eval mode afterwards where it has BatchNorm.
        batches: Images as the model takes them; their labels are not looked at, batches of one image are left out.
        device: Where the model is.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: the cumulative average
        norm.train()
    for images, _ in batches:
        if len(images) > 1:
            model(images.to(device, memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
