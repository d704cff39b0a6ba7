"""The folded model, for the attack's passes: the same function in eval mode, with BatchNorm folded into convolutions.

Folding takes a memory-bound read and write out of every convolution of the 2 x steps passes an attack makes
(Jacob et al. 2018, section 3.2). The folded model shares all storage with the original but the folded weights, which
`refresh` computes anew after an update; its parameters ask for no gradient.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.training.attacks.pgd import eval_mode

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}  # of the logits' scale, folded against not


@dataclass(frozen=True)
class _Pair:
    """A convolution and the BatchNorm that alone reads its output, in the model; and the convolution they become."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    folded: nn.Conv2d

    def fold(self) -> None:
        mean, var = self.norm.running_mean, self.norm.running_var
        assert mean is not None and var is not None and self.folded.bias is not None
        scale = (var + self.norm.eps).rsqrt()
        if self.norm.affine:
            scale = scale * self.norm.weight
        shift = -mean if self.conv.bias is None else self.conv.bias - mean
        bias = shift * scale + (self.norm.bias if self.norm.affine else 0)
        torch.mul(self.conv.weight, scale.view(-1, 1, 1, 1), out=self.folded.weight)
        self.folded.bias.copy_(bias)


@dataclass(frozen=True)
class FoldedModel:
    """A model with its BatchNorm folded, and what it takes to keep it up to date.

    Attributes:
        model: The folded model, always in eval mode.
        pairs: What `refresh()` folds anew; call it after each update of the original.
    """

    model: nn.Module
    pairs: tuple[_Pair, ...]

    @torch.no_grad()
    def refresh(self) -> None:
        """Folds the original's present weights and statistics."""
        for pair in self.pairs:
            pair.fold()


def folded_model(model: nn.Module, example: Tensor, *, dtype: torch.dtype | None = None) -> FoldedModel:
    """Folds a pixel-space model, and checks that it gives the model's own eval-mode logits on `example`.

    Where folding would change the function (a convolution read by others than its BatchNorm), nothing is folded, with
    a warning.

    Args:
        model: The original, already on its device and in its memory format.
        example: (B, C, H, W) in [0, 1] on the model's device; a few images are enough.
        dtype: Of the folded weights (torch.bfloat16 under autocast saves casting them in every pass).

    Returns:
        The folded model, up to date.
    """
    with eval_mode(model), torch.no_grad(), torch.autocast(example.device.type, enabled=False):
        expected = model(example)
        plain = _alias(model)
        folded = _fold(model, plain, _find_pairs(plain, example))
        folded.refresh()
        found = folded.model(example)
    tolerance = _TOLERANCE.get(expected.dtype, 1e-2) * max(1.0, expected.abs().max().item())
    if not (found - expected).abs().max() <= tolerance and expected.isfinite().all():
        warnings.warn(
            f"BatchNorm is not folded: logits would differ by {(found - expected).abs().max():.2g}", stacklevel=2
        )
        return FoldedModel(_alias(model).eval(), ())
    if dtype is not None:
        for pair in folded.pairs:
            pair.folded.to(dtype)
        folded.refresh()
    return folded


def _alias(model: nn.Module) -> nn.Module:
    """The model's structure over the same storage; parameters are frozen."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    memo |= {id(b): b.detach() for b in model.buffers()}
    return copy.deepcopy(model, memo).eval()


def _find_pairs(model: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """(convolution, BatchNorm) by name, where one pass hands the convolution's output straight to the BatchNorm."""
    made: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept: an id means nothing once its tensor is gone
    pairs: list[tuple[str, str]] = []
    calls: dict[str, int] = {}

    def after_conv(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            made[id(output)] = (name, output)

        return hook

    def before_norm(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            calls[name] = calls.get(name, 0) + 1
            if id(args[0]) in made:
                pairs.append((made[id(args[0])][0], name))

        return hook

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after_conv(name)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(before_norm(name)))
    model(example[:1])
    for handle in handles:
        handle.remove()
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1]


def _fold(model: nn.Module, alias: nn.Module, names: list[tuple[str, str]]) -> FoldedModel:
    """Gives each named convolution of `alias` weights of its own, and puts nothing (or timm's activation) after it."""
    pairs = []
    for conv_name, norm_name in names:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        folded = alias.get_submodule(conv_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and isinstance(folded, nn.Conv2d)
        folded.weight = nn.Parameter(torch.empty_like(conv.weight), requires_grad=False)
        folded.bias = nn.Parameter(conv.weight.new_empty(conv.out_channels), requires_grad=False)
        parent, _, child = norm_name.rpartition(".")
        # timm's BatchNormAct2d carries the activation that follows it
        setattr(alias.get_submodule(parent), child, getattr(alias.get_submodule(norm_name), "act", nn.Identity()))
        pairs.append(_Pair(conv, norm, folded))
    return FoldedModel(alias.eval(), tuple(pairs))
