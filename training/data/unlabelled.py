"""Images of anyone's that are looked at one by one, whatever they are of: files, or a folder as every verb reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from robust_zoo.errors import UsageError, VerificationFailed, cannot_read
from robust_zoo.readers import read_bytes
from robust_zoo.registry.families import Preprocessing
from robust_zoo.text import several
from robust_zoo.training.data.decode import MOST_BYTES, decode
from robust_zoo.training.data.encoded import EncodedImages
from robust_zoo.training.data.folders import encoded
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.data.labelled import open_held_out
from robust_zoo.training.data.left_out import LeftOut
from robust_zoo.training.data.tar import is_shard
from robust_zoo.training.data.tree import loose_images
from robust_zoo.views import View

_SPLITS = ("test", "val", "train")  # of which the first that is there is taken, as by `evaluate`


@dataclass(frozen=True)
class Unlabelled:
    """Images by index, none of them read before it is asked for.

    Attributes:
        names: What they are called: the files that were given, or paths in the folder.
        view: What of an image is seen.
        folder: The folder's images; None where files were given.
        root: That folder on the disk; None for other sources.
    """

    names: tuple[Path, ...]
    view: View
    folder: EncodedImages | None = None
    root: Path | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """(3, S, S) in [0, 1], in steps of 1/255.

        Raises:
            UsageError: A file that was given is not there, or no image that can be decoded.
            VerificationFailed: An image of the folder cannot be decoded.
        """
        if self.folder is None:
            return self.view(_decoded(self.names[index])).float() / 255
        return self.view(ImageFiles(self.folder, self.view).decode(index)).float() / 255

    def batch(self, indices: Sequence[int]) -> Tensor:
        """(B, 3, S, S) of several."""
        return torch.stack([self[index] for index in indices])


def open_unlabelled(given: Sequence[Path | str], p: Preprocessing) -> Unlabelled:
    """Opens what a user named.

    Args:
        given: Files of images; or one folder of images, one folder of class folders (or of splits, or of tar files),
            one tar file, or "hfds/NAME", of which `evaluate` would take the same images.
        p: How the model's images are prepared.

    Returns:
        The images.

    Raises:
        UsageError: The folder is not laid out so. Of files nothing is looked at yet.
    """
    paths = [Path(one) for one in given]
    view = View.of(p)
    if len(paths) == 1 and is_dataset(paths[0]):
        root = paths[0] if paths[0].is_dir() else None
        source = (root and _loose(root)) or open_held_out(paths[0].as_posix(), _SPLITS)
        return Unlabelled(tuple(map(Path, source.names)), view, source, root)
    return Unlabelled(tuple(paths), view)


def is_dataset(path: Path) -> bool:
    """Whether a path means many images: a folder, a tar file, "hfds/NAME"."""
    return path.parts[:1] == ("hfds",) or path.is_dir() or (is_shard(path.name) and path.is_file())


def load(file: Path, p: Preprocessing) -> Tensor:
    """Reads an image as the checkpoint wants it: resized, centre crop.

    Args:
        file: An image.
        p: The checkpoint's preprocessing: the crop's side S and the part of the image that it is.

    Returns:
        (3, S, S) in [0, 1], in steps of 1/255.

    Raises:
        UsageError: There is no such file, or it is no image that can be decoded.
    """
    return Unlabelled((file,), View.of(p))[0]


def _loose(folder: Path) -> EncodedImages | None:
    """Images that lie in a folder directly, of no class; None where there are none, or class folders or tar files."""
    left_out = LeftOut()
    if not (files := loose_images(folder, left_out)):
        return None
    words = [several(len(files), "image"), *([f"left out: {left_out}"] if str(left_out) else [])]
    return replace(encoded(folder, {"": files}), classes=(), note="; ".join(words))


def _decoded(file: Path) -> Tensor:
    try:
        return decode(read_bytes(file, MOST_BYTES), str(file))
    except (OSError, ValueError) as error:
        next_ = "name files of images that are there, or one folder alone"
        raise cannot_read(file.name, file, "an image", error, next_) from None
    except VerificationFailed as error:
        raise UsageError(f"{file} is not an image that can be decoded", **error.fields) from None
