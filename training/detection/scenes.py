"""Images with what stands in them: read by index, hashed, and as a detector takes them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from robust_zoo.errors import VerificationFailed, cannot_read
from robust_zoo.readers import Malformed, read_bytes
from robust_zoo.training.data.contents import Digests, digests_of
from robust_zoo.training.data.decode import MOST_BYTES, decode
from robust_zoo.training.detection.objects import Objects
from robust_zoo.training.detection.outlines import Polygons, Runs, drawn


@dataclass(frozen=True, eq=False)
class Scene:
    """An image, and what stands in it.

    Attributes:
        path: Its file.
        height: In pixels.
        width: In pixels.
        objects: Labels are 1, 2, ... for `Scenes.classes` in order: 0 is the background to torchvision's detectors.
        outlines: A mask for each object, or None where the file has not one for all of them.
    """

    path: Path
    height: int
    width: int
    objects: Objects
    outlines: tuple[Polygons | Runs, ...] | None = None

    def image(self) -> Tensor:
        """The pixels.

        Returns:
            (3, H, W) uint8, RGB.

        Raises:
            UsageError: The file cannot be read.
            VerificationFailed: It cannot be decoded, or its size is another than was said.
        """
        image = decode(self._content(), str(self.path))
        if image.shape[1:] != (self.height, self.width):
            raise VerificationFailed(
                f"{self.path.name} has another size than its objects were marked in",
                source=str(self.path),
                expected=f"{self.width} x {self.height} pixels, what EXIF says of the orientation applied",
                actual=f"{image.shape[2]} x {image.shape[1]}",
                next="put the image in its place that the boxes are of",
            )
        return image

    def with_masks(self) -> Objects:
        """The objects with their masks drawn.

        Returns:
            As `objects`, with `masks` (n, height, width).

        Raises:
            UsageError: An object has none.
        """
        if self.outlines is None:
            raise cannot_read("masks", self.path, "a mask for each object", "boxes alone", "take masks = false")
        return replace(self.objects, masks=drawn(self.outlines, self.height, self.width))

    def _content(self) -> bytes:
        try:
            return read_bytes(self.path, MOST_BYTES)
        except (OSError, Malformed) as error:
            raise cannot_read(self.path.name, self.path, "an image's file", error, "put it in its place") from None

    def said(self) -> bytes:
        """What is said of the image, as bytes that are equal where it is."""
        o = self.objects
        arrays = (o.boxes, o.labels, o.areas, o.crowd, o.difficult)
        parts = [np.ascontiguousarray(a).tobytes() for a in arrays if a is not None]
        return b"|".join([b"%d %d" % (self.height, self.width), *parts, repr(self.outlines).encode()])


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images with objects.

    Attributes:
        classes: Names of what may stand in them.
        images: One by one.
        workers: Processes that read them, 0 for none.
    """

    classes: tuple[str, ...]
    images: tuple[Scene, ...]
    workers: int = 0

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def sha256(self) -> str:
        """Of every image's bytes and of what is said of it, in order."""
        contents = digests_of(range(len(self)), lambda i: self.images[i]._content(), Digests())
        digest = hashlib.sha256()
        for content, scene in zip(contents, self.images, strict=True):
            digest.update(content + hashlib.sha256(scene.said()).digest())
        return digest.hexdigest()

    def where(self, keep: Callable[[Scene], bool]) -> Scenes:
        """Those images that `keep` is true of, in order."""
        return replace(self, images=tuple(filter(keep, self.images)))


@dataclass(frozen=True)
class DetectionTarget:
    """Images with objects to train a detector on, and others to test it on.

    Attributes:
        name: As figures carry it.
        classes: Names of what stands in them.
        train: Images to train on.
        test: Images to test on.
        note: What was taken for what, shown with figures.
        val: None: nothing is chosen.
        metric: One of `transfer.task.METRICS`.
    """

    name: str
    classes: tuple[str, ...]
    train: Scenes
    test: Scenes
    note: str = ""
    val: None = None
    metric: str = "AP"


def inside(folder: Path, name: object) -> Path:
    """A file of a folder, by the name that stands in another file.

    Args:
        folder: Where it lies.
        name: A path from there.

    Returns:
        The path.

    Raises:
        ValueError: The name leads out of the folder, or is no printable text.
    """
    path = Path(name) if isinstance(name, str) and name.isprintable() and name else None
    if path is None or path.is_absolute() or ".." in path.parts or os.path.splitdrive(path)[0]:
        raise ValueError(f"{name!r} is no path within {folder.name}")
    return folder / path


def rows(values: Sequence[Sequence[float]]) -> np.ndarray:
    """(n, 4) float64 of n boxes, for no box too."""
    return np.array(values, np.float64).reshape(len(values), 4)
