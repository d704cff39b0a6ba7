"""Images under corruptions: our own versions of any images, CIFAR-10-C's arrays, ImageNet-C's folders."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robust_zoo.errors import UsageError, cannot_read
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.choices import CORRUPTIONS
from robust_zoo.training.corruptions.corrupt import VERSION, corrupt
from robust_zoo.training.corruptions.kinds import EXTRA, KINDS, OWN, SEVERITIES
from robust_zoo.training.data.arrays import label_tensor
from robust_zoo.training.data.dataset import Batches, Images, Measurable
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.data.imagenet import validation
from robust_zoo.training.data.npz import read_npy
from robust_zoo.training.evaluation.series import Series
from robust_zoo.training.evaluation.tables import CLEAN

_AGAIN = "put the file there as it was published"
OURS = "our corruptions"  # in what such images are called, which is never the official name


@dataclass(frozen=True)
class Corrupted:
    """Images under one corruption of our own, made when they are asked for.

    Attributes:
        images: As they were.
        kind: A name of `corruptions.kinds.OWN`.
        severity: 1 to 5.
        seed: With an image's place, decides what is random.
        places: (N,) int64, of the images in the whole set that these are of; None for 0, 1, 2, ...
    """

    images: Measurable
    kind: str
    severity: int
    seed: int = 0
    places: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> Tensor:
        """(N,) int64, in order."""
        return self.images.labels

    @property
    def sha256(self) -> str:
        """Of all that makes the images."""
        kind = KINDS[self.kind]
        strengths = (self.kind, self.severity, kind.small, kind.large, VERSION)
        return hashlib.sha256(repr((self.images.sha256, self._places, self.seed, strengths)).encode()).hexdigest()

    @property
    def _places(self) -> list[int]:
        return [*range(len(self))] if self.places is None else self.places.tolist()

    def subset(self, indices: Tensor) -> Corrupted:
        """The images at `indices`, in that order; each is what it is in the whole."""
        places = indices if self.places is None else self.places[indices]
        return replace(self, images=self.images.subset(indices), places=places)

    def batches(self, size: int) -> Batches:
        """All images in order, `size` at a time, in steps of 1/255."""
        places = iter(self._places)
        for images, labels in self.images.batches(size):
            pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
            made = [corrupt(one, self.kind, self.severity, index=next(places), seed=self.seed) for one in pixels]
            yield torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255, labels


def _same(images: Measurable) -> Measurable:
    return images


def our_corruptions(images: Measurable, seed: int = 0) -> Series:
    """Images as they are, and under each corruption that we have a version of, at each severity.

    Args:
        images: Any, square.
        seed: Of what is random.

    Returns:
        Conditions CLEAN and "fog 3" and so on.
    """
    made: dict[str, Callable[[], Measurable]] = {f"{kind} {severity}": partial(Corrupted, images, kind, severity, seed)
            for kind in OWN for severity in SEVERITIES}  # fmt: skip
    return Series(CORRUPTIONS, {CLEAN: partial(_same, images)} | made, len(images))


def cifar10_c(data: str, checkpoint: Checkpoint, count: int = 10_000) -> Series:
    """CIFAR-10-C (Hendrycks & Dietterich 2019): an .npy for each corruption, one severity after the other.

    Args:
        data: The folder of `gaussian_noise.npy` and so on, (5 count, 32, 32, 3) uint8, and `labels.npy`.
        checkpoint: Not asked.
        count: Images at each severity.

    Returns:
        Conditions "fog 3" and so on: of the fifteen, and of the four extra ones that are there.

    Raises:
        UsageError: One of the fifteen is missing, or a file is not such an array.
    """
    folder = Path(data)
    names = _there(folder, [f"{kind}.npy" for kind in KINDS], [f"{kind}.npy" for kind in EXTRA])
    labels = _array(folder / "labels.npy", (5 * count,))
    if (labels.reshape(5, count) != labels[:count]).any():
        raise UsageError(
            "the labels of CIFAR-10-C differ between severities",
            source=str(folder / "labels.npy"),
            expected=f"the same {count:,} labels five times",
            actual=f"others at severity {1 + int((labels.reshape(5, -1) != labels[:count]).any(1).argmax())}",
            next=_AGAIN,
        )
    once = label_tensor(labels[:count], count, "labels", data)
    parts = {f"{name.removesuffix('.npy')} {severity}": partial(_of_array, folder / name, severity, once)
             for name in names for severity in SEVERITIES}  # fmt: skip
    return Series(CORRUPTIONS, parts, count)


def _there(folder: Path, needed: Iterable[str], extra: Iterable[str]) -> list[str]:
    """The names that are there of those that are needed, and of the extra ones. Raises UsageError for a needed one."""
    missing = [name for name in needed if not (folder / name).exists()]
    if missing:
        raise UsageError(
            f"{len(missing)} of the 15 corruptions are not there",
            source=str(folder),
            expected=f"a folder with {', '.join(needed)}",
            actual=f"no {missing[0]}",
            next="give the folder that holds them; a mean over some of them would be another figure",
        )
    return [*needed, *(name for name in extra if (folder / name).exists())]


@lru_cache(maxsize=1)
def _array(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The array of a file; the last one is kept, as five conditions are of the same."""
    wanted = ("CIFAR-10-C", file, f"{shape} uint8")
    try:
        found = read_npy(file)
    except (OSError, ValueError) as error:
        raise cannot_read(*wanted, error, _AGAIN) from None
    if found.shape != shape or found.dtype != np.uint8:
        raise cannot_read(*wanted, f"{found.shape} {found.dtype}", _AGAIN)
    return found


def _of_array(file: Path, severity: int, labels: Tensor) -> Images:
    count = len(labels)
    images = _array(file, (5 * count, 32, 32, 3))[(severity - 1) * count : severity * count]
    return Images(torch.from_numpy(images).permute(0, 3, 1, 2), labels)


def imagenet_c(data: str, checkpoint: Checkpoint, count: int = 50_000) -> Series:
    """ImageNet-C (Hendrycks & Dietterich 2019): a folder of class folders for each corruption and severity.

    Args:
        data: The folder of `gaussian_noise/1/n01440764/*.JPEG` and so on.
        checkpoint: Whose preprocessing the images get.
        count: Images of each condition.

    Returns:
        Conditions "fog 3" and so on: of the fifteen, and of the four extra ones that are there.

    Raises:
        UsageError: One of them is missing, has not `count` images, or has others than the first.
    """
    folder = Path(data)
    names = _there(folder, KINDS, EXTRA)
    opened: Mapping[str, ImageFiles] = {
        f"{name} {severity}": validation(str(folder / name / str(severity)), checkpoint, count)
        for name in names for severity in SEVERITIES
    }  # fmt: skip
    _check_same(folder, opened)
    return Series(CORRUPTIONS, {condition: partial(_same, images) for condition, images in opened.items()}, count)


def _check_same(folder: Path, opened: Mapping[str, ImageFiles]) -> None:
    """Raises UsageError where a condition is of other images: an interval counts each image under all conditions."""
    (first, images), *others = opened.items()
    for condition, found in others:
        if [*found.source.names] != [*images.source.names]:
            pairs = zip(found.source.names, images.source.names, strict=True)
            strange, wanted = next((name, other) for name, other in pairs if name != other)
            raise UsageError(
                f"{condition} is not of the images of {first}",
                source=str(folder / condition.replace(" ", "/")),
                expected=f"the same files everywhere, {wanted} here",
                actual=strange,
                next="unpack this corruption again, into a folder of its own",
            )
