"""Threat models: a norm and a radius, and the one place that knows how radii are spelled.

A radius (`eps`) is always in units of an image with pixels in [0, 1]. The only exception is
spelling: L-infinity radii are customarily *written* as a count of 1/255 (`linf_eps4` means
4/255), and this module alone turns that spelling into a value and back.
"""

from __future__ import annotations

from dataclasses import dataclass

from robust_zoo.errors import UsageError, unknown


@dataclass(frozen=True)
class Norm:
    """A way to measure a perturbation, a row of NORMS. What attacks need of it is in training/attacks/norms.py.

    Attributes:
        label: In sentences.
        adversary: What one may do, with {radius} and {eps} to fill in.
        unit: A radius is written as eps * unit.
        largest: The radius that allows any change of an image in [0, 1].
    """

    label: str
    adversary: str
    unit: int = 1
    largest: float = float("inf")

    def spell(self, eps: float, digits: int = 6) -> str:
        """A radius as the field writes it: "0.5", or "4/255"; 0 is 0 in every norm.

        Args:
            eps: Radius in [0, 1] image units.
            digits: At most so many significant digits.

        Returns:
            The number, over the norm's unit where it has one.
        """
        written = f"{round(eps * self.unit, 6):.{digits}g}"
        return f"{written}/{self.unit}" if self.unit > 1 and eps else written


NORMS: dict[str, Norm] = {
    "l2": Norm("L2", "move an image by a Euclidean distance of at most {radius} (L2, over all pixels and channels)"),
    "linf": Norm("Linf", "change each pixel value by at most {radius} = {eps:.6f} (L-infinity)", unit=255, largest=1.0),
}

# A bare number from here up, in a norm with a unit, may be meant as a count of it: the smallest published tag is
# 0.5, and a true Linf radius of 0.1 (25/255) is far beyond any published ImageNet model.
_AMBIGUOUS_FROM = 0.1


def norm_of(name: str) -> Norm:
    """A row of NORMS.

    Args:
        name: "l2" or "linf".

    Returns:
        The norm.

    Raises:
        UsageError: No such norm; the known ones are named.
    """
    if name not in NORMS:
        raise unknown("norm", name, NORMS)
    return NORMS[name]


@dataclass(frozen=True, order=True)
class ThreatModel:
    """What an adversary may do: move an image by at most `eps` in `norm`, inside [0, 1].

    Attributes:
        norm: A name of NORMS, "l2" or "linf".
        eps: Radius in [0, 1] image units, >= 0 (4/255, not 4, for Linf). 0 means standard training.

    Raises:
        UsageError: An unknown norm, or no such radius.

    Example:
        >>> str(ThreatModel("linf", 4 / 255))
        'linf eps 4/255'
    """

    norm: str
    eps: float

    def __post_init__(self) -> None:
        norm = norm_of(self.norm)
        if not 0 <= self.eps < float("inf"):
            raise UsageError("eps must be a number >= 0", expected="eps >= 0", actual=repr(self.eps))
        if self.eps > norm.largest:
            raise _ambiguous(self.norm, self.eps)

    @classmethod
    def parse(cls, norm: str, eps: float | str) -> ThreatModel:
        """A norm and a radius as a user gives them.

        Args:
            norm: A name of NORMS.
            eps: A number or a string; see parse_eps.

        Returns:
            The threat model.

        Raises:
            UsageError: An unknown norm, or no radius that can be read in one way.
        """
        norm_of(norm)
        return cls(norm, parse_eps(eps, norm))

    @property
    def tag(self) -> str:
        """The part of a checkpoint's name: `l2_eps0_5`, `linf_eps4`."""
        return f"{self.norm}_eps{written_eps(self.norm, self.eps).replace('.', '_')}"

    @property
    def radius(self) -> str:
        """As the field writes it: "0.5", "4/255"."""
        return NORMS[self.norm].spell(self.eps)

    @property
    def toml(self) -> float | str:
        """As checkpoints.toml holds a radius: a number, or a string where it is a fraction."""
        return self.radius if "/" in self.radius else float(self.radius)

    @property
    def adversary(self) -> str:
        """What an adversary may do, in words."""
        return NORMS[self.norm].adversary.format(radius=self.radius, eps=self.eps)

    def __str__(self) -> str:
        return f"{self.norm} eps {self.radius}"


def written_eps(norm: str, eps: float) -> str:
    """The number of a radius' customary spelling: ("l2", 0.5) -> "0.5", ("linf", 4/255) -> "4"."""
    return NORMS[norm].spell(eps).partition("/")[0]


def eps_from_tag(norm: str, tag: str) -> float:
    """The radius a name's tag means: ("linf", "4.0") -> 4/255, ("l2", "0_5") -> 0.5.

    Args:
        norm: A name of NORMS.
        tag: What stands after "eps" in a name; a decimal point may be written as "_".

    Returns:
        The radius in [0, 1] image units.

    Raises:
        ValueError: `tag` is not a number.
    """
    return float(tag.replace("_", ".")) / NORMS[norm].unit


def parse_eps(value: float | str, norm: str | None) -> float:
    """A radius as a user gives it -> [0, 1] image units.

    Args:
        value: A number, or a string holding a number ("0.5") or a fraction ("4/255").
        norm: A name of NORMS, or None when the norm is not known (then numbers are taken as they are).

    Returns:
        The radius, >= 0.

    Raises:
        UsageError: Anything that is not a number >= 0, and a bare Linf number that could be a radius or a count of
            1/255.
    """
    try:
        numerator, _, denominator = str(value).partition("/")
        eps = float(numerator) / float(denominator or 1)
        if not 0 <= eps < float("inf"):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"eps {value!r} is not a radius",
            expected="a number >= 0 or a fraction such as 4/255",
            actual=repr(value),
            next="eps=0.5, or --eps 0.5 on the command line",
        ) from None
    if norm and norm_of(norm).unit > 1 and eps >= _AMBIGUOUS_FROM and not is_fraction(value):
        raise _ambiguous(norm, eps)
    return eps


def is_fraction(value: float | str) -> bool:
    """Whether a radius was given as a fraction, which can be read in one way only."""
    return "/" in str(value)


def _ambiguous(name: str, eps: float) -> UsageError:
    norm = NORMS[name]
    count = f"{eps:g}/{norm.unit}"
    return UsageError(
        f"{norm.label} eps {eps:g} can be read two ways",
        expected=f'"{count}" (= {eps / norm.unit:.6g} of the [0, 1] range), or "{eps:g}/1" if that much of it is meant',
        actual=f"{eps:g}",
        next=f"write the fraction out: eps={count}, or --eps {count} on the command line",
    )
