"""Figures in a table with room for numbers alone: a letter in brackets says below who has them, on what."""

from __future__ import annotations

from string import ascii_lowercase

from robust_zoo.describe import images_of
from robust_zoo.registry.robustness import Figure
from robust_zoo.text import markdown


class Letters:
    """The letters of one table: the same words have the same letter."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def of(self, about: str) -> str:
        """The letter of some words, as "(a)".

        Args:
            about: In Markdown.

        Returns:
            The letter; the next one where the words are new.
        """
        return f"({self._of.setdefault(about, ascii_lowercase[len(self._of)])})"

    def cell(self, figure: Figure | None) -> str:
        """A figure as a cell of Markdown.

        Args:
            figure: Measured or reported; None leaves the cell empty.

        Returns:
            "34.96 (b)", in percent, with *measured* before it where this project measured it.
        """
        if figure is None:
            return ""
        who = f"*measured here*: {markdown(figure.images)}" if figure.measured else f"reported by {markdown(figure.by)}"
        about = self.of(f"{who}, {images_of(figure)}")
        return f"{'*measured* ' * figure.measured}{figure.value:.2f} {about}"

    @staticmethod
    def attack(figure: Figure | None, at: str = "") -> str:
        """The attack of a robust accuracy as a cell of Markdown.

        Args:
            figure: None leaves the cell empty.
            at: The threat model, where nothing beside the cell says it.

        Returns:
            "AutoAttack", "PGD-100 at L2 3, an upper bound".
        """
        if figure is None:
            return ""
        return f"{markdown(figure.attack_title)}{f' at {at}' if at else ''}{', an upper bound' * figure.bound}"

    @property
    def legend(self) -> str:
        """What all letters mean, a line each."""
        return "<br>\n".join(f"({letter}) {about}" for about, letter in self._of.items())
