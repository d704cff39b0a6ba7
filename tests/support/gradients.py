"""Gradients of a timm model with and without checkpointing of its blocks."""

import torch
from torch import Tensor, nn


def are_same_when_checkpointed(model: nn.Module, images: Tensor) -> bool:
    """Whether those of the images and of all parameters are, but for rounding."""
    grads = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        pixels = images.clone().requires_grad_(True)
        model(pixels).square().sum().backward()
        grads.append([pixels.grad, *(p.grad for p in model.parameters())])
        model.zero_grad()  # sets None: the tensors above stay
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*grads, strict=True))
