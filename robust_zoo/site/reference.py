"""Both references as one section."""

from __future__ import annotations

from dataclasses import replace

from robust_zoo.site import api, commands
from robust_zoo.site.pages import Contents, Page


def build(contents: Contents) -> list[Page]:
    """The pages of the Python interface and of the command line, each of which leads to the other.

    Args:
        contents: Its commands are those of the command line; without them the first page is alone.

    Returns:
        One or two pages.
    """
    pages = [*api.build(contents), *commands.build(contents)]
    tabs = [(page.path, page.title) for page in pages]
    return [replace(page, values={**page.values, "tabs": tabs}) for page in pages]
