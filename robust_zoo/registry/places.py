"""Where a file may be had: the entries of `sources`, as a row writes them. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HUB = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})/(?P<path>[^\s@?#]+)")
_DRIVE = re.compile(r"gdrive:(?P<id>[\w-]{10,100})")
_WEB = re.compile(r"(?P<scheme>https?)://[^\s#/?@\\]+(/[^\s#\\]*)?")  # no name and password: rows are read by everyone
WRITTEN = "hf:REPO@COMMIT/PATH, gdrive:ID, https://..., or http://... with a sha256 in the row"


@dataclass(frozen=True)
class Place:
    """One place of a file.

    Attributes:
        at: As the row writes it.
        kind: "hub", "gdrive", "https" or "http".
        url: What is asked; "" for the hub and Drive, whose address depends on a variable (weights/whereabouts.py).
        repo: On the Hugging Face hub, "" elsewhere.
        revision: The pinned commit of `repo`.
        path: In `repo`; on Drive the file's id.
        sha256: Of the file there, where it is another than the row's; None where it is the same file.
    """

    at: str
    kind: str
    url: str = ""
    repo: str = ""
    revision: str = ""
    path: str = ""
    sha256: str | None = None


def place(at: str, sha256: str | None = None) -> Place:
    """An entry of `sources` -> the place that it means.

    Args:
        at: The entry: WRITTEN has its forms.
        sha256: Of the file there, where it is another than the row's.

    Returns:
        The place.

    Raises:
        ValueError: It is none of the forms.
    """
    if found := _HUB.fullmatch(at):
        return Place(at, "hub", "", found["repo"], found["revision"], found["path"], sha256)
    if found := _DRIVE.fullmatch(at):
        return Place(at, "gdrive", path=found["id"], sha256=sha256)
    if found := _WEB.fullmatch(at):
        return Place(at, found["scheme"], at, sha256=sha256)
    raise ValueError(f"the source {at!r} is none of {WRITTEN}")
