"""What lies in a folder of images and is not taken, in words: nothing is left out in silence."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from robust_zoo.text import listed, several
from robust_zoo.training.data.encoded import is_hidden


@dataclass
class LeftOut:
    """What lies in a folder and is not taken.

    Attributes:
        files: How many files there are of each kind that is no image, or none that can be decoded here.
        loose: Images beside the class folders instead of in them.
        hidden: What a system or an editor left, by name.
        folders: Folders beside those of splits, or without class folders.
    """

    files: Counter[str] = field(default_factory=Counter)
    loose: int = 0
    hidden: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)

    def add(self, entry: os.DirEntry[str]) -> None:
        """Counts a file or folder that is not read."""
        suffix = Path(entry.name).suffix.lower()
        if is_hidden(entry.name):
            self.hidden.add(entry.name)
        elif not entry.is_file():
            self.files["not a file (a link to nowhere, a pipe)"] += 1
        else:
            self.files[suffix if re.fullmatch(r"\.\w{1,9}", suffix) else "of no usual ending"] += 1

    def __str__(self) -> str:
        parts = [f"{count:,} {kind}" for kind, count in sorted(self.files.items())]
        parts += [f"{several(self.loose, 'image')} outside the class folders"] if self.loose else []
        parts += [f"what is hidden or a system's ({listed(self.hidden)})"] if self.hidden else []
        folders = "the folder" if len(self.folders) == 1 else "the folders"
        return ", ".join(parts + ([f"{folders} {listed(self.folders)}"] if self.folders else []))
