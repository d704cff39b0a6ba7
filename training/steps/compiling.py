"""Whether compiling a step's passes pays and changes nothing: tried on a run's first batch, before its first update.

A compiled pass does the same arithmetic in another order. What it may change by that is stated in PARITY, measured
against the eager pass on the first batch, and a way that changes more is not taken, however fast.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from robust_zoo.training.recipes import Recipe
from robust_zoo.training.steps.step import Step
from robust_zoo.training.steps.ways import EAGER, WAYS, ways_of

_TIMED = 3  # steps of each way, after one that compiles


@dataclass(frozen=True)
class Parity:
    """How far a way is from the eager one, or may be.

    Attributes:
        images: Of the perturbations: the median over images of |a - b| / |b|.
        loss: Relative.
        gradients: Of all parameters together: |a - b| / |b|.
    """

    images: float
    loss: float
    gradients: float

    def within(self, limits: Parity) -> bool:
        """Whether all three are finite and no further than the limits."""
        return all(value <= limit for value, limit in zip(vars(self).values(), vars(limits).values(), strict=True))


# Eager bf16 itself lies 0.04 (L2) to 0.3 (Linf) from fp32's perturbations, at the same loss to 3e-4 (gpu/run.sh parity
# in benchmarks/): signs of gradients near zero turn, and the attack is none the worse for it. Two perturbations that
# have nothing in common lie 1.4 apart.
PARITY = {
    torch.bfloat16: Parity(images=0.5, loss=2e-3, gradients=0.2),
    torch.float32: Parity(images=0.02, loss=1e-4, gradients=0.01),
    torch.float64: Parity(images=1e-6, loss=1e-9, gradients=1e-6),
}


@dataclass(frozen=True)
class Choice:
    """What the trial came to.

    Attributes:
        way: A name of WAYS.
        tried: For each other way what was seen of it: images per second, its parity, or why it is not taken.
    """

    way: str
    tried: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        eager = self.tried[EAGER]["images_per_second"]
        said = []
        for name, seen in self.tried.items():
            if name != EAGER:
                speed = f"{seen['images_per_second'] / eager:.2f} x" if "images_per_second" in seen else ""
                said.append(f"{WAYS[name].words}: " + ", ".join(filter(None, (speed, seen.get("refused")))))
        return f"steps run {WAYS[self.way].words or EAGER} ({'; '.join(said)}; eager is {eager:.4g} images/s)"


def choose(step: Step, images: Tensor, labels: Tensor, recipe: Recipe) -> Choice:
    """The fastest way to run a step that changes nothing beyond PARITY. Every rank must ask.

    Args:
        step: Before its first update; left as it was, but for the folded model it makes.
        images: (B, C, H, W) in [0, 1], this rank's share of the first batch.
        labels: (B,) integer classes.
        recipe: As it is at that moment.

    Returns:
        The way and the evidence, the same on all ranks; `step.use` takes the way.
    """
    limits = PARITY[torch.bfloat16 if step.bf16 else next(step.model.parameters()).dtype]
    tried: dict[str, dict[str, Any]] = {}
    eager: _Seen | None = None
    for name in ways_of(bool(recipe.threat.eps)):
        with _as_it_was(step):
            step.use(name)
            seen, why = None, ""
            try:
                seen = _seen(step, images, labels, recipe)
            except Exception as error:  # whatever a compiler may say: the eager way is there
                if name == EAGER:
                    raise
                why = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200]
        if step.world.any(seen is None):
            tried[name] = {"refused": why or "another process could not"}
            continue
        assert seen is not None
        eager = eager or seen
        parity = _parity(seen, eager)
        speed = step.world.sum(len(images) / seen.seconds)[0]
        tried[name] = {"images_per_second": round(speed, 2), "parity": asdict(parity)}
        if step.world.any(not parity.within(limits)):
            tried[name]["refused"] = f"not the same numbers: {parity}"
    sound = [name for name in tried if "refused" not in tried[name]]
    return Choice(max(sound, key=lambda name: tried[name]["images_per_second"]), tried)


@dataclass(frozen=True)
class _Seen:
    """One way's first batch."""

    delta: Tensor
    loss: float
    gradients: Tensor
    seconds: float


def _seen(step: Step, images: Tensor, labels: Tensor, recipe: Recipe) -> _Seen:
    """Attack and backward pass, without the update: the first compiles and is kept, the others are timed."""
    seconds: list[float] = []
    first: tuple[Tensor, float, Tensor] | None = None
    for _ in range(1 + _TIMED):
        started = time.perf_counter()
        torch.manual_seed(recipe.seed)  # the same random starts in each
        counts, adv_parts = step.gradients(images, labels, recipe)
        loss = float(counts.loss) / len(images)  # waits for the device
        seconds.append(time.perf_counter() - started)
        if first is None:
            found = [p.grad.flatten().double() for p in step.model.parameters() if p.grad is not None]
            first = torch.cat(adv_parts) - images, loss, torch.cat(found)
    assert first is not None
    return _Seen(*first, median(seconds[1:]))


def _parity(seen: _Seen, eager: _Seen) -> Parity:
    def apart(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).norm(dim=-1) / b.norm(dim=-1).clamp_min(1e-12)

    return Parity(
        images=apart(seen.delta.flatten(1), eager.delta.flatten(1)).median().item(),
        loss=abs(seen.loss - eager.loss) / max(abs(eager.loss), 1e-12),
        gradients=apart(seen.gradients, eager.gradients).item(),
    )


@contextmanager
def _as_it_was(step: Step) -> Iterator[None]:
    """Running statistics, gradients and random numbers come back afterwards."""
    device = step.world.device
    buffers: list[tuple[Tensor, Tensor]] = [(b, b.clone()) for b in step.model.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for now, before in buffers:
                now.copy_(before)
            step.optimizer.zero_grad(set_to_none=True)
