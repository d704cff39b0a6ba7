"""Small datasets in memory, as uint8 tensors; and the order in which any dataset is seen.

Order and augmentation are functions of (seed, epoch, index): nothing of them has to be saved, and neither the
number of workers nor of devices changes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_zoo.errors import UsageError, cannot_read
from robust_zoo.training.data.arrays import image_tensor, label_tensor
from robust_zoo.training.data.npz import read_npz

_PAD = 4  # crop offset in pixels, the field's standard CIFAR augmentation
_CPU = torch.device("cpu")
_ON_DEVICE = 1 << 31  # bytes of images that are kept on a GPU

Batches = Iterator[tuple[Tensor, Tensor]]
"""Images (B, 3, H, W), float in [0, 1], with their labels (B,), int64."""


class Measurable(Protocol):
    """What the evaluation needs: images in order, whose labels are known."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64, in order."""
        ...

    def __len__(self) -> int: ...

    @property
    def sha256(self) -> str:
        """Of every image's bytes and label, in order."""
        ...

    def subset(self, indices: Tensor) -> Measurable:
        """The images at `indices`, in that order."""
        ...

    def batches(self, size: int) -> Batches:
        """All images in order, unaugmented, `size` at a time."""
        ...


class Dataset(Measurable, Protocol):
    """What the loop needs, too: `Images` in memory, `ImageFiles` on disk (training.data.image_files)."""

    def subset(self, indices: Tensor) -> Dataset:
        """The images at `indices`, in that order."""
        ...

    def train_batches(self, indices: Sequence[Tensor], *, seed: int, epoch: int, device: torch.device) -> Batches:
        """A batch on `device` for each of `indices`, augmented as (seed, epoch, index) say."""
        ...


@dataclass(frozen=True)
class Images:
    """A labelled dataset in memory.

    Attributes:
        images: (N, 3, H, W) uint8.
        labels: (N,) int64, from 0.

    Raises:
        UsageError: They are not such tensors, or not equally many.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        both = (self.images, self.labels)
        if not all(isinstance(value, Tensor) for value in both) or (
            [self.images.dtype, self.images.ndim, *self.images.shape[1:2]] != [torch.uint8, 4, 3]
            or [self.labels.dtype, *self.labels.shape] != [torch.int64, len(self.images)]
        ):
            found = (f"{v.dtype} {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__ for v in both)
            raise UsageError(
                "no images and labels",
                expected="images (N, 3, H, W) torch.uint8 and labels (N,) torch.int64",
                actual=" and ".join(found),
                next="of [0, 1] images: Images((images * 255).round().byte(), labels.long())",
            )
        if (wrong := (self.labels < 0).nonzero()).numel():
            first = int(wrong[0])
            raise UsageError(
                "labels below 0",
                expected="labels that count classes from 0",
                actual=f"label {first} is {int(self.labels[first])}",
                next="number the classes 0, 1, 2, ...",
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """Fingerprint of the pixels and labels, in order."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    def subset(self, indices: Tensor) -> Images:
        """The images at `indices`, in that order."""
        return Images(self.images[indices], self.labels[indices])

    def batches(self, size: int) -> Batches:
        """All images in order, unaugmented, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.images[start : start + size].float() / 255, self.labels[start : start + size]

    def train_batches(
        self, indices: Sequence[Tensor], *, seed: int, epoch: int, device: torch.device = _CPU
    ) -> Batches:
        """Batches of the given images, reflect-padded, randomly cropped and flipped on `device`.

        Args:
            indices: For each batch the indices of its images.
            seed: With `epoch` and an image's index, decides how the image is changed.
            epoch: Counted from 0.
            device: Where the batches are wanted.

        Yields:
            Images (B, 3, H, W) float in [0, 1], and labels (B,) int64.
        """
        _, offsets, flips = _draws(len(self), seed, epoch)
        home = device if self.images.nbytes <= _ON_DEVICE else _CPU  # once for the epoch: nothing waits in a step
        images, labels, offsets, flips = (x.to(home) for x in (self.images, self.labels, offsets, flips))
        for index in indices:
            here = index.to(home)
            chosen, by, flipped, of = (x[here].to(device) for x in (images, offsets, flips, labels))
            crops = _crop(chosen, by)
            yield torch.where(flipped.view(-1, 1, 1, 1), crops.flip(-1), crops).float() / 255, of


def _draws(n: int, seed: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
    """The order of an epoch, and each image's crop offsets (N, 2) in [0, 2 * _PAD] and flip, read at its own index."""
    rng = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(n, generator=rng)
    offsets = torch.randint(0, 2 * _PAD + 1, (n, 2), generator=rng)
    return order, offsets, torch.rand(n, generator=rng) < 0.5


def seed_of(*numbers: int) -> int:
    """A generator's seed from several numbers. Mixed into 32 bits, for torch's CPU generator looks at no more."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest(), "little")


def epoch_order(n: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, ranks: int = 1) -> list[Tensor]:
    """The indices of each batch of an epoch that `rank` sees; together the ranks see what one would.

    Args:
        n: Images of the dataset.
        batch_size: Images per update, over all ranks.
        seed: With `epoch`, decides the order.
        epoch: Counted from 0.
        rank: Whose share.
        ranks: How many share a batch.

    Returns:
        For each batch (batch_size // ranks,) int64; the short last batch is dropped.
    """
    order, _, _ = _draws(n, seed, epoch)
    share = batch_size // ranks
    starts = range(rank * share, n - batch_size + rank * share + 1, batch_size)
    return [order[start : start + share] for start in starts]


def evenly(count: int, n: int) -> list[int]:
    """Numbers evenly spaced from 0 to count - 1.

    Args:
        count: How many there are.
        n: How many are wanted; all where there are fewer.

    Returns:
        They, ascending.
    """
    return [i * count // min(n, count) for i in range(min(n, count))]


def spread(data: Dataset, n: int) -> Dataset:
    """Some images evenly spaced through a dataset: every class of a sorted one.

    Args:
        data: The dataset.
        n: How many; all of it when it has fewer.

    Returns:
        The images, in the dataset's order.
    """
    return data.subset(torch.tensor(evenly(len(data), n), dtype=torch.int64))


def load_npz(path: Path, split: str) -> Images:
    """Reads `x_{split}` (N, H, W, 3) uint8 and `y_{split}` (N,) from an .npz file.

    Args:
        path: The file.
        split: "train", "test" or another that the file has.

    Returns:
        Images (N, 3, H, W) uint8 and labels (N,) int64.

    Raises:
        UsageError: The file or the split is missing, or is not such images and labels.
    """
    expected = f"an .npz with x_{split} (N, H, W, 3) uint8 and y_{split} (N,)"
    try:
        images, labels = read_npz(path, [f"x_{split}", f"y_{split}"])
    except (OSError, ValueError) as error:
        raise cannot_read(f"{split} images", path, expected, error) from None
    pixels = image_tensor(images, f"x_{split}", path)
    return Images(pixels, label_tensor(labels, len(images), f"y_{split}", path))


def _crop(images: Tensor, offsets: Tensor) -> Tensor:
    """images (B, C, H, W) uint8, offsets (B, 2) in [0, 2 * _PAD] -> crops of the reflect-padded images, same shape."""
    batch, channels, height, width = images.shape
    padded = F.pad(images.float(), (_PAD,) * 4, mode="reflect").to(images.dtype)
    device = images.device
    rows = (offsets[:, :1] + torch.arange(height, device=device)).view(-1, 1, height, 1)
    columns = (offsets[:, 1:] + torch.arange(width, device=device)).view(-1, 1, 1, width)
    every_image = torch.arange(batch, device=device).view(-1, 1, 1, 1)
    every_channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
    return padded[every_image, every_channel, rows, columns]
