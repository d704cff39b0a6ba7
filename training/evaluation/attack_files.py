"""The files that `robust-zoo attack` writes: no two of the same name, none over an image that was given."""

from __future__ import annotations

import io
import os
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_zoo.errors import UsageError
from robust_zoo.files import storage, write_chunks
from robust_zoo.training.data.unlabelled import Unlabelled

SHEET = "attack.png"
REPORT = "report.csv"
PICTURES: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "quality": 80, "method": 6},
}
_NEXT = "give another directory with -o"
_LONGEST = 200  # bytes of a stem; most file systems allow names of 255


def outputs(images: Unlabelled, out: Path) -> list[Path]:
    """Where the adversarial version of each image goes: `<stem>_adversarial.png`, numbered where stems are alike.

    Args:
        images: Files, whose versions lie beside each other; or of a folder, in whose folders they lie.
        out: The folder for all of them, which need not be there.

    Returns:
        A path for each image; they differ on file systems that ignore case, too.

    Raises:
        UsageError: One of them, the sheet or the report is one of the images, or a folder; or `out` lies in the folder
            of the images, where it would be taken for some of them.
    """
    seen: Counter[str] = Counter()
    saved = []
    for name in images.names:
        stem = os.fsencode(name.stem)[:_LONGEST].decode(errors="ignore")
        place = Path(*_inside(name.parent) if images.folder else (), stem if not images.folder else _plain(stem))
        alike = unicodedata.normalize("NFC", str(place)).casefold()
        seen[alike] += 1
        number = f"_{seen[alike]}" if seen[alike] > 1 else ""
        saved.append(out / place.with_name(f"{place.name}_adversarial{number}.png"))
    given = {} if images.folder else {_identity(file): file for file in images.names if file.exists()}
    if images.root and out.resolve().is_relative_to(images.root.resolve()):
        raise _in_the_way(out, "a directory outside the folder of images", f"one in {images.root}")
    for path in (*saved, out / SHEET, out / REPORT):
        if path.is_dir() or (path.exists() and _identity(path) in given):
            actual = "a directory" if path.is_dir() else "one of the images to attack"
            raise _in_the_way(path, "a directory for the pictures where none of them is in the way", actual)
    return saved


def _inside(folder: Path) -> list[str]:
    """The parts of a path that anyone may have chosen, without those that lead out of where it is put."""
    return [_plain(part) for part in folder.parts if part not in (folder.anchor, "..", ".")]


def _plain(part: str) -> str:
    return re.sub(r'[\\/:*?"<>|\x00-\x1f\x7f]', "_", part)


def _identity(file: Path) -> tuple[int, int]:
    """Which file it is, by whatever name."""
    status = file.stat()
    return status.st_dev, status.st_ino


def _in_the_way(path: Path, expected: str, actual: str) -> UsageError:
    return UsageError(f"{path} would be written over", source=str(path), expected=expected, actual=actual, next=_NEXT)


def save(picture: Image.Image, path: Path) -> None:
    """Writes a picture, whole or not at all; a link that lies there is replaced, not followed.

    Args:
        picture: What to write.
        path: Its file, whose ending is one of PICTURES.

    Raises:
        StorageError: The disk is full or refuses.
    """
    content = encode(picture, path.suffix.lower())
    with storage(path, _NEXT):
        write_chunks(path, [memoryview(content)])


def encode(picture: Image.Image, ending: str) -> bytes:
    """The content of a picture's file.

    Args:
        picture: Any.
        ending: One of PICTURES.

    Returns:
        It, of the same bytes for the same pixels.
    """
    content = io.BytesIO()
    picture.save(content, **PICTURES[ending])
    return content.getvalue()


def read_saved(path: Path) -> Tensor:
    """The pixels of a file that `save` wrote, neither resized nor cropped.

    Args:
        path: The PNG.

    Returns:
        (3, H, W) in [0, 1], in steps of 1/255.
    """
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
