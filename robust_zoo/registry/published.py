"""Where weights of ours were published as safetensors: the rows of published.toml. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robust_zoo.files import is_sha256
from robust_zoo.readers import SMALL, read_toml
from robust_zoo.registry.places import Place, place

FILE = "model.safetensors"  # its name in each repository, as timm and transformers expect it


@dataclass(frozen=True)
class Published:
    """What `robust-zoo publish` put on the Hugging Face hub: the file that a checkpoint's source file converts to.

    Attributes:
        repo: "ORGANISATION/NAME".
        revision: The commit, 40 hexadecimal digits.
        sha256: Of the file.
        size: Its bytes.
        header: What the row said in the file's header, as weights.published.header_digest; "" of bundled weights,
            which are published as they are.
    """

    repo: str
    revision: str
    sha256: str
    size: int
    header: str = ""

    @classmethod
    def parse(cls, name: str, row: Mapping[str, Any]) -> Published:
        """A row of published.toml.

        Args:
            name: The checkpoint's.
            row: What the file says of it.

        Returns:
            The row, checked.

        Raises:
            ValueError: It says something else than where a file is, and which.
            TypeError: It lacks something, or says more.
        """
        found = cls(**row)
        if not is_sha256(found.sha256) or not (found.header == "" or is_sha256(found.header)):
            raise ValueError(f"{name} in published.toml: sha256 and header are 64 hexadecimal digits")
        if type(found.size) is not int or found.size < 1:
            raise ValueError(f"{name} in published.toml: size is a number of bytes, not {found.size!r}")
        found.place  # noqa: B018  (raises for a repo or revision that is none)
        return found

    @property
    def place(self) -> Place:
        """Where the file is."""
        return place(f"hf:{self.repo}@{self.revision}/{FILE}", self.sha256)

    def lines(self, name: str) -> list[str]:
        """The lines of published.toml that say so.

        Args:
            name: The checkpoint's.

        Returns:
            Lines; `parse` reads them back.
        """
        said = {key: value for key, value in asdict(self).items() if value != ""}
        return [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in said.items())]


def rows_of(path: Path) -> dict[str, Any]:
    """What a published.toml says, by checkpoint; `Published.parse` reads each. Raises ValueError or OSError."""
    return read_toml(path, limit=SMALL)
