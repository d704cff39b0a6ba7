"""ShuffleNetV2 (Ma et al. 2018) in timm's manner; its state-dict keys are torchvision's, so those weights fit."""

# No postponed annotations here: torch.fx writes them into the code that TorchScript then reads.
from typing import Any

import torch
from timm.models import checkpoint_seq
from torch import nn

from robust_zoo.architectures.tapped import Tapped

_STAGES = ("stage2", "stage3", "stage4")
_TAPS = ("conv1", "maxpool", *_STAGES)  # where intermediate features are taken, at strides 2, 4, 8, 16, 32


def _conv_norm(
    in_chs: int, out_chs: int, kernel: int = 1, stride: int = 1, groups: int = 1, **dd: Any
) -> list[nn.Module]:
    conv = nn.Conv2d(in_chs, out_chs, kernel, stride, kernel // 2, groups=groups, bias=False, **dd)
    return [conv, nn.BatchNorm2d(out_chs, **dd)]


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


class ShuffleNetV2(Tapped):
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
        super().__init__(num_classes, in_chans, drop_rate)
        if output_stride != 32:
            raise ValueError(f"ShuffleNetV2 has output_stride 32 only, not {output_stride}")
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
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
        self.add_head(last, global_pool, **dd)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^conv1", "blocks": r"^stage(\d+)" if coarse else r"^stage(\d+)\.(\d+)"}

    @torch.jit.ignore
    def steps(self) -> list[nn.Module]:
        return [getattr(self, tap) for tap in _TAPS]

    @torch.jit.ignore
    def finish(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv5(x)

    @torch.jit.ignore
    def cut(self, kept: int, finish: bool) -> None:
        for tap in (*_TAPS[kept:], *(["conv5"] if finish else [])):
            setattr(self, tap, nn.Sequential())

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
