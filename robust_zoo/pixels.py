"""Pixel-space models: [0, 1] images in, logits out, whatever statistics the backbone was trained behind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from robust_zoo.errors import UsageError
from robust_zoo.normalisation import are_sound, cfg_of, layers_of, numbers, statistics_of

# No image in [0, 1] reaches this, with the noise of randomised smoothing either; images in 0..255 do.
_UNSCALED = 8.0


class PixelModel(nn.Module):
    """`model` behind its own input normalisation, so that eps is a radius in [0, 1] pixel space.

    There is no clamp in the graph. robustness' InputNormalize clamps to [0, 1] first; until mid-2026
    torch passed clamp's gradient through at the bounds, since then it is zero there, which would hide
    every saturated pixel from an attack. Attacks keep images in [0, 1] themselves, so leaving the clamp
    out gives the gradients the 2020 checkpoints were trained and evaluated with.

    Args:
        model: Takes normalised images (B, C, H, W).
        mean: One number per channel, in [0, 1] units.
        std: As mean.

    Attributes:
        pretrained_cfg: The model's, but with mean 0 and std 1: a transform made of it does not normalise once more.
    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.mean: Tensor  # not in the class, where TorchScript would read these words
        self.std: Tensor
        like = next(iter(model.parameters()), torch.zeros(()))
        for name, values in (("mean", mean), ("std", std)):
            value = torch.tensor(tuple(values), dtype=like.dtype, device=like.device).view(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)
        plain = {"mean": (0.0,) * len(self.mean), "std": (1.0,) * len(self.mean)}
        self.pretrained_cfg = dict(next(filter(None, map(cfg_of, layers_of(model))), {})) | plain

    def forward(self, images: Tensor) -> Tensor:
        """The model's answer to images that are not normalised.

        Args:
            images: (B, C, H, W) float in [0, 1].

        Returns:
            Logits (B, num_classes).

        Raises:
            UsageError: Integers; or values of 0..255, in the CPU's memory, where looking costs next to nothing.
        """
        if not torch.jit.is_scripting():
            _refuse_unscaled(images)
        return self.model((images - self.mean) / self.std)


@fx.wrap  # symbolic tracing does not look inside
def _refuse_unscaled(images: Tensor) -> None:
    """Raises UsageError for images that were not divided by 255, as far as that is seen at no cost."""
    if not images.is_floating_point() or _largest(images) > _UNSCALED:
        low, high = images.real.aminmax() if images.numel() else (torch.zeros(()),) * 2
        raise UsageError(
            "these images are not in [0, 1]",
            expected="a float tensor in [0, 1], not normalised",
            actual=f"{images.dtype} in [{low.item():g}, {high.item():g}]",
            next="images.float() / 255   (65535 for 16 bits)",
        )


def _largest(images: Tensor) -> float:
    """The largest number of a batch, 0 where looking would wait for a device, or stand in a graph."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or images.device.type != "cpu" or not images.numel():
        return 0.0
    try:
        return images.detach().amax().item()
    except RuntimeError:  # inside vmap, or without data: there is no number to look at
        return 0.0


def pixel_model(
    model: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> PixelModel:
    """Wraps a model so that it takes [0, 1] images, with the statistics its `pretrained_cfg` names.

    Wrappers that hand images on as they come are looked into: DataParallel, DistributedDataParallel, AveragedModel,
    torch.compile, Sequential. A Sequential that begins with a normalising layer, or what `pixel_model` gave, takes
    [0, 1] images already: it is not normalised once more.

    Args:
        model: A timm model, which takes normalised images, or a wrapper of one.
        mean: What `model` expects to be taken from [0, 1] images, one number per channel; for models that do not say,
            and instead of what they say.
        std: As mean; given with it.

    Returns:
        A wrapper that takes images (B, C, H, W) in [0, 1]. It shares the model's parameters, leaves the model in the
        mode it is in, and hands on `.eval()` and `.train()`.

    Raises:
        UsageError: Nothing says how the model's images are normalised, or `mean` and `std` are no statistics.

    Example:
        >>> model = pixel_model(create_model("resnet50_l2_eps3").eval())
        >>> model = pixel_model(torchvision.models.resnet18(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    """
    forward = getattr(model, "forward", None)
    if not isinstance(model, nn.Module) or getattr(forward, "__func__", forward) is nn.Module.forward:
        raise UsageError(
            f"a {type(model).__name__} takes no images",
            expected="a torch.nn.Module with a forward of its own",
            actual=type(model).__qualname__,
            next="give the network that is in it",
        )
    given = (numbers(mean), numbers(std))
    statistics = statistics_of(model) if mean is None and std is None else given
    if not are_sound(statistics):
        raise UsageError(
            "these are no statistics of images in [0, 1]",
            expected="mean= and std=, one number per channel each: means in [0, 1], positive standard deviations",
            actual=f"mean {statistics[0]}, std {statistics[1]}",
            next="give both, for each channel; divide those of images in 0..255 by 255",
        )
    wrapped = PixelModel(model, *statistics)
    wrapped.training = model.training  # not train(): a wrapper is new in training mode around a model that is not
    return wrapped
