"""Encoded, labelled images that can be read by index: what every layout on disk becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from robust_zoo.errors import UsageError

_IMAGES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class EncodedImages:
    """Labelled encoded images. names, sizes (bytes) and labels, (N,) int64, by index; read(index) -> the file's bytes.
    Picklable, for loader processes.

    classes: the folders that labels stand for, () where the dataset numbers its classes itself.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    labels: Tensor
    classes: tuple[str, ...]
    read: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sha256(self) -> str:
        """Fingerprint of the list (names, sizes, labels), not of the pixels: ImageNet's would take minutes to read."""
        digest = hashlib.sha256()
        for name, size, label in zip(self.names, self.sizes, self.labels.tolist(), strict=True):
            digest.update(f"{name}\t{size}\t{label}\n".encode())
        return digest.hexdigest()


def in_order(classes: Iterable[str]) -> list[str]:
    """Class folders by name; by number where all are numbers (or ImageNetV2's "10" would come before its "2")."""
    names = list(classes)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def is_image(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in _IMAGES and not any(part.startswith(".") for part in path.parts)


def not_a_dataset(where: Path, expected: str, actual: str) -> UsageError:
    return UsageError(
        "not a dataset of images",
        source=str(where),
        expected=expected,
        actual=actual,
        next="robust-zoo train --help   describes the layouts",
    )
