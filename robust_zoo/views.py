"""How an image reaches a network at test time: timm's evaluation transform, from a row's or a model's own settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from robust_zoo.errors import UsageError
from robust_zoo.normalisation import cfg_of, layers_of, statistics_of
from robust_zoo.registry.families import Preprocessing
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.exported import checkpoint_of

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class View:
    """What of an image a network sees: timm's evaluation transform, bit for bit, without the normalisation.

    Attributes:
        size: The side of what is cut out, in pixels.
        resize: The shorter side before that; with "squash" both sides.
        interpolation: Of the resizing, which is Pillow's: "bilinear", "bicubic", ...
        crop_mode: "center" keeps the image's proportions, "squash" does not.
    """

    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    crop_mode: str = "center"

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> View:
        """A checkpoint's."""
        p = preprocessing
        return cls(p.input_size[-1], p.resize, p.interpolation, p.crop_mode)

    def steps(self) -> list[v2.Transform]:
        """The same, as torchvision has it. Of tensors the resizing is torch's own, up to 1/255 from Pillow's."""
        sides = [self.resize] if self.crop_mode == "center" else [self.resize] * 2
        exact = "nearest-exact" if self.interpolation == "nearest" else self.interpolation  # Pillow's nearest
        mode = v2.InterpolationMode(exact)
        return [v2.Resize(sides, interpolation=mode, antialias=True), v2.CenterCrop(self.size)]

    def __call__(self, image: Tensor) -> Tensor:
        """What is seen of an image.

        Args:
            image: (3, H, W) uint8.

        Returns:
            (3, size, size) uint8.
        """
        if image.shape[-2:] == (self.size, self.size) and self.resize == self.size:
            return image
        picture: Image = F.to_pil_image(image)
        for step in self.steps():
            picture = step(picture)
        return F.pil_to_tensor(picture)


def transform(model: str | Path | Checkpoint | nn.Module) -> v2.Compose:
    """The transform that a checkpoint's figures are of: what timm.data.create_transform makes of the same settings.

    Args:
        model: A checkpoint by any spelling of its name, the path of a file that robust-zoo wrote, or a model.
            Wrappers are looked into, as by `pixel_model`; a model that takes [0, 1] images, which `pixel_model` makes,
            gets them so.

    Returns:
        PIL image, or (..., C, H, W) uint8 or [0, 1] tensor -> (..., C, S, S) float32, resized, cropped, normalised. Of
        a PIL image the result is timm's bit for bit; of a tensor torch resizes, which differs by up to 1/255.

    Raises:
        UnknownCheckpoint: No checkpoint of that name.
        UsageError: Nothing says how the model's images are prepared.

    Example:
        >>> model = create_model("resnet50_l2_eps3").eval()
        >>> logits = model(transform(model)(Image.open("cat.jpg"))[None])
    """
    if isinstance(model, nn.Module):
        mean, std = statistics_of(model)
        cfg = next(filter(None, map(cfg_of, layers_of(model))), None)
        if cfg is None:
            raise UsageError(
                f"how large are the images that {type(model).__name__} takes?",
                expected="a timm model, also in DataParallel, AveragedModel, Sequential or torch.compile",
                actual=f"a {type(model).__name__} without a pretrained_cfg",
                next="robust_zoo.transform(NAME)   for one like the checkpoint NAME has",
            )
        channels, view = len(mean), View.of(preprocessing_of(cfg))
    else:
        preprocessing = checkpoint_of(model).preprocessing
        mean, std = preprocessing.mean, preprocessing.std
        channels, view = preprocessing.input_size[0], View.of(preprocessing)
    colours: dict[int, list[v2.Transform]] = {1: [v2.Grayscale()], 3: [v2.RGB()]}
    plain = set(mean) == {0.0} and set(std) == {1.0}
    return v2.Compose(
        [
            *colours.get(channels, []),
            *view.steps(),
            v2.ToImage(),
            _Divide(),
            *([] if plain else [v2.Normalize(list(mean), list(std))]),
            v2.ToPureTensor(),
        ]
    )


class _Divide(v2.Transform):
    """uint8 -> [0, 1], by a division as timm has it: v2.ToDtype multiplies by 1/255, which rounds otherwise."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image, as v2.ToImage leaves it; anything else that comes with it stays as it is."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        return tv_tensors.wrap(inpt.div(255) if inpt.dtype == torch.uint8 else inpt.to(torch.float32), like=inpt)


def preprocessing_of(cfg: Any, num_classes: int = 0) -> Preprocessing:
    """Of a pretrained_cfg, with timm's own defaults for what it does not say.

    Args:
        cfg: A timm model's.
        num_classes: Of its head.

    Returns:
        How its images are prepared.

    Raises:
        UsageError: It says what no preprocessing here can do.
    """
    from timm.data import resolve_data_config

    found = resolve_data_config(pretrained_cfg=dict(cfg))
    words = {key: found[key] for key in ("input_size", "crop_pct", "interpolation", "crop_mode", "mean", "std")}
    sizes = {key: tuple(words[key]) for key in ("input_size", "mean", "std")}
    try:
        return Preprocessing(**words | sizes, num_classes=num_classes)
    except ValueError as error:
        raise UsageError("this pretrained_cfg cannot be followed", actual=str(error)) from None
