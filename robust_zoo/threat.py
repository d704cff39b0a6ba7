"""Threat models: a norm and a radius, and the one place that knows how radii are spelled.

A radius (`eps`) is always in units of an image with pixels in [0, 1]. The only exception is
spelling: L-infinity radii are customarily *written* as a count of 1/255 (`linf_eps4` means
4/255), and this module alone turns that spelling into a value and back.
"""

from __future__ import annotations

from dataclasses import dataclass

from robust_zoo.errors import UsageError

NORMS = ("l2", "linf")

# Written radius = eps * unit. The L2 radii of Salman et al. 2020 are plain numbers.
_UNIT = {"l2": 1, "linf": 255}

# A bare Linf number from here up may be meant as a count of 1/255: the smallest published tag is
# 0.5, and a true Linf radius of 0.1 (25/255) is far beyond any published ImageNet model.
_LINF_AMBIGUOUS_FROM = 0.1


@dataclass(frozen=True, order=True)
class ThreatModel:
    """What an adversary may do: move an image by at most `eps` in `norm`, inside [0, 1].

    norm: "l2" or "linf".
    eps: radius in [0, 1] image units, >= 0 (4/255, not 4, for Linf). 0 means standard training.
    """

    norm: str
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UsageError(f"unknown norm {self.norm!r}", expected=" or ".join(NORMS), actual=repr(self.norm))
        if not 0 <= self.eps < float("inf"):
            raise UsageError("eps must be a number >= 0", expected="eps >= 0", actual=repr(self.eps))
        if self.norm == "linf" and self.eps > 1:
            raise _ambiguous(self.eps)

    @property
    def tag(self) -> str:
        """The part of a checkpoint's name: `l2_eps0_5`, `linf_eps4`."""
        return f"{self.norm}_eps{written_eps(self.norm, self.eps).replace('.', '_')}"

    def __str__(self) -> str:
        written = written_eps(self.norm, self.eps)
        return f"{self.norm} eps {written}/255" if self.norm == "linf" and self.eps else f"{self.norm} eps {written}"


def written_eps(norm: str, eps: float) -> str:
    """The customary spelling of a radius: ("l2", 0.5) -> "0.5", ("linf", 4/255) -> "4"."""
    return f"{round(eps * _UNIT[norm], 6):g}"


def eps_from_tag(norm: str, tag: str) -> float:
    """The radius a name's tag means: ("linf", "4.0") -> 4/255, ("l2", "0_5") -> 0.5.

    Raises ValueError when `tag` is not a number.
    """
    return float(tag.replace("_", ".")) / _UNIT[norm]


def parse_eps(value: float | str, norm: str | None) -> float:
    """A radius as a user gives it -> [0, 1] image units.

    value: a number, or a string holding a number ("0.5") or a fraction ("4/255").
    norm: "l2", "linf", or None when the norm is not known (then numbers are taken as they are).

    Raises UsageError for anything that is not a number >= 0, and for a bare Linf number that
    could be a radius or a count of 1/255.
    """
    try:
        numerator, _, denominator = str(value).partition("/")
        eps = float(numerator) / float(denominator or 1)
        if not 0 <= eps < float("inf"):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"eps {value!r} is not a radius", expected="a number >= 0 or a fraction such as 4/255", actual=repr(value)
        ) from None
    if norm == "linf" and eps >= _LINF_AMBIGUOUS_FROM and not is_fraction(value):
        raise _ambiguous(eps)
    return eps


def is_fraction(value: float | str) -> bool:
    """Whether a radius was given as a fraction, which can be read in one way only."""
    return "/" in str(value)


def _ambiguous(eps: float) -> UsageError:
    return UsageError(
        f"Linf eps {eps:g} can be read two ways",
        expected=f'"{eps:g}/255" (= {eps / 255:.6g} of the [0, 1] range), or "{eps:g}/1" if that much of it is meant',
        actual=f"{eps:g}",
        next=f"write the fraction out: eps={eps:g}/255, or --eps {eps:g}/255 on the command line",
    )
