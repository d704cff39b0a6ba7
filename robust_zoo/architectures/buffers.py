"""Buffers that no file holds: a model built without storage computes them once its parameters are there."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def compute_buffers(model: nn.Module) -> bool:
    """Gives storage to the buffers still on `meta` and computes them, by timm's `init_non_persistent_buffers`.

    Args:
        model: Built on `meta`; every parameter and persistent buffer has storage by now.

    Returns:
        Whether all buffers have their values. False where a module cannot compute its own, as in older versions of
        timm: the model has to be built anew, with storage.
    """
    for module in model.modules():
        missing = [name for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        if not missing:
            continue
        compute: Any = getattr(module, "init_non_persistent_buffers", None)
        if compute is None:
            return False
        for name in missing:
            setattr(module, name, torch.empty_like(module.get_buffer(name), device="cpu"))
        compute()
    return True
