"""ShuffleNetV2 (Ma et al. 2018) in timm's manner; its state-dict keys are torchvision's, so those weights fit."""

# No postponed annotations here: torch.fx writes them into the code that TorchScript then reads.
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d
from timm.models import checkpoint_seq
from torch import nn

_STAGES = ("stage2", "stage3", "stage4")
_TAPS = ("conv1", "maxpool", *_STAGES)  # where intermediate features are taken, at strides 2, 4, 8, 16, 32


def _conv_norm(
    in_chs: int, out_chs: int, kernel: int = 1, stride: int = 1, groups: int = 1, **dd: Any
) -> list[nn.Module]:
    conv = nn.Conv2d(in_chs, out_chs, kernel, stride, kernel // 2, groups=groups, bias=False, **dd)
    return [conv, nn.BatchNorm2d(out_chs, **dd)]


def _head(in_chs: int, num_classes: int, pool_type: str, **dd: Any) -> tuple[SelectAdaptivePool2d, nn.Module]:
    """What timm's create_classifier makes; that one takes a device and dtype in newer versions only."""
    pool = SelectAdaptivePool2d(pool_type=pool_type, flatten=bool(pool_type))
    return pool, nn.Linear(in_chs * pool.feat_mult(), num_classes, **dd) if num_classes else nn.Identity()


class ShuffleUnit(nn.Module):
    """Two branches, concatenated and shuffled (figure 3 c, d): the first is the identity unless this downsamples.

    Args:
        in_chs: Channels that come in.
        out_chs: Channels that go out; the same as `in_chs` unless this downsamples.
        stride: 2 downsamples, 1 does not.
        **dd: device and dtype.
    """

    def __init__(self, in_chs: int, out_chs: int, stride: int, **dd: Any) -> None:
        super().__init__()
        half = out_chs // 2
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(
                *_conv_norm(in_chs, in_chs, 3, stride, in_chs, **dd),
                *_conv_norm(in_chs, half, **dd),
                nn.ReLU(inplace=True),
            )
        self.branch2 = nn.Sequential(
            *_conv_norm(in_chs if stride > 1 else half, half, **dd),
            nn.ReLU(inplace=True),
            *_conv_norm(half, half, 3, stride, half, **dd),
            *_conv_norm(half, half, **dd),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Both branches, interleaved.

        Args:
            x: (B, C_in, H, W).

        Returns:
            (B, C_out, H / stride, W / stride).
        """
        if self.stride > 1:
            kept, worked = x, x
        else:
            kept, worked = x.chunk(2, dim=1)
        x = torch.cat((self.branch1(kept), self.branch2(worked)), dim=1)
        # channel shuffle of two groups: the halves interleave
        return x.reshape(x.shape[0], 2, x.shape[1] // 2, x.shape[2], x.shape[3]).transpose(1, 2).flatten(1, 2)


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2; every method means what it means for timm's models.

    Args:
        num_classes: Of the head; 0 removes it.
        in_chans: Channels of the images.
        global_pool: timm's name of the pooling, "" for none.
        drop_rate: Of the dropout before the head.
        repeats: Units per stage.
        channels: Of the stem, the three stages and the last 1x1 convolution (table 5; x1.0 by default).
        output_stride: 32, the only one there is.
        device: Where the parameters are.
        dtype: Of the parameters.

    Raises:
        ValueError: Another output_stride.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        repeats: tuple[int, int, int] = (4, 8, 4),
        channels: tuple[int, int, int, int, int] = (24, 116, 232, 464, 1024),
        output_stride: int = 32,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if output_stride != 32:
            raise ValueError(f"ShuffleNetV2 has output_stride 32 only, not {output_stride}")
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False
        stem, *widths, last = channels
        self.conv1 = nn.Sequential(*_conv_norm(in_chans, stem, 3, 2, **dd), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        in_chs = stem
        for name, width, depth in zip(_STAGES, widths, repeats, strict=True):
            units = [ShuffleUnit(in_chs if i == 0 else width, width, 2 if i == 0 else 1, **dd) for i in range(depth)]
            self.add_module(name, nn.Sequential(*units))
            in_chs = width
        self.conv5 = nn.Sequential(*_conv_norm(in_chs, last, **dd), nn.ReLU(inplace=True))
        self.feature_info = [
            {"num_chs": chs, "reduction": 2 ** (i + 1), "module": tap}
            for i, (tap, chs) in enumerate(zip(_TAPS, (stem, stem, *widths), strict=True))
        ]
        self.num_features = last
        self.global_pool, self.fc = _head(last, num_classes, global_pool, **dd)
        self.head_hidden_size = last * self.global_pool.feat_mult()

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^conv1", "blocks": r"^stage(\d+)" if coarse else r"^stage(\d+)\.(\d+)"}

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
        self.global_pool, self.fc = _head(
            self.num_features, num_classes, pool_type, device=like.device, dtype=like.dtype
        )
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
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
        """Features at some of the five taps, and the final features.

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
        wanted = _tap_indices(indices)
        taken = []
        for i, tap in enumerate(_TAPS):
            if stop_early and i > max(wanted):
                break
            stage = getattr(self, tap)
            x = checkpoint_seq(stage, x) if self.grad_checkpointing and tap in _STAGES else stage(x)
            if i in wanted:
                taken.append(x)
        return taken if intermediates_only else (self.conv5(x), taken)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops what comes after the last of the taps wanted.

        Args:
            indices: Which taps; the last n for an int.
            prune_norm: Drop the last convolution too.
            prune_head: Drop the pooling and the classifier.

        Returns:
            The indices kept.

        Raises:
            ValueError: Indices outside the taps.
        """
        wanted = _tap_indices(indices)
        for tap in _TAPS[max(wanted) + 1 :]:
            setattr(self, tap, nn.Sequential())
        if max(wanted) < len(_TAPS) - 1 or prune_norm:
            self.conv5 = nn.Sequential()
            self.num_features = self.feature_info[max(wanted)]["num_chs"]
        if prune_head:
            self.reset_classifier(0, "")
        return wanted

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The features before pooling.

        Args:
            x: Normalised images (B, C, H, W).

        Returns:
            (B, num_features, H / 32, W / 32).
        """
        x = self.maxpool(self.conv1(x))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            x = checkpoint_seq([self.stage2, self.stage3, self.stage4], x, flatten=True)
        else:
            x = self.stage4(self.stage3(self.stage2(x)))  # type: ignore[operator]
        return self.conv5(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, p=float(self.drop_rate), training=self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def _tap_indices(indices: int | list[int] | None) -> list[int]:
    n = len(_TAPS)
    if indices is None:
        return list(range(n))
    chosen = list(range(n - indices, n)) if isinstance(indices, int) else [i + n if i < 0 else i for i in indices]
    if not chosen or min(chosen) < 0 or max(chosen) >= n:
        raise ValueError(f"feature indices {indices} are outside the {n} features")
    return chosen
