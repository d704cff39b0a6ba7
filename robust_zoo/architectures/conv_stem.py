"""ConvNeXt and ViT with a convolutional stem (Singh et al. 2023, Revisiting Adversarial Training), and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.layers import LayerNorm2d, PatchEmbed
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import nn

from robust_zoo.architectures.network import Network, cfg


def conv_stem(in_chans: int, widths: Sequence[int], strides: Sequence[int], **dd: Any) -> nn.Sequential:
    """3x3 convolutions, each followed by LayerNorm over channels (eps 1e-6) and GELU; PyTorch's initial weights.

    Args:
        in_chans: Channels of the images.
        widths: Channels of each convolution.
        strides: Of each convolution.
        **dd: device and dtype.

    Returns:
        (B, in_chans, H, W) -> (B, widths[-1], H / product of strides, W / product of strides).
    """
    layers: list[nn.Module] = []
    for in_chs, width, stride in zip((in_chans, *widths), widths, strides, strict=False):
        layers += [nn.Conv2d(in_chs, width, 3, stride, padding=1, **dd), LayerNorm2d(width, eps=1e-6, **dd), nn.GELU()]
    return nn.Sequential(*layers)


class ConvStemConvNeXt(ConvNeXt):
    """timm's ConvNeXt with a convolutional stem of stride 4 instead of 4x4 patches.

    Args:
        stem: Channels of the stem's convolutions; the first two have stride 2, and the last as many as `dims[0]`.
        in_chans: Channels of the images.
        **kwargs: Those of timm's ConvNeXt.
    """

    def __init__(self, stem: Sequence[int], in_chans: int = 3, **kwargs: Any) -> None:
        super().__init__(in_chans=in_chans, **kwargs)
        placement = {key: kwargs[key] for key in ("device", "dtype") if key in kwargs}
        self.stem = conv_stem(in_chans, stem, (2, 2, 1), **placement)


class ConvStemEmbed(PatchEmbed):
    """timm's PatchEmbed with four convolutions of stride 2, then 1x1, instead of one of 16x16.

    Args:
        img_size: Height and width, or one number for both.
        patch_size: 16, the only one there is.
        in_chans: Channels of the images.
        embed_dim: Channels of a token.
        **kwargs: Those of timm's PatchEmbed.

    Raises:
        ValueError: Another patch_size.
    """

    def __init__(
        self, img_size: Any = 224, patch_size: int = 16, in_chans: int = 3, embed_dim: int = 768, **kwargs: Any
    ) -> None:
        super().__init__(img_size, patch_size, in_chans, embed_dim, **kwargs)
        self._check(patch_size)
        placement = {key: kwargs[key] for key in ("device", "dtype") if key in kwargs}
        stem = conv_stem(in_chans, widths := (48, 96, 192, 384), (2, 2, 2, 2), **placement)
        bias = kwargs.get("bias", True)
        self.proj = stem.append(nn.Conv2d(widths[-1], embed_dim, 1, bias=bias, **placement))  # type: ignore[assignment]

    def set_input_size(self, img_size: Any = None, patch_size: Any = None) -> None:
        """Another image size, as timm's; the stem's patches are 16x16.

        Args:
            img_size: Height and width, or one number for both; None leaves it.
            patch_size: 16 or None.

        Raises:
            ValueError: Another patch_size.
        """
        self._check(patch_size or 16)
        super().set_input_size(img_size)

    @staticmethod
    def _check(patch_size: Any) -> None:
        if patch_size not in (16, (16, 16), [16, 16]):
            raise ValueError(f"the convolutional stem has patch_size 16 only, not {patch_size}")


_CONVNEXT: dict[str, dict[str, Any]] = {
    "tiny": {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768), "stem": (48, 96)},
    "small": {"depths": (3, 3, 27, 3), "dims": (96, 192, 384, 768), "stem": (48, 96)},
    "base": {"depths": (3, 3, 27, 3), "dims": (128, 256, 512, 1024), "stem": (64, 96, 128)},
    "large": {"depths": (3, 3, 27, 3), "dims": (192, 384, 768, 1536), "stem": (96, 144, 192)},
}
_CONVNEXT_CFG = cfg(interpolation="bicubic", first_conv="stem.0", classifier="head.fc")

_VIT: dict[str, dict[str, Any]] = {
    "small": {"embed_dim": 384, "num_heads": 6},
    "medium": {"embed_dim": 512, "num_heads": 8, "no_embed_class": True, "init_values": 1e-6},  # as DeiT-3's
    "base": {"embed_dim": 768, "num_heads": 12},
}
_VIT_CFG = cfg(
    interpolation="bicubic", pool_size=None, fixed_input_size=True, first_conv="patch_embed.proj.0", classifier="head"
)

ROWS = {
    f"convnext_{size}_convstem": Network(
        ConvStemConvNeXt, arguments, _CONVNEXT_CFG, {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}
    )
    for size, arguments in _CONVNEXT.items()
} | {
    f"vit_{size}_patch16_224_convstem": Network(
        VisionTransformer,
        {"embed_layer": ConvStemEmbed, "patch_size": 16, "depth": 12, **arguments},
        _VIT_CFG,
        {"out_indices": 3, "feature_cls": "getter"},
        checkpoint_filter_fn,
    )
    for size, arguments in _VIT.items()
}
