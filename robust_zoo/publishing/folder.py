"""What is published of a checkpoint: the files of its repository, as a value; written to a disk. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_zoo.files import storage, write_chunks
from robust_zoo.publishing.licences import licence_text
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.published import FILE
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.verify import Weights

_ROOM = "free some space, or name a folder on another disk with --out"


@dataclass(frozen=True)
class Folder:
    """The files of a repository.

    Attributes:
        checkpoint: What they are of.
        weights: The content of FILE, verified.
        texts: The others, by name: config.json, LICENSE, README.md and what that shows.
    """

    checkpoint: Checkpoint
    weights: Weights
    texts: Mapping[str, bytes]

    @property
    def is_registered(self) -> bool:
        """Whether it is a row of the registry, and no file of a user's own."""
        return self.checkpoint.collection.name in load_registry().collections

    @property
    def names(self) -> list[str]:
        """Of all its files."""
        return [FILE, *sorted(self.texts)]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each, by name."""
        return {FILE: len(self.weights.content)} | {name: len(self.texts[name]) for name in sorted(self.texts)}

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each, by name."""
        texts = {name: hashlib.sha256(self.texts[name]).hexdigest() for name in sorted(self.texts)}
        return {FILE: self.weights.sha256} | texts


def folder_of(checkpoint: Checkpoint, weights: Weights, config: Mapping[str, Any], card: Mapping[str, bytes]) -> Folder:
    """The folder: the very bytes of the weights, and what says how to load them and under which licence.

    Args:
        checkpoint: Whose weights.
        weights: Verified.
        config: How timm builds the network (architectures.config.config_of).
        card: README.md and the pictures that it shows, by name.

    Returns:
        The folder. The same arguments give the same bytes.
    """
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    own = {"config.json": text.encode(), "LICENSE": licence_text(checkpoint).encode()}
    return Folder(checkpoint, weights, {**card, **own})


def write(folder: Folder, out: Path) -> None:
    """Writes the files, each whole or not at all; what else lies there stays.

    Args:
        folder: What to write.
        out: Where; it is made.

    Raises:
        StorageError: The disk refused.
    """
    with storage(out, _ROOM):
        out.mkdir(parents=True, exist_ok=True)
        write_chunks(out / FILE, [folder.weights.content])
        for name, content in folder.texts.items():
            write_chunks(out / name, [content])
