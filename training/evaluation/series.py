"""The same images under several conditions, one after the other: corruptions at their severities, say; one dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from robust_zoo.training.data.dataset import Batches, Measurable, evenly


def only(dataset: Callable[[], Measurable], rows: Tensor) -> Measurable:
    """Some of the images of a condition, opened when they are asked for."""
    return dataset().subset(rows)


@dataclass(frozen=True)
class Series:
    """A dataset of conditions, in alphabetical order, of as many images each; it can be sent to other processes.

    Attributes:
        table: What they add up to: a name of `choices.TABLES`.
        parts: By the condition's name: opens its images.
        count: Images of each.
        indices: Of those that this is a subset of, in order, ascending; None for all of them.
    """

    table: str
    parts: Mapping[str, Callable[[], Measurable]]
    count: int
    indices: Tensor | None = None

    @property
    def conditions(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(sorted(self.parts))

    @property
    def first(self) -> Measurable:
        """The images of the first condition."""
        return self.parts[self.conditions[0]]()

    def __len__(self) -> int:
        return len(self.parts) * self.count if self.indices is None else len(self.indices)

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64, condition after condition."""
        return torch.cat([part.labels for part in self._opened()])

    @cached_property
    def sha256(self) -> str:
        """Of the sha256 of all conditions' images and their names, in order."""
        parts = "\n".join(f"{name} {self.parts[name]().sha256}" for name in self.conditions)
        return hashlib.sha256(parts.encode()).hexdigest()

    def subset(self, indices: Tensor) -> Series:
        """The images at `indices`, ascending, of all conditions counted together."""
        taken = indices if self.indices is None else self.indices[indices]
        touched, places = (taken // self.count).unique(return_inverse=True)
        parts = {name: self.parts[name] for name in (self.conditions[number] for number in touched.tolist())}
        return replace(self, parts=parts, indices=places * self.count + taken % self.count)

    def spread(self, n: int) -> Series:
        """The same images of every condition, so many, evenly spaced."""
        rows = torch.tensor(evenly(self.count, n), dtype=torch.int64)
        return replace(
            self, parts={name: partial(only, part, rows) for name, part in self.parts.items()}, count=len(rows)
        )

    def batches(self, size: int) -> Batches:
        """All images in order, unaugmented, `size` at a time and of one condition."""
        for part in self._opened():
            yield from part.batches(size)

    def _opened(self) -> Iterator[Measurable]:
        """What is taken of each condition that anything is taken of."""
        if self.indices is None:
            yield from (self.parts[name]() for name in self.conditions)
            return
        for number, name in enumerate(self.conditions):
            first = number * self.count
            rows = self.indices[(self.indices >= first) & (self.indices < first + self.count)] - first
            if len(rows):
                yield self.parts[name]().subset(rows)
