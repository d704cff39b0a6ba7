"""Speeds that were measured on cards (rates.toml), and what others are reckoned to be from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from robust_zoo.errors import UsageError, cannot_read, unknown
from robust_zoo.readers import read_toml
from robust_zoo.training.choices import FP32, TF32
from robust_zoo.training.objectives import OBJECTIVES, PLAIN

_TOML = Path(__file__).with_name("rates.toml")
PRECISIONS = ("bf16", TF32, FP32)


@dataclass(frozen=True)
class Card:
    """A kind of accelerator.

    Attributes:
        name: As the command line has it.
        title: As its maker writes it.
        memory_gb: Of one card, 10^9 bytes, its maker's figure.
    """

    name: str
    title: str
    memory_gb: float


@dataclass(frozen=True)
class Rate:
    """A speed that was measured: of a training step on images that lie on the card.

    Attributes:
        card: A name of the cards.
        torch: The version of torch.
        date: When.
        source: The file with the raw figures.
        architecture: A name of the registry's architectures.
        px: Side of the images.
        batch: Images per update.
        attack_steps: Gradient steps of the attack on each batch, 0 for standard training.
        precision: One of PRECISIONS.
        images_per_second: Training images, the attack included.
        peak_gb: The most memory, 10^9 bytes.
        how: What the setting is called in `source`.
        command: That measured it.

    Raises:
        ValueError: A value makes no sense.
    """

    card: str
    torch: str
    date: date
    source: str
    architecture: str
    px: int
    batch: int
    attack_steps: int
    precision: str
    images_per_second: float
    peak_gb: float
    how: str
    command: str

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS or not isinstance(self.date, date):
            raise ValueError(f"precision {self.precision!r}, date {self.date!r}")
        numbers = {name: getattr(self, name) for name in ("px", "batch", "images_per_second", "peak_gb")}
        numbers["attack_steps + 1"] = self.attack_steps + 1
        if wrong := [f"{name} {value}" for name, value in numbers.items() if not value > 0]:
            raise ValueError(f"{', '.join(wrong)}: not above 0")

    @property
    def passes(self) -> int:
        """Forward-sized pieces of work per image, as `Recipe.passes` counts them."""
        return OBJECTIVES[PLAIN].passes + 2 * self.attack_steps

    @property
    def label(self) -> str:
        """In a few words: "resnet50, 224 px, PGD-3, batch 256"."""
        attack = f"PGD-{self.attack_steps}" if self.attack_steps else "no attack"
        return f"{self.architecture}, {self.px} px, {attack}, batch {self.batch}, {self.how}"


@dataclass(frozen=True)
class Rates:
    """What is known of cards.

    Attributes:
        cards: By name.
        rates: All that was measured, on any of them.
    """

    cards: Mapping[str, Card]
    rates: Sequence[Rate]

    def card(self, name: str) -> Card:
        """Looks a card up. UsageError: nothing was measured on one of that name; the closest is in the error."""
        if name not in self.cards:
            raise unknown("card", name, self.cards, next="--card {closest}, or --rates FILE with figures of your own")
        return self.cards[name]


@dataclass(frozen=True)
class Step:
    """What a speed is asked for.

    Attributes:
        architecture: A name of the registry's architectures.
        px: Side of the images.
        batch: Images at a time.
        attack_steps: Of the attack; None where it is no training step.
        precision: One of PRECISIONS.
        flops: Of one image.
    """

    architecture: str
    px: int
    batch: int
    attack_steps: int | None
    precision: str
    flops: float


@dataclass(frozen=True)
class Speed:
    """A speed, and what it is from.

    Attributes:
        rate: The row.
        measured: Whether the row is of this very architecture, size and attack; else it is reckoned by FLOPs.
        flops_per_second: That the row reached.
    """

    rate: Rate
    measured: bool
    flops_per_second: float

    @property
    def whence(self) -> str:
        """What is said of it beside a figure."""
        r = self.rate
        if self.measured:
            return f"measured: {r.label}, {r.date}, torch {r.torch}"
        return f"reckoned by FLOPs from {r.label}"


def speed(step: Step, rates: Sequence[Rate], forward: Mapping[Rate, float]) -> Speed:
    """The speed of the row whose work per image is closest, and of those the one whose batch is; of rows in the same
    precision, where there are any.

    Args:
        step: What it is asked for.
        rates: Of one card.
        forward: FLOPs of one image's forward pass, for each of them.

    Returns:
        The speed.

    Raises:
        UsageError: There are none.
    """
    if not rates:
        raise UsageError(
            "nothing was measured on this card", expected="[[measured]] with rates of it", next="robust-zoo plan --help"
        )

    def same(rate: Rate) -> bool:
        return (rate.architecture, rate.px, rate.attack_steps) == (step.architecture, step.px, step.attack_steps)

    def apart(rate: Rate) -> tuple[bool, float, float]:
        work = abs(math.log(step.flops / (rate.passes * forward[rate])))
        return not same(rate), round(work, 6), abs(math.log(step.batch / rate.batch))

    best = min((rate for rate in rates if rate.precision == step.precision), default=None, key=apart)
    best = best or min(rates, key=apart)
    return Speed(best, same(best), best.images_per_second * best.passes * forward[best])


def error(rates: Sequence[Rate], forward: Mapping[Rate, float]) -> float | None:
    """By what factor a reckoned speed can be wrong: the most that measured ones are, reckoned from other architectures.

    Args:
        rates: Of one card.
        forward: FLOPs of one image's forward pass, for each of them.

    Returns:
        The factor, >= 1; None where only one architecture was measured.
    """
    found = []
    for rate in rates:
        flops = rate.passes * forward[rate]
        step = Step(rate.architecture, rate.px, rate.batch, rate.attack_steps, rate.precision, flops)
        if others := [r for r in rates if r.architecture != rate.architecture and r.precision == rate.precision]:
            reckoned = speed(step, others, forward).flops_per_second / flops
            found.append(max(reckoned / rate.images_per_second, rate.images_per_second / reckoned))
    return max(found, default=None)


def load_rates(more: Path | None = None) -> Rates:
    """What was measured.

    Args:
        more: A file like rates.toml, with cards and figures of one's own; they stand beside the package's.

    Returns:
        Cards and rates.

    Raises:
        UsageError: A file cannot be read, or is not like rates.toml.
    """
    cards: dict[str, Card] = {}
    rates: list[Rate] = []
    for file in filter(None, (_TOML, more)):
        try:
            data = read_toml(file)
            cards |= {name: Card(name, **row) for name, row in data.get("card", {}).items()}
            found = [_rate(run, row) for run in data["measured"] for row in run["rates"]]
            if strange := {rate.card for rate in found} - {*cards}:
                raise ValueError(f"no [card.{min(strange)}]")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            expected = "[card.NAME] and [[measured]] with rates, as training/plan/rates.toml has them"
            raise cannot_read(f"rates from {file}", file, expected, error, "robust-zoo plan --help") from None
        rates += found
    return Rates(cards, rates)


def _rate(run: Mapping[str, Any], row: Mapping[str, Any]) -> Rate:
    return Rate(**{name: value for name, value in run.items() if name != "rates"}, **row)
