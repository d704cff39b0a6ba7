"""RaResNet and RaWideResNet (Peng et al. 2023, Robust Principles) in timm's manner, and their rows."""

# No postponed annotations here: torch.fx writes them into the code that TorchScript then reads.
from typing import Any

import torch
from timm.layers import SEModule
from timm.models import checkpoint_seq
from torch import nn

from robust_zoo.architectures.network import Network, cfg
from robust_zoo.architectures.tapped import Tapped

_STEM = 96  # channels


class RaBottleneck(nn.Module):
    """1x1, grouped 3x3, squeeze and excitation, 1x1, around SiLU; the first 1x1 has no norm after it.

    Args:
        in_chs: Channels that come in; SE squeezes to a quarter of these, with ReLU.
        out_chs: Channels that go out, a multiple of 8: 3x3 works on a quarter of these, in two groups.
        stride: Of the 3x3.
        **dd: device and dtype.
    """

    def __init__(self, in_chs: int, out_chs: int, stride: int, **dd: Any) -> None:
        super().__init__()
        mid_chs = out_chs // 4
        self.conv1 = nn.Conv2d(in_chs, mid_chs, 1, bias=False, **dd)
        self.act1 = nn.SiLU()
        self.conv2 = nn.Conv2d(mid_chs, mid_chs, 3, stride, padding=1, groups=2, bias=False, **dd)
        self.bn2 = nn.BatchNorm2d(mid_chs, **dd)
        self.act2 = nn.SiLU()
        self.se = SEModule(mid_chs, rd_channels=round(in_chs / 4), act_layer=nn.ReLU, **dd)
        self.conv3 = nn.Conv2d(mid_chs, out_chs, 1, bias=False, **dd)
        self.bn3 = nn.BatchNorm2d(out_chs, **dd)
        self.downsample = nn.Sequential()
        if stride != 1 or in_chs != out_chs:
            project = nn.Conv2d(in_chs, out_chs, 1, stride, bias=False, **dd)
            self.downsample = nn.Sequential(project, nn.BatchNorm2d(out_chs, **dd))
        self.act3 = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chs, H, W) -> (B, out_chs, H / stride, W / stride)."""
        shortcut = self.downsample(x)
        x = self.act1(self.conv1(x))
        x = self.se(self.act2(self.bn2(self.conv2(x))))
        return self.act3(self.bn3(self.conv3(x)) + shortcut)


class RaResNet(Tapped):
    """A 7x7 stem without max-pool, four stages of stride 2 each; every method means what it means for timm's models.

    Args:
        depths: Blocks per stage.
        widths: Channels per stage.
        num_classes: Of the head; 0 removes it.
        in_chans: Channels of the images.
        global_pool: timm's name of the pooling, "" for none.
        drop_rate: Of the dropout before the head.
        device: Where the parameters are.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_classes, in_chans, drop_rate)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv1 = nn.Conv2d(in_chans, _STEM, 7, stride=2, padding=3, bias=False, **dd)
        self.bn1 = nn.BatchNorm2d(_STEM, **dd)
        self.act1 = nn.ReLU(inplace=True)
        stages, in_chs = [], _STEM
        for depth, width in zip(depths, widths, strict=True):
            later = [RaBottleneck(width, width, 1, **dd) for _ in range(depth - 1)]
            stages.append(nn.Sequential(RaBottleneck(in_chs, width, 2, **dd), *later))
            in_chs = width
        self.stages = nn.Sequential(*stages)
        taps = ("act1", *(f"stages.{i}" for i in range(len(widths))))
        self.feature_info = [
            {"num_chs": chs, "reduction": 2 ** (i + 1), "module": tap}
            for i, (tap, chs) in enumerate(zip(taps, (_STEM, *widths), strict=True))
        ]
        self.add_head(in_chs, global_pool, **dd)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as the authors: the fan counts all channels, whatever the groups
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^conv1|bn1", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    @torch.jit.ignore
    def steps(self) -> list[nn.Module]:
        return [nn.Sequential(self.conv1, self.bn1, self.act1), *self.stages]

    @torch.jit.ignore
    def cut(self, kept: int, finish: bool) -> None:
        self.stages = self.stages[: kept - 1]

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The features before pooling.

        Args:
            x: Normalised images (B, C, H, W).

        Returns:
            (B, num_features, H / 32, W / 32).
        """
        x = self.act1(self.bn1(self.conv1(x)))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.stages, x, flatten=True)
        return self.stages(x)


# Depths and widths of the authors' three ImageNet models.
_SIZES = {
    "raresnet50": ((5, 8, 13, 1), (288, 576, 1120, 2160)),
    "raresnet101": ((7, 11, 18, 1), (336, 672, 1328, 2624)),
    "rawide_resnet101_2": ((7, 11, 18, 1), (512, 1024, 2016, 4032)),
}

ROWS = {
    name: Network(
        RaResNet,
        {"depths": depths, "widths": widths},
        cfg(interpolation="bicubic"),
        {"out_indices": (0, 1, 2, 3, 4), "flatten_sequential": True},
    )
    for name, (depths, widths) in _SIZES.items()
}
