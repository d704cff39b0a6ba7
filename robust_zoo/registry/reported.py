"""What others reported of a checkpoint: a figure and all that it is of. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from robust_zoo.threat import NORMS

_TITLES = {"none": "clean", "autoattack": "AutoAttack", "square": "Square"}
# L1 as a reported figure only: no attack here has it.
NORM_TITLES = {"l1": "L1"} | {name: norm.label for name, norm in NORMS.items()}


def attack_title(attack: str) -> str:
    """An attack as the field writes it.

    Args:
        attack: Its name, as `robust-zoo evaluate --attack` takes it; words of others stay as they are.

    Returns:
        "AutoAttack", "PGD-20", "PGD-20x5", "APGD-CE"; "clean" for "none".
    """
    if attack in _TITLES or not re.fullmatch(r"[a-z0-9-]+", attack):
        return _TITLES.get(attack, attack)
    return re.sub(r"(?<!\d)[a-z]+", lambda letters: letters[0].upper(), attack)


def radius_of(norm: str, eps: float) -> str:
    """A reported attack's radius as it is written.

    Args:
        norm: Of NORM_TITLES.
        eps: In [0, 1] image units.

    Returns:
        "4/255", "3".
    """
    return NORMS[norm].spell(eps) if norm in NORMS else f"{eps:g}"


def threat_title(norm: str, eps: float) -> str:
    """A threat model as the field writes it: "Linf 4/255", "L2 3"; "standard" for no threat."""
    return f"{NORM_TITLES[norm]} {radius_of(norm, eps)}" if eps else "standard"


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
        return title_of(self.attack, self.norm, self.eps)


def title_of(attack: str, norm: str, eps: float | None) -> str:
    """What a figure is of, in words: "clean accuracy", "AutoAttack accuracy, Linf 4/255".

    Args:
        attack: Its name here; "none" for clean accuracy.
        norm: Of NORM_TITLES, "" for clean accuracy.
        eps: The attack's radius in [0, 1] image units, None for clean accuracy.

    Returns:
        The words.
    """
    words = f"{attack_title(attack)} accuracy"
    return f"{words}, {NORM_TITLES[norm]} {radius_of(norm, eps)}" if eps else words
