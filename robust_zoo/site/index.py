"""The first page: all checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

from robust_zoo.site import model
from robust_zoo.site.pages import Contents, Page


def build(contents: Contents) -> Iterator[Page]:
    """The table of checkpoints, and a page for each.

    Args:
        contents: What the site says.

    Yields:
        The pages.
    """
    yield Page("index.html", "Checkpoints", "index.html", {"checkpoints": contents.checkpoints})
    for checkpoint in contents.checkpoints:
        yield model.page(checkpoint, contents)
