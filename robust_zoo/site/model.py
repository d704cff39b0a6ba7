"""A checkpoint -> its page."""

from __future__ import annotations

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.site.pages import Contents, Page


def path_of(name: str) -> str:
    """Where a checkpoint's page is in the site."""
    return f"model/{name}.html"


def page(checkpoint: Checkpoint, contents: Contents) -> Page:
    """Everything known of one checkpoint.

    Args:
        checkpoint: Which.
        contents: What the site says.

    Returns:
        The page.
    """
    return Page(path_of(checkpoint.name), checkpoint.name, "model.html", {"row": checkpoint})
