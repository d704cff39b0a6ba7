"""torchvision's Faster R-CNN and Mask R-CNN on a backbone, and what goes in and out of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from robust_zoo.errors import ZooError
from robust_zoo.training.detection.backbone import DetectionBackbone
from robust_zoo.training.detection.objects import Detections, Objects, clipped, corners
from robust_zoo.training.detection.scenes import Scene, Scenes

_ANCHOR = 8  # sides of a map's anchors, in its strides: 32 pixels at stride 4 (Lin et al. 2017, section 4.1)
_RATIOS = (0.5, 1.0, 2.0)
_BOX_CELLS, _MASK_CELLS, _SAMPLES = 7, 14, 2  # torchvision's
_LEAST_SIDE = 1.0  # pixels of a box that is trained on
Example = tuple[Tensor, dict[str, Tensor]]


def detector(
    backbone: DetectionBackbone, classes: int, *, masks: bool, side: int, longest: int, samples: int = 512
) -> FasterRCNN | MaskRCNN:
    """A detector, but for its weights beyond the backbone: they start at random.

    Args:
        backbone: Of `detection_backbone`.
        classes: Without the background.
        masks: Mask R-CNN (He et al. 2017) instead of Faster R-CNN (Ren et al. 2015).
        side: The shorter side that images are brought to, in pixels.
        longest: The most pixels of the other side.
        samples: Boxes of an image that the head is trained on, in each step.

    Returns:
        The model: lists of [0, 1] images (3, H, W) -> losses in training mode, with targets; else detections.
    """
    names = [str(i) for i in range(len(backbone.strides) - 1)]
    options: dict[str, Any] = {
        "min_size": side,
        "max_size": longest,
        "image_mean": list(backbone.mean),
        "image_std": list(backbone.std),
        "box_batch_size_per_image": samples,
        "size_divisible": backbone.strides[-2],
        "rpn_anchor_generator": AnchorGenerator(
            tuple((_ANCHOR * stride,) for stride in backbone.strides), (_RATIOS,) * len(backbone.strides)
        ),
        "box_roi_pool": MultiScaleRoIAlign(names, _BOX_CELLS, _SAMPLES),
    }
    if masks:
        return MaskRCNN(
            backbone, classes + 1, mask_roi_pool=MultiScaleRoIAlign(names, _MASK_CELLS, _SAMPLES), **options
        )
    return FasterRCNN(backbone, classes + 1, **options)


def learnable(scene: Scene) -> np.ndarray:
    """(n,) of bool: which objects are trained on: no crowds, none that are difficult, no box without a pixel in it."""
    o = scene.objects
    assert o.crowd is not None and o.difficult is not None
    return ~o.crowd & ~o.difficult & (clipped(o.boxes, scene.height, scene.width)[:, 2:] >= _LEAST_SIDE).all(1)


def example(scene: Scene, *, masks: bool, flip: bool) -> Example:
    """An image and its objects as a detector is trained on them.

    Args:
        scene: The image.
        masks: With the objects' masks.
        flip: Mirrored, left to right.

    Returns:
        (3, H, W) in [0, 1], and `boxes` (n, 4) of corners, within the image, `labels` (n,), `masks` (n, H, W) uint8.
    """
    image, objects = scene.image().float() / 255, scene.with_masks() if masks else scene.objects
    if flip:
        image, objects = image.flip(-1), mirrored(objects, scene.width)
    kept = learnable(scene)
    boxes = clipped(objects.boxes[kept], scene.height, scene.width)
    target = {"boxes": torch.from_numpy(corners(boxes)).float(), "labels": torch.from_numpy(objects.labels[kept])}
    if objects.masks is not None:
        target["masks"] = torch.from_numpy(objects.masks[kept].astype(np.uint8))
    return image, target


def mirrored(objects: Objects, width: int) -> Objects:
    """The objects of the image flipped left to right; `width` is the image's, in pixels."""
    left, top, w, h = objects.boxes.T
    masks = None if objects.masks is None else objects.masks[:, :, ::-1]
    return replace(objects, boxes=np.stack([width - left - w, top, w, h], axis=1), masks=masks)


@dataclass(frozen=True)
class _Examples:
    """What a DataLoader asks for: (index, flip)."""

    scenes: Scenes
    masks: bool

    def __getitem__(self, key: tuple[int, bool]) -> Example | ZooError:
        try:
            return example(self.scenes.images[key[0]], masks=self.masks, flip=key[1])
        except ZooError as error:  # sent as a value: the loader would wrap it in a traceback and lose its fields
            return error


def batches(scenes: Scenes, keys: Sequence[Sequence[tuple[int, bool]]], *, masks: bool) -> Iterator[list[Example]]:
    """Examples, read by loader processes.

    Args:
        scenes: Where they are.
        keys: Of each batch: (index, whether it is flipped) of its images.
        masks: With masks.

    Yields:
        The examples of each batch.

    Raises:
        UsageError: A file cannot be read.
        VerificationFailed: It cannot be decoded, or has another size than was said.
    """
    loader: DataLoader = DataLoader(
        _Examples(scenes, masks),  # type: ignore[arg-type]
        batch_sampler=keys,  # type: ignore[arg-type]
        num_workers=scenes.workers,
        collate_fn=list,
        generator=torch.Generator(),  # or the loader would draw a seed from everyone's generator
    )
    for batch in loader:
        if error := next((item for item in batch if isinstance(item, ZooError)), None):
            raise error
        yield batch


def detections(found: Mapping[str, Tensor]) -> Detections:
    """What a detector says of one image.

    Args:
        found: `boxes` (n, 4) of corners, `labels`, `scores`, and `masks` (n, 1, H, W) of Mask R-CNN's.

    Returns:
        The same, on the CPU; a mask is where its probability is above a half.
    """
    boxes = found["boxes"].double().cpu().numpy()
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    masks = (found["masks"][:, 0] > 0.5).cpu().numpy() if "masks" in found else None
    return Detections(boxes, found["labels"].cpu().numpy(), found["scores"].double().cpu().numpy(), masks)
