"""Tar shards, WebDataset's or of class folders, read at random where they lie; nothing is unpacked."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import torch

from robust_zoo.errors import UsageError
from robust_zoo.readers import SMALL, open_tar
from robust_zoo.training.data.encoded import EncodedImages, is_image, not_a_dataset
from robust_zoo.training.data.tar_labels import BESIDE, Shard, labelled

# A split -> what its shards are called: train-0.tar, validation.tar, or as timm's, imagenet1k-train-0.tar.
SHARDS_OF = {split: (f"{split}*.tar", f"*-{split}*.tar") for split in ("train", "val", "test")}
# What else images are packed in: endings, the first bytes, and the program that makes a .tar (of .zip: a folder) of it.
_PACKED = (
    ((".tar.gz", ".tgz", ".taz"), b"\x1f\x8b", "gunzip"),
    ((".tar.bz2", ".tbz2", ".tbz"), b"BZh", "bunzip2"),
    ((".tar.xz", ".txz"), b"\xfd7zXZ", "unxz"),
    ((".tar.zst", ".tzst"), b"\x28\xb5\x2f\xfd", "zstd -d"),
    ((".zip",), b"PK\x03\x04", "unzip"),
)


def _from_tars(files: Sequence[Path], spans: Sequence[tuple[int, int, int]], index: int) -> bytes:
    """spans: (file, offset, size). Opens the file each time, so that processes share no place in it."""
    number, offset, size = spans[index]
    with files[number].open("rb") as file:
        file.seek(offset)
        return file.read(size)


def is_shard(name: str) -> bool:
    """Whether a file's name is that of a tar file, or of a packed one."""
    return name.lower().endswith((".tar", *(end for ends, _, _ in _PACKED for end in ends)))


def shards_in(folder: Path, patterns: Iterable[str] = ("*.tar",)) -> list[Path]:
    """The tar files among those of a folder.

    Args:
        folder: Where they lie; or a tar file itself.
        patterns: What their names are like, with .tar at the end.

    Returns:
        The files, sorted; [] where there are none.

    Raises:
        UsageError: Shards are compressed. Class folders that lie beside a .zip are no shards: [] is returned.
    """
    if folder.is_file():
        if folder.suffix != ".tar" and (packed := _unpacker(folder)):
            raise _is_packed(folder, packed)
        return [folder] if folder.suffix == ".tar" else []
    found, packed_ones, folders = [], [], False
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        ending = next((end for ends, _, _ in _PACKED for end in ends if path.name.lower().endswith(end)), "")
        as_tar = path.name[: len(path.name) - len(ending)] + ".tar" if ending else path.name
        folders = folders or path.is_dir()
        if path.is_dir() or not any(fnmatch(as_tar, pattern) for pattern in patterns):
            continue
        if not ending:
            found.append(path)
        elif not path.with_name(as_tar).exists():  # what was unpacked already may stay
            packed_ones.append(path)
    among = [path for path in packed_ones if path.suffix.lower() != ".zip" or not (found or folders)]
    if among and (found or not folders):
        raise _is_packed(among[0], _unpacker(among[0]))
    return found


def _unpacker(file: Path) -> str:
    """The program that unpacks a file, by its name or else its first bytes; "" for what is not packed."""
    for ends, _, program in _PACKED:
        if file.name.lower().endswith(ends):
            return program
    with file.open("rb") as opened:
        first = opened.read(8)
    return next((program for _, magic, program in _PACKED if first.startswith(magic)), "")


def _is_packed(file: Path, program: str) -> UsageError:
    path = shlex.quote(str(file))
    if program == "unzip":
        into = shlex.quote(str(file.with_suffix("")))
        expected, next_ = "class folders, or .tar files", f"unzip -q {path} -d {into}   and give that folder"
    else:
        expected, next_ = "an uncompressed .tar file: images are read out of it in any order", f"{program} {path}"
    if file.suffix == ".tar":  # a wrong name: the programs go by it
        ending = next(ends[0] for ends, _, known in _PACKED if known == program).removeprefix(".tar")
        renamed = shlex.quote(f"{file}{ending}" if ending != ".zip" else str(file.with_suffix(".zip")))
        next_ = f"mv {path} {renamed} && " + next_.replace(path, renamed)
    return not_a_dataset(file, expected, f"{file.name} is compressed", next=next_)


def open_tars(files: list[Path]) -> EncodedImages:
    """All shards as one source.

    Args:
        files: The shards.

    Returns:
        Their images, sorted by name, none of them read yet. Labels that are numbers are kept as they are.

    Raises:
        UsageError: A shard is damaged, compressed or empty, or labels are not one sound one for each image.
    """
    shards = []
    for number, file in enumerate(files):
        try:
            shards.append(_read(number, file))
        except (OSError, ValueError) as error:
            if file.is_file() and (packed := _unpacker(file)):
                raise _is_packed(file, packed) from None
            raise not_a_dataset(file, "a sound .tar file", str(error)) from None
        if not shards[-1].images:
            raise not_a_dataset(file, "labelled images in every .tar file", "none in this one")
    names, spans, labels, classes = labelled(shards)
    return EncodedImages(names, [s[2] for s in spans], torch.tensor(labels), classes, partial(_from_tars, files, spans))


def _read(number: int, file: Path) -> Shard:
    """What lies in a shard; only headers and labels are read."""
    shard = Shard(file)
    with open_tar(file) as (tar, members):  # uncompressed: read where it lies
        for member in members:
            image, (stem, _, kind) = is_image(member.name), member.name.rpartition(".")
            if member.isdir() or not (image or (stem and kind in BESIDE)):
                continue
            if not member.isreg():
                raise ValueError(f"{member.name} is a link: pack the files themselves (tar -h --hard-dereference)")
            if image:
                shard.add_image(member.name, (number, member.offset_data, member.size))
            elif member.size > SMALL:
                shard.add_text(member.name, None)
            elif content := tar.extractfile(member):
                shard.add_text(member.name, content.read(SMALL))
    return shard
