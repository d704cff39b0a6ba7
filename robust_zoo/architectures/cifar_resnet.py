"""ResNets for CIFAR-sized images, and their rows."""

from __future__ import annotations

from typing import Any

from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from robust_zoo.architectures.network import Network, cfg


class CifarResNet(ResNet):
    """timm's ResNet for small images: one 3x3 stem convolution, no max-pool, a width multiplier.

    Args:
        block: timm's class of residual block.
        layers: Blocks per stage.
        width: Channels are `width` x (64, 128, 256, 512).
        stem_stride: 1 keeps 32x32 features in the first stage; 2 costs a quarter.
        in_chans: Channels of the images.
        output_stride: Of the last stage, from 2 to 8 times stem_stride (the default); less dilates, as in timm.
        **kwargs: Those of timm's ResNet.
    """

    def __init__(
        self,
        block: Any,
        layers: tuple[int, ...],
        width: float = 1.0,
        stem_stride: int = 1,
        in_chans: int = 3,
        output_stride: int = 32,
        **kwargs: Any,
    ) -> None:
        channels = tuple(int(width * c) for c in (64, 128, 256, 512))
        # timm fixes a plain stem at 64 channels; a deep stem has 2 x stem_width, so ask for one of the right
        # width and put the single convolution in its place before anything is trained or loaded.
        super().__init__(
            block,
            layers,
            in_chans=in_chans,
            channels=channels,
            stem_type="deep",
            stem_width=channels[0] // 2,
            output_stride=min(32, output_stride * 4 // stem_stride),
            **kwargs,
        )
        placement: dict[str, Any] = {"device": kwargs.get("device"), "dtype": kwargs.get("dtype")}
        stem = nn.Conv2d(in_chans, channels[0], 3, stride=stem_stride, padding=1, bias=False, **placement)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.conv1 = stem  # type: ignore[assignment]
        self.maxpool = nn.Identity()  # type: ignore[assignment]
        for info in self.feature_info:  # timm counts from its own stem: 2 after the convolution, 4 after the max-pool
            reduction: Any = info["reduction"]
            info["reduction"] = max(reduction // 4, 1) * stem_stride


_CIFAR_CFG = cfg(
    num_classes=10, input_size=(3, 32, 32), pool_size=(4, 4), crop_pct=1.0,
    mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
)  # fmt: skip

# resnet{10,18}_x{width}[_s2]: He et al.'s blocks; s2 is the stride-2 stem, four times cheaper.
ROWS = {
    f"resnet{depth}_x{written}{suffix}": Network(
        CifarResNet,
        {"block": BasicBlock, "layers": layers, "width": width, "stem_stride": stride},
        _CIFAR_CFG | {"pool_size": (4 // stride, 4 // stride)},
    )
    for depth, layers in ((10, (1, 1, 1, 1)), (18, (2, 2, 2, 2)))
    for written, width in (("0_25", 0.25), ("0_5", 0.5), ("1", 1.0))
    for suffix, stride in (("", 1), ("_s2", 2))
}
