"""The files that `robust-zoo attack` writes: no two of the same name, none over an image that was given."""

from __future__ import annotations

import io
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_zoo.errors import UsageError
from robust_zoo.files import storage, write_chunks

SHEET = "attack.png"
PICTURES: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "quality": 80, "method": 6},
}
_NEXT = "give another directory with -o"
_LONGEST = 200  # bytes of a stem; most file systems allow names of 255


def outputs(files: Sequence[Path], out: Path) -> list[Path]:
    """Where the adversarial version of each image goes: `<stem>_adversarial.png`, numbered where stems are alike.

    Args:
        files: The images.
        out: The folder for all of them, which need not be there.

    Returns:
        A path for each file; they differ on file systems that ignore case, too.

    Raises:
        UsageError: One of them, or the sheet, is one of the images, or a folder.
    """
    seen: Counter[str] = Counter()
    saved = []
    for file in files:
        stem = os.fsencode(file.stem)[:_LONGEST].decode(errors="ignore")
        alike = unicodedata.normalize("NFC", stem).casefold()
        seen[alike] += 1
        number = f"_{seen[alike]}" if seen[alike] > 1 else ""
        saved.append(out / f"{stem}_adversarial{number}.png")
    given = [file for file in files if file.exists()]
    for path in (*saved, out / SHEET):
        if path.is_dir() or (path.exists() and any(path.samefile(file) for file in given)):
            actual = "a directory" if path.is_dir() else "one of the images to attack"
            raise UsageError(
                f"{path} would be written over",
                source=str(path),
                expected="a directory for the pictures where none of them is in the way",
                actual=actual,
                next=_NEXT,
            )
    return saved


def save(picture: Image.Image, path: Path) -> None:
    """Writes a picture, whole or not at all; a link that lies there is replaced, not followed.

    Args:
        picture: What to write.
        path: Its file, whose ending is one of PICTURES.

    Raises:
        StorageError: The disk is full or refuses.
    """
    content = io.BytesIO()
    picture.save(content, **PICTURES[path.suffix.lower()])
    with storage(path, _NEXT):
        write_chunks(path, [content.getbuffer()])


def read_saved(path: Path) -> Tensor:
    """The pixels of a file that `save` wrote, neither resized nor cropped.

    Args:
        path: The PNG.

    Returns:
        (3, H, W) in [0, 1], in steps of 1/255.
    """
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
