"""The modes of fine-tuning, a row each; and a fine-tuning's recipe, for the loop that every training is run by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from robust_zoo.errors import unknown
from robust_zoo.threat import ThreatModel
from robust_zoo.training.recipes import Recipe

# Ngnawe et al. 2025: the radius is 0 up to the first share of the run, the target from the second, linear between.
_WAIT, _FULL = 0.25, 0.75
_UPDATES = 1500  # that a fine-tuning makes where the folder is small or large, within _EPOCHS
_EPOCHS = (5, 50)


@dataclass(frozen=True)
class Mode:
    """A row of MODES.

    Every mode begins with a head fitted to the source's features: with one at random the first updates would change
    the features for nothing (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features").

    Attributes:
        about: In words, for help and cards.
        lrs: Learning rates that are tried where none is given; validation images choose.
        part: What is trained, as transfer.network.choose_trainable has it, with {k} to fill in.
        statistics: BatchNorm's, "train" or the "source"'s. What is not trained keeps the source's in any mode.
        lwf: Weight of the distance to the source's features (objectives.keeping_features).
        attacks: Whether it trains on adversarial images.
    """

    about: str
    lrs: tuple[float, ...]
    part: str = "all"
    statistics: str = "train"
    lwf: float = 0.0
    attacks: bool = False


MODES: dict[str, Mode] = {
    "all": Mode("every layer", (0.003, 0.03)),
    "head": Mode("the new head alone", (0.01, 0.1), part="head"),
    "last-k": Mode("the head and the last k blocks before it", (0.003, 0.03), part="last-{k}"),
    "lwf": Mode(
        "every layer, its features held near the source's: Shafahi et al. 2020", (0.003, 0.01),
        statistics="source", lwf=3.2,  # 0.005 of their released recipe, summed over 640 units
    ),
    "adversarial": Mode("PGD training, its radius 0 at first: Ngnawe et al. 2025", (0.01, 0.03), attacks=True),
}  # fmt: skip


@dataclass(frozen=True)
class Tuning(Recipe):
    """A fine-tuning, as the training loop runs it: a `Recipe`, and what the start has to do with it.

    Attributes:
        mode: A name of MODES.
        k: Blocks before the head, of the mode "last-k".
        source_sha256: Of the weights that it starts from.
        aim: What its robustness is watched and measured under; None: clean accuracy alone.
    """

    mode: str = "all"
    k: int = 1
    source_sha256: str = ""
    aim: ThreatModel | None = None

    @property
    def row(self) -> Mode:
        """The mode's."""
        return MODES[self.mode]

    @property
    def part(self) -> str:
        """What is trained, as `choose_trainable` has it."""
        return self.row.part.format(k=self.k)

    def watched(self, epoch: int) -> ThreatModel:
        """What validation accuracy is measured under; of a training without attacks that is `aim` at its end alone.

        Args:
            epoch: Which was done, from 1.

        Returns:
            The threat model; with eps 0 clean accuracy alone.
        """
        return self.aim if self.aim and (self.row.attacks or epoch == self.epochs) else self.threat

    def at(self, progress: float) -> Recipe:
        """The recipe of the next update: the radius of an adversarial fine-tuning rises from 0 to its target.

        Args:
            progress: In epochs (fractional, 0 <= progress <= epochs).

        Returns:
            The same recipe but for its radius.
        """
        share = min(max((progress / self.epochs - _WAIT) / (_FULL - _WAIT), 0.0), 1.0)
        return replace(self, threat=ThreatModel(self.threat.norm, self.threat.eps * share)) if self.threat.eps else self

    @property
    def in_words(self) -> str:
        """As a recipe's, with the mode."""
        schedule = f"eps 0 for the first {_WAIT:.0%} of the run, then linear up to {self.threat} at {_FULL:.0%}; "
        return f"{self.row.about.format(k=self.k)}; {schedule if self.threat.eps else ''}{super().in_words}"


def mode_of(name: str) -> Mode:
    """A row of MODES.

    Args:
        name: A mode's.

    Returns:
        The row.

    Raises:
        UsageError: No such mode; the known ones are named.
    """
    if name not in MODES:
        raise unknown("mode", name, MODES, next="--mode {closest}")
    return MODES[name]


def usual_epochs(images: int, batch_size: int) -> int:
    """How many epochs a fine-tuning takes where none are given: about 1,500 updates, 5 epochs at least, 50 at most.

    Args:
        images: To train on.
        batch_size: Of an update.

    Returns:
        Whole epochs.
    """
    least, most = _EPOCHS
    return min(most, max(least, ceil(_UPDATES / max(images // batch_size, 1))))
