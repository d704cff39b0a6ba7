"""What a comparison of checkpoints will take, known before anything is fetched; and which of them can be had at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from robust_zoo.describe import megabytes
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import several
from robust_zoo.training.cost import forward_flops, forward_seconds
from robust_zoo.weights.ensure import is_present


@dataclass(frozen=True)
class Ahead:
    """What lies ahead.

    Attributes:
        checkpoints: All that are compared.
        missing: Those whose weights are not on this machine.
        images: How many images each is asked about.
        seconds: For the features of all of them, about.
    """

    checkpoints: tuple[Checkpoint, ...]
    missing: tuple[Checkpoint, ...]
    images: int
    seconds: float

    @property
    def bytes(self) -> int:
        """To download, at most."""
        return sum(c.published.size if c.published else c.approximate_size for c in self.missing)

    def __str__(self) -> str:
        here = len(self.checkpoints) - len(self.missing)
        fetched = f", {len(self.missing)} to download ({megabytes(self.bytes)})" if self.missing else ""
        return (
            f"{several(len(self.checkpoints), 'checkpoint')}: {here} here{fetched}; features of "
            f"{several(self.images, 'image')} take about {duration(self.seconds)}"
        )


def duration(seconds: float) -> str:
    """A time as people say it: "20 s", "4 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def look_ahead(checkpoints: Sequence[Checkpoint], images: int, device: torch.device) -> Ahead:
    """What comparing checkpoints will take: one network is timed, with random weights; the others go by arithmetic.

    Args:
        checkpoints: Which; one or more.
        images: How many images each is asked about.
        device: Where the features are computed.

    Returns:
        What lies ahead, features that an earlier comparison left included.
    """
    flops = {c.architecture: forward_flops(c) for c in {c.architecture: c for c in checkpoints}.values()}
    timed = min(checkpoints, key=lambda c: flops[c.architecture])
    rate = forward_seconds(timed, device) / flops[timed.architecture]
    seconds = images * rate * sum(flops[c.architecture] for c in checkpoints)
    return Ahead(tuple(checkpoints), tuple(c for c in checkpoints if not is_present(c)), images, seconds)


def provable(checkpoints: Sequence[Checkpoint]) -> tuple[list[Checkpoint], list[Checkpoint]]:
    """Those that can be used without asking, and the others: without a public hash, and not on this machine yet.

    Args:
        checkpoints: Which.

    Returns:
        Both, in their order.
    """
    usable = [c for c in checkpoints if c.can_be_proven or is_present(c)]
    return usable, [c for c in checkpoints if c not in usable]
