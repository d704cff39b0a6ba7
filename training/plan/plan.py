"""A plan: what is to be done to which checkpoints, how long it takes on so many cards, in which order."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get_architecture
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.cost import forward_flops
from robust_zoo.training.plan.found import Found
from robust_zoo.training.plan.kinds import KINDS, Places, Work
from robust_zoo.training.plan.rates import Card, Rate, Rates, Speed, error, speed
from robust_zoo.training.recipes import recipe_for


@dataclass(frozen=True)
class Task:
    """What one card does at a time, and one task of the array: a checkpoint's training, or its transfers of a kind.

    Attributes:
        kind: A name of KINDS.
        checkpoint: The row.
        left: Parts that are to be done (datasets of transfers); none when all are.
        done: How many are done.
        work: Of those left.
        flops: Of those left.
        speed: What its time is reckoned from.
        weights: What they are done to: the checkpoint's name, or the file of its run; "" where that file is not there
            yet.
    """

    kind: str
    checkpoint: Checkpoint
    left: tuple[str, ...]
    done: int
    work: Work
    flops: float
    speed: Speed
    weights: str

    @property
    def waits(self) -> bool:
        """Whether it can only begin after its training."""
        return bool(self.left and not self.weights)

    @property
    def hours(self) -> float:
        """Of one card."""
        return self.flops / self.speed.flops_per_second / 3600

    @property
    def images_per_second(self) -> float:
        """While it is at work; 0 where nothing is left."""
        return self.work.images / self.hours / 3600 if self.left else 0.0

    @property
    def peak_gb(self) -> float | None:
        """The memory of its updates, in proportion to their images; None where none was measured."""
        if not self.speed.measured:
            return None
        recipe = recipe_for(self.checkpoint)
        return self.speed.rate.peak_gb * recipe.batch_size / recipe.accumulation / self.speed.rate.batch

    @property
    def disk_gb(self) -> float:
        """What its run leaves: two checkpoints, each with the momentum and an average if any, and the export."""
        if not KINDS[self.kind].trains:
            return 0.0
        copies = 2 * (3 if recipe_for(self.checkpoint).ema_decay else 2) + 1
        return copies * 4e-9 * self.checkpoint.network.parameters

    def command(self, places: Places) -> list[str]:
        """The arguments of `robust-zoo` that do what is left."""
        return KINDS[self.kind].command(self.weights, self.checkpoint, self.left, places)


@dataclass(frozen=True)
class WorkPlan:
    """All tasks, done or not.

    Attributes:
        card: The kind of card.
        cards: How many there are.
        tasks: By kind and checkpoint, in the order they were asked for.
        error: By what factor a reckoned speed can be wrong, as `rates.error` finds it.
    """

    card: Card
    cards: int
    tasks: tuple[Task, ...]
    error: float | None = None

    @cached_property
    def ready(self) -> list[Task]:
        """What can begin now, the longest first, as a card that becomes free takes the next."""
        return sorted((t for t in self.tasks if t.left and t.weights), key=lambda task: -task.hours)

    @property
    def hours(self) -> float:
        """Of one card, for all that is left."""
        return sum(task.hours for task in self.tasks)

    @property
    def wall_hours(self) -> float:
        """On all cards, from the first task to the end of the last; what waits for trainings comes after them."""
        waiting = [task.hours for task in self.tasks if task.waits]
        return max(pack((task.hours for task in self.ready), self.cards)) + max(pack(waiting, self.cards))

    def as_json(self) -> dict[str, Any]:
        """The plan in JSON values."""
        tasks = [
            {
                "kind": t.kind, "checkpoint": t.checkpoint.name, "architecture": t.checkpoint.architecture,
                "left": list(t.left), "done": t.done, "images": t.work.images, "passes": t.work.passes,
                "flops": t.flops, "images_per_second": round(t.images_per_second, 1), "hours": round(t.hours, 4),
                "measured": t.speed.measured, "from": t.speed.whence, "peak_gb": t.peak_gb, "disk_gb": t.disk_gb,
                "waits": t.waits,
            }
            for t in self.tasks
        ]  # fmt: skip
        totals = {"cards": self.cards, "card_hours": self.hours, "wall_hours": self.wall_hours}
        return {"card": self.card.title, **totals, "reckoned_within": self.error, "tasks": tasks}


def pack(hours: Iterable[float], cards: int) -> list[float]:
    """Longest first, each to the card that is free first: at most 4/3 of the best there is (Graham 1969).

    Args:
        hours: Of each task.
        cards: How many there are.

    Returns:
        The hours of each card.
    """
    loads = [0.0] * cards
    for one in sorted(hours, reverse=True):
        heapq.heapreplace(loads, loads[0] + one)
    return loads


def make_plan(
    checkpoints: Sequence[Checkpoint], kinds: Sequence[str], found: Found, rates: Rates, card: str, cards: int
) -> WorkPlan:
    """What is left to do of some kinds of work, and what it takes.

    Args:
        checkpoints: With recipes.
        kinds: Names of KINDS.
        found: What is done already.
        rates: What was measured.
        card: The name of a card.
        cards: How many there are.

    Returns:
        The plan.

    Raises:
        UsageError: No such card, nothing measured on it, or a checkpoint without a recipe.
    """
    kind_of_card = rates.card(card)
    forward = {rate: _forward(rate) for rate in rates.rates if rate.card == card}
    asked = ((kind, checkpoint) for kind in kinds for checkpoint in checkpoints if KINDS[kind].parts(checkpoint))
    tasks = (_task(kind, checkpoint, found, forward) for kind, checkpoint in asked)
    return WorkPlan(kind_of_card, cards, tuple(tasks), error([*forward], forward))


def _task(kind: str, checkpoint: Checkpoint, found: Found, forward: Mapping[Rate, float]) -> Task:
    row, flops = KINDS[kind], forward_flops(checkpoint)
    parts = row.parts(checkpoint)
    works = {part: row.work(checkpoint, part) for part in parts}
    left = tuple(part for part in parts if not row.done(found, checkpoint, part))
    work, whole = (sum((works[part] for part in some), Work(0, 0)) for some in (left, parts))
    at = speed(row.step(checkpoint, flops * whole.passes / whole.images), [*forward], forward)
    own = found.own and not row.trains
    export = found.exports.get(checkpoint.name)
    weights = checkpoint.name if not own else str(export.absolute()) if export else ""
    return Task(kind, checkpoint, left, len(parts) - len(left), work, flops * work.passes, at, weights)


def _forward(rate: Rate) -> float:
    """FLOPs of one image, in the registry's network of that name at that size."""
    name = get_architecture(rate.architecture).name
    like = next(c for c in load_registry().checkpoints.values() if c.architecture == name)
    seen = replace(like.preprocessing, input_size=(3, rate.px, rate.px))
    return float(forward_flops(replace(like, preprocessing=seen)))
