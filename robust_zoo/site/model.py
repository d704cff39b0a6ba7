"""A checkpoint -> its page."""

from __future__ import annotations

from collections.abc import Sequence

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.site.ladders import Ladder
from robust_zoo.site.pages import Contents, Page


def path_of(name: str) -> str:
    """Where a checkpoint's page is in the site."""
    return f"model/{name}.html"


def page(checkpoint: Checkpoint, contents: Contents, ladders: Sequence[Ladder]) -> Page:
    """Everything known of one checkpoint.

    Args:
        checkpoint: Which.
        contents: What the site says.
        ladders: Those that it is on.

    Returns:
        The page.
    """
    return Page(path_of(checkpoint.name), checkpoint.name, "model.html", {"row": checkpoint})
