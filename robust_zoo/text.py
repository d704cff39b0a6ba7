"""Text from outside (files, servers, folders, arguments), made fit for a terminal and for a Markdown table."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 4000  # characters of one text; the largest of our own, a list of sources, has about 1,500
_SHOWN = 5  # names of a list
_MARKDOWN = re.compile(r"([\\`*|<>\[\]])")


def printable(text: object, *, keep: str = "", limit: int | None = LONGEST) -> str:
    r"""Shows what a terminal would act on, or a reader not see: control, escape and bidirectional characters.

    Args:
        text: Any text.
        keep: Characters that stay as they are, "\n" for instance.
        limit: The most characters that are shown; the middle of a longer text is left out. None: all.

    Returns:
        The text, with an escape such as \x1b, \u202e or \udcff for each character that is not printable.

    Example:
        >>> printable("cat\x1b[2J\u202egpj")
        'cat\\x1b[2J\\u202egpj'
    """
    shown = str(text)
    if limit is not None and len(shown) > limit:
        half = limit // 2
        shown = f"{shown[:half]} [... {len(shown):,} characters ...] {shown[-half:]}"
    rest = shown
    for character in keep:
        rest = rest.replace(character, "")
    if rest.isprintable():
        return shown
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in shown)


def several(count: int, one: str, ending: str = "s") -> str:
    """A number with its word: "1 class", "3 images"."""
    return f"{count:,} {one}{'' if count == 1 else ending}"


def listed(names: Iterable[str]) -> str:
    """A few names, sorted, as text."""
    found = sorted(printable(name, limit=80) for name in names)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def markdown(text: object) -> str:
    r"""A text as a cell of a Markdown table, or within a line: it can neither end the cell nor become a tag or a link.

    Args:
        text: Any text.

    Returns:
        The printable text, with a backslash before each of ``\ ` * | < > [ ]``.

    Example:
        >>> markdown("a|b <img>")
        'a\\|b \\<img\\>'
    """
    return _MARKDOWN.sub(r"\\\1", printable(text))
