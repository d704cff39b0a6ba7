"""What timm asks of a convolutional classifier: taps for features, pooling, a linear head."""

# No postponed annotations here: torch.fx writes them into the code that TorchScript then reads.
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d
from timm.models import checkpoint_seq
from torch import nn


def _head(in_chs: int, num_classes: int, pool_type: str, **dd: Any) -> tuple[SelectAdaptivePool2d, nn.Module]:
    """What timm's create_classifier makes; that one takes a device and dtype in newer versions only."""
    pool = SelectAdaptivePool2d(pool_type=pool_type, flatten=bool(pool_type))
    return pool, nn.Linear(in_chs * pool.feat_mult(), num_classes, **dd) if num_classes else nn.Identity()


class Tapped(nn.Module):
    """A chain of steps after each of which features may be taken; every method means what it means for timm's models.

    A subclass makes its layers, gives `feature_info` an entry for each step, calls `add_head` last, and has
    `forward_features`, `steps`, `finish` and `cut`.

    Args:
        num_classes: Of the head; 0 removes it.
        in_chans: Channels of the images.
        drop_rate: Of the dropout before the head.
    """

    feature_info: list[dict[str, Any]]
    num_features: int

    def __init__(self, num_classes: int, in_chans: int, drop_rate: float) -> None:
        super().__init__()
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False

    @torch.jit.ignore
    def add_head(self, num_features: int, global_pool: str, **dd: Any) -> None:
        """Pooling and classifier.

        Args:
            num_features: Channels of what `forward_features` returns.
            global_pool: timm's name of the pooling, "" for none.
            **dd: device and dtype.
        """
        self.num_features = num_features
        self.global_pool, self.fc = _head(num_features, self.num_classes, global_pool, **dd)
        self.head_hidden_size = num_features * self.global_pool.feat_mult()

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> (B, num_features, H / 32, W / 32)."""
        raise NotImplementedError

    @torch.jit.ignore
    def steps(self) -> list[nn.Module]:
        """The modules between taps, in order; an nn.Sequential may be checkpointed."""
        raise NotImplementedError

    @torch.jit.ignore
    def finish(self, x: torch.Tensor) -> torch.Tensor:
        """What `forward_features` does after the last tap: (B, C, H, W) -> (B, num_features, H, W)."""
        return x

    @torch.jit.ignore
    def cut(self, kept: int, finish: bool) -> None:
        """Drops the steps after the first `kept`, and `finish` when it is True."""
        raise NotImplementedError

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self, name_only: bool = False) -> str | nn.Module:
        return "fc" if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        pool_type = self.global_pool.pool_type if global_pool is None else global_pool
        like = next(self.parameters())
        self.add_head(self.num_features, pool_type, device=like.device, dtype=like.dtype)
        self.global_pool.train(self.training)
        self.fc.train(self.training)

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[torch.Tensor] | tuple[torch.Tensor, list[torch.Tensor]]:
        """Features at some of the taps, and the final features.

        Args:
            x: Normalised images (B, C, H, W).
            indices: Which taps; the last n for an int, all for None.
            norm: Has no effect: there is no last norm to apply.
            stop_early: Compute nothing after the last tap wanted.
            output_fmt: "NCHW", the only one there is.
            intermediates_only: Without the final features.

        Returns:
            (final features, list of features), or the list alone.

        Raises:
            ValueError: Another output_fmt, or indices outside the taps.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be NCHW, not {output_fmt}")
        wanted = self._tap_indices(indices)
        taken = []
        for i, step in enumerate(self.steps()):
            if stop_early and i > max(wanted):
                break
            whole = isinstance(step, nn.Sequential) and self.grad_checkpointing
            x = checkpoint_seq(step, x) if whole else step(x)
            if i in wanted:
                taken.append(x)
        return taken if intermediates_only else (self.finish(x), taken)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops what comes after the last of the taps wanted.

        Args:
            indices: Which taps; the last n for an int.
            prune_norm: Drop what follows the last tap too.
            prune_head: Drop the pooling and the classifier.

        Returns:
            The indices kept.

        Raises:
            ValueError: Indices outside the taps.
        """
        wanted = self._tap_indices(indices)
        unfinished = prune_norm or max(wanted) < len(self.feature_info) - 1
        self.cut(max(wanted) + 1, finish=unfinished)
        if unfinished:
            self.num_features = self.feature_info[max(wanted)]["num_chs"]
        if prune_head:
            self.reset_classifier(0, "")
        return wanted

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, p=float(self.drop_rate), training=self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))

    def _tap_indices(self, indices: int | list[int] | None) -> list[int]:
        n = len(self.feature_info)
        if indices is None:
            return list(range(n))
        chosen = list(range(n - indices, n)) if isinstance(indices, int) else [i + n if i < 0 else i for i in indices]
        if not chosen or min(chosen) < 0 or max(chosen) >= n:
            raise ValueError(f"feature indices {indices} are outside the {n} features")
        return chosen
