"""Pixel-space models: [0, 1] images in, logits out, whatever statistics the backbone was trained behind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PixelModel(nn.Module):
    """`model` behind its own input normalisation, so that eps is a radius in [0, 1] pixel space.

    There is no clamp in the graph. robustness' InputNormalize clamps to [0, 1] first; until mid-2026
    torch passed clamp's gradient through at the bounds, since then it is zero there, which would hide
    every saturated pixel from an attack. Attacks keep images in [0, 1] themselves, so leaving the clamp
    out gives the gradients the 2020 checkpoints were trained and evaluated with.

    Args:
        model: Takes normalised images (B, C, H, W).
        mean: One number per channel, in [0, 1] units.
        std: As mean.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        like = next(iter(model.parameters()), torch.zeros(()))
        for name, values in (("mean", mean), ("std", std)):
            value = torch.tensor(tuple(values), dtype=like.dtype, device=like.device).view(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The model's answer to images that are not normalised.

        Args:
            images: (B, C, H, W) float in [0, 1].

        Returns:
            Logits (B, num_classes).
        """
        return self.model((images - self.mean) / self.std)


def pixel_model(model: nn.Module) -> PixelModel:
    """Wraps a model so that it takes [0, 1] images, with the statistics its `pretrained_cfg` names.

    Args:
        model: A timm model, which takes normalised images; without a `pretrained_cfg` it gets images as they are.

    Returns:
        A wrapper that takes images (B, C, H, W) in [0, 1]. It shares the model's parameters and follows its mode
        (`.eval()`, `.train()`).
    """
    cfg = getattr(model, "pretrained_cfg", None) or {}
    wrapped = PixelModel(model, cfg.get("mean", (0.0,) * 3), cfg.get("std", (1.0,) * 3))
    return wrapped.train(model.training)
