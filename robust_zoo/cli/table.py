"""Tables on a terminal: columns, and letters for sources whose names are longer than a column."""

from __future__ import annotations

from collections.abc import Sequence

import click

from robust_zoo.text import printable


class Marks:
    """A letter for each of the texts that a table refers to, in the order in which they come up."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def of(self, text: str) -> str:
        """The letter of a text: "a" to "z", then "aa"."""
        count = len(self._letters)
        return self._letters.setdefault(text, "a" * (count // 26) + chr(ord("a") + count % 26))

    @property
    def legend(self) -> list[str]:
        """A line for each letter."""
        return [f"{letter}  {printable(text)}" for text, letter in self._letters.items()]


def echo_table(rows: Sequence[Sequence[str]], align: str) -> None:
    """Prints rows, the header first, as wide as they need.

    Args:
        rows: Of as many cells as `align` has characters.
        align: "<" or ">" for each column.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, align, widths, strict=True)).rstrip() for row in rows)
    click.echo("\n".join(lines))
