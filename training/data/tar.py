"""Tar shards, WebDataset's or of class folders, read at random where they lie; nothing is unpacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from robust_zoo.readers import SMALL, open_tar, read_json
from robust_zoo.text import printable
from robust_zoo.training.data.encoded import EncodedImages, in_order, is_image, not_a_dataset

_CLASSES = 1 << 20  # more than any dataset has


def _from_tars(files: Sequence[Path], spans: Sequence[tuple[int, int, int]], index: int) -> bytes:
    """spans: (file, offset, size). Opens the file each time, so that processes share no place in it."""
    number, offset, size = spans[index]
    with files[number].open("rb") as file:
        file.seek(offset)
        return file.read(size)


def open_tars(files: list[Path]) -> EncodedImages:
    """All shards as one source.

    Args:
        files: The shards.

    Returns:
        Their images, sorted by name, none of them read yet.

    Raises:
        UsageError: A shard is damaged, or an image has no label.
    """
    entries: list[tuple[str, tuple[int, int, int], str | int]] = []
    for number, file in enumerate(files):
        try:
            entries += _members(number, file)
        except (OSError, ValueError, TypeError, OverflowError) as error:  # the last two: labels
            raise not_a_dataset(file, "a sound .tar file", str(error)) from None
    if not entries:
        raise not_a_dataset(files[0].parent, "labelled images in the .tar files", "none")
    kinds = {type(label) for _, _, label in entries}
    if len(kinds) > 1:
        raise not_a_dataset(files[0].parent, "one way of labelling in all shards", "class folders and .cls files")
    names, spans, labels = zip(*sorted(entries, key=lambda entry: entry[0]), strict=True)
    if "" in labels:
        raise not_a_dataset(
            files[0].parent, "class folders in the .tar files, or .cls files", f"{names[0]}, without a class"
        )
    classes = in_order(set(labels)) if kinds == {str} else []
    number_of = {name: i for i, name in enumerate(classes)}
    found = torch.tensor([number_of.get(label, label) for label in labels])
    return EncodedImages(names, [span[2] for span in spans], found, tuple(classes), partial(_from_tars, files, spans))


def _members(number: int, file: Path) -> Iterator[tuple[str, tuple[int, int, int], str | int]]:
    """(name, (shard, offset, size), class number or folder) of a shard's images; only headers and labels are read."""
    images: dict[str, tuple[str, tuple[int, int, int]]] = {}
    numbers: dict[str, int] = {}
    with open_tar(file) as (tar, members):  # uncompressed: read where it lies
        for member in members:
            key, dot, kind = member.name.rpartition(".")
            if not member.isfile() or not dot:
                continue
            if is_image(member.name):
                images[key] = (member.name, (number, member.offset_data, member.size))
            elif kind in ("cls", "json") and (content := tar.extractfile(member)):
                label = _number(kind, content.read(SMALL))
                if label is not None and (kind == "cls" or key not in numbers):
                    numbers[key] = label
    for key, (name, span) in images.items():
        if not numbers:
            yield name, span, Path(name).parent.name
        elif key in numbers:
            yield f"{file.name}/{name}", span, numbers[key]
        else:
            raise ValueError(f"{name} has no .cls or .json beside it")


def _number(kind: str, text: bytes) -> int | None:
    """The class in a .cls or .json member; None where the JSON has no "label" (a caption, say)."""
    found = read_json(text, finite=False).get("label") if kind == "json" else text
    if found is not None and not 0 <= int(found) < _CLASSES:
        raise ValueError(f"a label of {printable(int(found), limit=40)}")
    return None if found is None else int(found)
