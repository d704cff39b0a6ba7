"""What pictures are made of: a model by name or as it is, its features, the numbers of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.errors import UsageError
from robust_zoo.factory import create_model
from robust_zoo.normalisation import cfg_of
from robust_zoo.pixels import PixelModel, pixel_model
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.attacks.pgd import eval_mode
from robust_zoo.training.data.class_names import label_of
from robust_zoo.training.data.fit import check_classifies
from robust_zoo.training.objectives import penultimate
from robust_zoo.visualization.engine import BATCH_SIZE, answers
from robust_zoo.weights.exported import checkpoint_of

Model = str | Path | Checkpoint | nn.Module
"""A checkpoint by any spelling of its name, a file that robust-zoo wrote, a checkpoint, or a model: one of [0, 1]
images, as `pixel_model` makes it, or a timm model, which is wrapped."""


class Features(nn.Module):
    """A timm model's features: what its last layer is given.

    Args:
        pixels: The model, behind its normalisation.
    """

    def __init__(self, pixels: PixelModel) -> None:
        super().__init__()
        if not all(hasattr(pixels.model, name) for name in ("forward_features", "forward_head")):
            raise UsageError(
                f"the features of a {type(pixels.model).__name__} are not known",
                expected="a timm model, which has forward_features and forward_head",
                actual=type(pixels.model).__qualname__,
                next="give the timm model itself, not a wrapper of it",
            )
        self.pixels = pixels

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, D)."""
        return penultimate(self.pixels, images).flatten(1)


@dataclass(frozen=True)
class Subject:
    """A model that pictures are made of.

    Attributes:
        pixels: (B, C, H, W) in [0, 1] -> logits.
        checkpoint: Which it is, where it was given by name.
    """

    pixels: PixelModel
    checkpoint: Checkpoint | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image that it takes: (C, H, W).

        Raises:
            UsageError: The model does not say.
        """
        size = cfg_of(self.pixels).get("input_size")
        if not size:
            raise UsageError(
                f"how large are the images that {type(self.pixels.model).__name__} takes?",
                expected="a model with input_size in its pretrained_cfg, or images to begin at",
                actual="neither",
                next="images=torch.full((N, C, H, W), 0.5)",
            )
        return tuple(size)

    @property
    def classes(self) -> int:
        """How many it has; 0 where it does not say."""
        found: Any = cfg_of(self.pixels).get("num_classes") or getattr(self.pixels.model, "num_classes", 0)
        return int(found)

    def features(self, images: Tensor, batch_size: int = BATCH_SIZE) -> Tensor:
        """Of images (N, C, H, W) in [0, 1]: (N, D) on the CPU."""
        model = Features(self.pixels)
        with eval_mode(model):
            return answers(model, images, batch_size)

    def logits(self, images: Tensor, batch_size: int = BATCH_SIZE) -> Tensor:
        """Of images (N, C, H, W) in [0, 1]: (N, K) on the CPU."""
        with eval_mode(self.pixels):
            return answers(self.pixels, images, batch_size)

    def labels(self, classes: Sequence[int | str] | Tensor) -> Tensor:
        """The numbers of classes.

        Args:
            classes: Numbers; or names, where the model was given as a checkpoint.

        Returns:
            (N,) int64.

        Raises:
            UsageError: One is no class of the model, or a name that means several.
        """
        found = [self._label(one) for one in (classes.tolist() if isinstance(classes, Tensor) else classes)]
        if not found:
            raise UsageError("no classes", expected="a class for each image", actual="none", next="classes=[0, 1, 2]")
        return torch.tensor(found)

    def _label(self, one: int | str) -> int:
        if self.checkpoint is not None:
            return label_of(one, self.checkpoint.collection.dataset, self.checkpoint.name)
        if type(one) is not int or not 0 <= one < (self.classes or float("inf")):
            raise UsageError(
                f"{one!r} is no class of this model",
                model=type(self.pixels.model).__name__,
                expected=f"a whole number, {f'0 to {self.classes - 1}' if self.classes else '0 or more'}",
                actual=repr(one),
                next="name the checkpoint instead of giving a model, and its classes have names too",
            )
        return one


def subject(model: Model) -> Subject:
    """Takes what the functions are given.

    Args:
        model: See `Model`.

    Returns:
        The model, in eval mode where it was loaded here.

    Raises:
        UsageError: It is an encoder, which has no classes, or does not say how its images are normalised.
        UnknownCheckpoint: No checkpoint has that name.
    """
    if isinstance(model, PixelModel):
        return Subject(model)
    if isinstance(model, nn.Module):
        return Subject(pixel_model(model))
    checkpoint = checkpoint_of(model)
    check_classifies(checkpoint)
    return Subject(pixel_model(create_model(checkpoint)).eval().requires_grad_(False), checkpoint)
