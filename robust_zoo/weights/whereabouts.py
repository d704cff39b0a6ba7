"""A place of a row -> what is asked for it, what is shown of it, and which variable says otherwise."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import quote

from robust_zoo.registry.places import Place
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.addresses import is_private, join, without_secrets

HUB, _ENDPOINT = "https://huggingface.co", "HF_ENDPOINT"
_DRIVE, _DRIVE_ENDPOINT = "https://drive.usercontent.google.com", "ROBUST_ZOO_DRIVE"


@dataclass(frozen=True)
class Source:
    """One place that may have a file.

    Attributes:
        kind: "bundled", "local", "published", "hub", "gdrive", "https", "http" or "mirror".
        location: A path, or an address as it may be shown: a row's as the row has it, a user's without secrets.
        address: What is asked, name and password and query included.
        variable: Which one gave the address, "" for none.
        sha256: Of the file there, where it is known to be another than the row's.
    """

    kind: str
    location: str
    address: str = field(default="", repr=False, compare=False)
    variable: str = field(default="", compare=False)
    sha256: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.location} ({self.variable})" if self.variable else self.location

    @property
    def is_overheard(self) -> bool:
        """Whether it is asked over plain http: anyone on the way could change what it says."""
        try:
            return self.address.lower().startswith("http:") and not is_private(self.address)
        except ValueError:  # an address that is none: its turn will say so
            return False


def remote(kind: str, address: str, variable: str = "") -> Source:
    """A source that a user named; which variable gave its address is told with it."""
    return Source(kind, without_secrets(address), address, variable)


def source_at(place: Place) -> Source:
    """A place of a row.

    Args:
        place: The place.

    Returns:
        For the hub, the file at the pinned revision (HF_ENDPOINT names another hub); for Drive, the form for large
        files (ROBUST_ZOO_DRIVE names another server that knows it), shown as `gdrive:ID`; else the row's address.
    """
    if place.kind == "hub":
        given = os.environ.get(_ENDPOINT, "").strip()
        address = join(given or HUB, f"{place.repo}/resolve/{quote(place.revision, safe='')}/{quote(place.path)}")
        return Source("hub", without_secrets(address), address, _ENDPOINT if given else "", place.sha256)
    if place.kind == "gdrive":
        given = os.environ.get(_DRIVE_ENDPOINT, "").strip()
        base = join(given or _DRIVE, "download")
        address = f"{base}{'&' if '?' in base else '?'}id={quote(place.path)}&export=download&confirm=t"
        return Source("gdrive", place.at, address, _DRIVE_ENDPOINT if given else "", place.sha256)
    return Source(place.kind, place.at, place.url, "", place.sha256)


def is_overheard(checkpoint: Checkpoint) -> bool:
    """Whether its hosts are asked over plain http only: without a hash, nothing of theirs is taken."""
    return bool(checkpoint.sources) and all(source_at(place).is_overheard for place in checkpoint.sources)
