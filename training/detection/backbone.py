"""A checkpoint's network as the backbone of torchvision's detectors: feature maps, and a pyramid of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from robust_zoo.architectures.batch_norm import freeze_batch_norm
from robust_zoo.errors import UsageError
from robust_zoo.factory import create_model
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.ensure import Weights
from robust_zoo.weights.exported import checkpoint_of

_ANY_SIZE: dict[str, Any] = {"dynamic_img_size": True}  # of timm's networks that know where in an image they are


class DetectionBackbone(nn.Module):
    """Feature maps of a checkpoint in a feature pyramid (Lin et al. 2017): what torchvision's detectors are built on.

    BatchNorm stays at the checkpoint's statistics in training mode too: detectors are trained on few images at a time.

    Attributes:
        body: The network without its head.
        fpn: The pyramid; it starts at random.
        mean: By which images are normalised first, three values for [0, 1]; detectors take it as image_mean.
        std: The same, as image_std.
        strides: Pixels from one place of each map to the next, that of the pooled map at the end too.
        out_channels: Of each map.
        frozen: Whether the network itself is fixed.
    """

    def __init__(
        self, body: Any, maps: int, width: int, mean: tuple[float, ...], std: tuple[float, ...], *, frozen: bool
    ) -> None:
        super().__init__()
        reductions, channels = body.feature_info.reduction(), body.feature_info.channels()
        last = {reduction: i for i, reduction in enumerate(reductions)}  # of maps of one size the last
        self._chosen = [last[reduction] for reduction in sorted(last)][-maps:]
        self._channels_last = str(getattr(body, "output_fmt", "")).endswith("NHWC")
        self.body = body
        self.fpn = FeaturePyramidNetwork([channels[i] for i in self._chosen], width, LastLevelMaxPool())
        self.mean, self.std, self.out_channels, self.frozen = mean, std, width, frozen
        strides = [reductions[i] for i in self._chosen]
        self.strides = (*strides, 2 * strides[-1])
        body.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> DetectionBackbone:
        """Training mode, but for BatchNorm and for what is frozen."""
        super().train(mode)
        self.body.train(mode and not self.frozen)
        freeze_batch_norm(self.body)
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Of normalised images (B, 3, H, W), whose sides are multiples of the largest stride but one.

        Returns:
            "0", "1", ... from the finest map on, and "pool": (B, out_channels, H / stride, W / stride) each.
        """
        maps = self.body(images)
        chosen = [maps[i].permute(0, 3, 1, 2) if self._channels_last else maps[i] for i in self._chosen]
        return self.fpn({str(i): each for i, each in enumerate(chosen)})


def detection_backbone(
    name: str | Checkpoint, *, frozen: bool = False, maps: int = 4, width: int = 256, weights: Weights | None = None
) -> DetectionBackbone:
    """A checkpoint as the backbone of a detector.

    Args:
        name: A checkpoint's name, a file that robust-zoo wrote, or a checkpoint.
        frozen: Fix the network: the pyramid and what is built on it are trained alone.
        maps: Of the network's maps of different sizes so many, the coarsest, make the pyramid; a ViT has one in all.
        width: Channels of the pyramid's maps.
        weights: Verified already; the checkpoint's when None.

    Returns:
        A backbone for torchvision's FasterRCNN, MaskRCNN and so on, with verified weights.

    Raises:
        UsageError: `maps` or `width` is no whole number from 1.
        UnknownCheckpoint: No checkpoint of that name; the three closest names are in the error.
        VerificationFailed: The weights are not the ones promised.
        Unavailable: No source could serve the file.

    Example:
        >>> backbone = detection_backbone("resnet50_l2_eps3")
        >>> model = FasterRCNN(backbone, 91, image_mean=backbone.mean, image_std=backbone.std)
    """
    for called, value in (("maps", maps), ("width", width)):
        if type(value) is not int or value < 1:
            raise UsageError(
                f"a pyramid cannot have {called} = {value!r}",
                expected="a whole number >= 1",
                actual=repr(value),
                next="detection_backbone(name, maps=4, width=256)   is the usual one",
            )
    checkpoint = checkpoint_of(name)
    fixed_size = checkpoint.network.timm.startswith(("vit_", "swin_"))
    body = create_model(checkpoint, weights=weights, features_only=True, **(_ANY_SIZE if fixed_size else {}))
    preprocessing = checkpoint.preprocessing
    return DetectionBackbone(body, maps, width, preprocessing.mean, preprocessing.std, frozen=frozen)
