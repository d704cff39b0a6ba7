"""What is known of accuracies, measured here or reported, in one shape, and the best of it. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from robust_zoo.counts import Count
from robust_zoo.errors import UsageError, unknown
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.reported import NORM_TITLES, Reported, attack_title, radius_of, title_of
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS, ThreatModel, parse_eps

HERE = "robust_zoo"  # who measured, where this project did
STRONGEST = "autoattack"
Under = tuple[str, float]
"""A norm, of `NORM_TITLES`, and a radius in [0, 1] image units."""
SAME = 1e-9  # 4/255 typed as 0.01568627451 is still 4/255


@dataclass(frozen=True)
class Figure:
    """An accuracy and what it is of, whoever has it.

    Attributes:
        value: In percent.
        attack: "none" for clean accuracy, "autoattack", "pgd-20", or as its reporter names it.
        norm: Of the attack, "" for clean accuracy.
        eps: The attack's radius in [0, 1] image units, None for clean accuracy.
        n: Of how many images, None when it is not said.
        by: Who says so: HERE, or who reported it and where.
        images: Which images, in words; "" when it is not said.
        interval: 95 % Wilson interval in percent, where it was measured here.
        size: The side of the images where it is another than the row's, in pixels.
    """

    value: float
    attack: str
    norm: str
    eps: float | None
    n: int | None
    by: str
    images: str = ""
    interval: tuple[float, float] | None = None
    size: int | None = None

    @property
    def measured(self) -> bool:
        """Whether this project measured it."""
        return self.by == HERE

    @property
    def bound(self) -> bool:
        """Whether its attack is another than AutoAttack: robust accuracy may well be lower."""
        return self.attack not in ("none", STRONGEST)

    @property
    def attack_title(self) -> str:
        """As the field writes it: "AutoAttack", "PGD-20"."""
        return attack_title(self.attack)

    @property
    def title(self) -> str:
        """What it is of, in words: "clean accuracy", "AutoAttack accuracy, Linf 4/255"."""
        return title_of(self.attack, self.norm, self.eps)

    @property
    def under(self) -> str:
        """The attack's threat model: "linf 4/255"; "" for clean accuracy."""
        return spelled(self.norm, self.eps) if self.eps is not None else ""

    @property
    def overall(self) -> tuple[float, float] | None:
        """What interval its number of images allows, in percent; None when the number is not known."""
        if self.interval or not self.n:
            return self.interval
        return Count(round(self.value * self.n / 100), self.n).interval

    def at(self, under: Under) -> bool:
        """Whether it is a robust accuracy at a threat model."""
        return self.norm == under[0] and self.eps is not None and abs(self.eps - under[1]) < SAME


def figures(checkpoint: Checkpoint) -> tuple[Figure, ...]:
    """All that is known of a checkpoint on images of the dataset that it was trained on.

    Args:
        checkpoint: Whose.

    Returns:
        What was measured here, then what was reported, each in the row's order.
    """
    own = f"{checkpoint.dataset} "  # not "imagenetv2", not "cifar10.1 v6"
    here = [_measured(m) for m in checkpoint.measured if m.data.startswith(own)]
    return (*here, *map(_reported, checkpoint.reported))


def _measured(m: Measurement) -> Figure:
    return Figure(round(m.accuracy, 2), m.attack, m.norm or "", m.eps, m.n, HERE, m.data, m.count.interval)


def _reported(r: Reported) -> Figure:
    return Figure(r.value, r.attack, r.norm, r.eps, r.n, r.by, size=r.size)


def best_robust(checkpoint: Checkpoint, under: Under | None = None) -> Figure | None:
    """The best known robust accuracy: the one with the strongest evidence, which is seldom the largest number.

    AutoAttack comes before every other attack; of its figures those measured here come first, then those on most
    images. Of other attacks the lowest figure, for each is an upper bound. A figure at another image size than the
    row's comes after those at the row's own.

    Args:
        checkpoint: Whose.
        under: The threat model that is asked about; the one it was trained for when None.

    Returns:
        The figure; None when none is known, or the checkpoint was trained for no threat and none is asked about.
    """
    if under is None:
        if not checkpoint.eps:
            return None
        under = (checkpoint.norm, checkpoint.eps)
    return min((figure for figure in figures(checkpoint) if figure.at(under)), key=_weakness, default=None)


def _weakness(figure: Figure) -> tuple[float, ...]:
    resized, images = figure.size is not None, -(figure.n or 0)
    if figure.bound:
        return (1, resized, figure.value, images)
    return (0, resized, not figure.measured, images, figure.value)


def by_robustness(checkpoint: Checkpoint, under: Under | None = None) -> tuple[object, ...]:
    """A sort key: AutoAttack's figures from the highest, then those of weaker attacks, then what has none.

    What is not comparable is not mixed: checkpoints of one dataset at one threat model come together.

    Args:
        checkpoint: Which.
        under: As in best_robust.

    Returns:
        The key.
    """
    figure = best_robust(checkpoint, under)
    if figure is None:
        return (1,)
    order = [*load_registry().datasets].index(checkpoint.dataset)
    return (0, order, figure.bound, figure.norm, figure.eps, -figure.value)


def parse_under(norm: str, eps: float | str) -> Under:
    """A threat model that figures are asked about.

    Args:
        norm: "linf" or "l2"; "l1" too, which others attack in.
        eps: The radius; Linf radii are written as fractions ("4/255").

    Returns:
        Norm and radius.

    Raises:
        UsageError: An unknown norm, or no radius above 0 that can be read in one way.
    """
    if norm not in NORM_TITLES:
        raise unknown("norm", norm, NORM_TITLES, next="robust-zoo list --under linf:4/255")
    radius = ThreatModel.parse(norm, eps).eps if norm in NORMS else parse_eps(eps, None)
    if not radius:
        raise UsageError(
            "robust accuracy is under an attack that may change something",
            expected="a radius above 0, such as linf:4/255",
            actual=f"{norm}:{eps}",
            next="robust-zoo list --sort clean   shows accuracies without an attack",
        )
    return norm, radius


def spelled(norm: str, eps: float) -> str:
    """A threat model in a table: ("linf", 4/255) -> "linf 4/255"."""
    return f"{norm} {radius_of(norm, eps)}"
