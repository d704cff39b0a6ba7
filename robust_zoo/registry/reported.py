"""What others reported of a checkpoint: a figure and all that it is of. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from robust_zoo.threat import NORMS

TITLES = {"none": "clean", "autoattack": "AutoAttack", "pgd-100": "PGD-100"}
# L1 as a reported figure only: no attack here has it.
NORM_TITLES = {"l1": "L1"} | {name: norm.label for name, norm in NORMS.items()}


def radius_of(norm: str, eps: float) -> str:
    """A reported attack's radius as it is written.

    Args:
        norm: Of NORM_TITLES.
        eps: In [0, 1] image units.

    Returns:
        "4/255", "3".
    """
    return NORMS[norm].spell(eps) if norm in NORMS else f"{eps:g}"


@dataclass(frozen=True)
class Reported:
    """An accuracy that was not measured by this project.

    Attributes:
        value: In percent.
        by: Who reported it and where.
        n: Of how many images, None when it is not said.
        attack: "none" for clean accuracy, "autoattack", "pgd-100", or as its reporter names it.
        norm: Of the attack: "linf", "l2", "l1"; "" for clean accuracy.
        eps: The attack's radius in [0, 1] image units, None for clean accuracy.
        size: The side of the images where it is another than the row's, in pixels.
    """

    value: float
    by: str
    n: int | None
    attack: str = "none"
    norm: str = ""
    eps: float | None = None
    size: int | None = None

    @property
    def title(self) -> str:
        """What it is of, in words: "clean accuracy", "AutoAttack accuracy, Linf 4/255"."""
        words = f"{TITLES.get(self.attack, self.attack)} accuracy"
        return f"{words}, {NORM_TITLES[self.norm]} {radius_of(self.norm, self.eps)}" if self.eps else words
