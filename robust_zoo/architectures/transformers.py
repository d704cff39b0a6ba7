"""Rows of timm's own classes: the XCiTs of Debenedetti et al. 2022, the Swins of Xu et al. 2024 (MIMIR)."""

from __future__ import annotations

from functools import partial

from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer import checkpoint_filter_fn as fit_swin
from timm.models.xcit import Xcit
from timm.models.xcit import checkpoint_filter_fn as fit_xcit
from torch import nn

from robust_zoo.architectures.network import Network, cfg

# timm's medium and large XCiTs have 24 layers.
_XCIT = {
    "xcit_medium_12_p16_224": {"embed_dim": 512, "num_heads": 8},
    "xcit_large_12_p16_224": {"embed_dim": 768, "num_heads": 16},
}

# timm's Swins normalise with eps 1e-5, which no file would tell.
_SWIN = {
    "swin_base_patch4_window7_224_eps1e6": {"window_size": 7, "embed_dim": 128, "num_heads": (4, 8, 16, 32)},
    "swin_large_patch4_window14_224_eps1e6": {"window_size": 14, "embed_dim": 192, "num_heads": (6, 12, 24, 48)},
}

ROWS = {
    name: Network(
        Xcit,
        {"patch_size": 16, "depth": 12, "eta": 1.0, "tokens_norm": True, **arguments},
        cfg(
            interpolation="bicubic", crop_pct=1.0, pool_size=None, fixed_input_size=True,
            first_conv="patch_embed.proj.0.0", classifier="head",
        ),
        {"out_indices": 3, "feature_cls": "getter"},
        fit_xcit,
    )
    for name, arguments in _XCIT.items()
} | {
    name: Network(
        SwinTransformer,
        {"patch_size": 4, "depths": (2, 2, 18, 2), "norm_layer": partial(nn.LayerNorm, eps=1e-6), **arguments},
        cfg(interpolation="bicubic", fixed_input_size=True, first_conv="patch_embed.proj", classifier="head.fc"),
        {"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
        fit_swin,
    )
    for name, arguments in _SWIN.items()
}  # fmt: skip
