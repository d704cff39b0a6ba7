"""Text from outside, made fit for a terminal or a table: no control, escape or bidirectional characters, one line."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""A text with every character that does not show as itself written as its escape.

    Args:
        text: From a file, a server or a folder.

    Returns:
        The text, line breaks, escape sequences, bidirectional and invisible characters as \n, \x1b, \u202e.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
