"""The robustness library, made to run beside today's torchvision, and torch's own rule of 2020 for clamp."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(scope="module")
def robustness() -> Iterator[types.ModuleType]:
    """The library, with the one module it misses in today's torchvision, and no need for a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        gone = types.ModuleType("torchvision.models.utils")
        gone.load_state_dict_from_url = torch.hub.load_state_dict_from_url  # imported there, never called
        patch.setitem(sys.modules, gone.__name__, gone)
        patch.setattr(nn.Module, "cuda", lambda self, *_, **__: self)
        patch.setattr(Tensor, "cuda", lambda self, *_, **__: self)
        patch.setattr(torch.cuda, "is_available", lambda: False)  # or DataParallel would look for the model there
        import robustness
        import robustness.datasets
        import robustness.model_utils
        import robustness.train

        yield robustness


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward((x >= low) & (x <= high))
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * ctx.saved_tensors[0], None, None


@pytest.fixture
def clamp_of_2020(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.clamp as robustness knew it: the gradient passes at the bounds. Since mid-2026 torch gives 0 there.

    robustness clamps its input inside the graph (InputNormalize), so today it hides every saturated pixel from its own
    attack. Its code stays as it is; what is put back is torch's rule.
    """
    monkeypatch.setattr(torch, "clamp", lambda x, min=None, max=None: _Clamp.apply(x, min, max))


@pytest.fixture
def gradient_at_the_bound() -> float:
    """What this torch's own clamp passes on at 0 and 1: 1 until mid-2026, 0 since."""
    bound = torch.zeros((), requires_grad=True)
    torch.clamp(bound, 0, 1).backward()
    return bound.grad.item()
