"""How far an evaluation is: its stage and batch, what is robust so far, the work that is done and left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:  # which loads torch
    from robust_zoo.training.attacks.suites import Stage

CLEAN = "clean"


@dataclass(frozen=True)
class Progress:
    """Where an evaluation is.

    Attributes:
        stage: What is at work: CLEAN, or an attack.
        batch: Its batch, from 1.
        batches: As many as it has.
        images: How many were classified without an attack.
        robust: How many of them nothing has broken so far.
        done: Work, in passes of one image through the network, forward and back.
        left: The same, if no further image is broken.
    """

    stage: str
    batch: int
    batches: int
    images: int
    robust: int
    done: float
    left: float

    def among(self, earlier: Progress | None, of: int, later: int) -> Progress:
        """Of a whole that this is a part of.

        Args:
            earlier: Where the parts before ended; None for the first.
            of: Images of this part.
            later: Images of the parts that come, each as much work as one of these.

        Returns:
            The same stage and batch, with the images and the work of the whole.
        """
        images, robust, done = (earlier.images, earlier.robust, earlier.done) if earlier else (0, 0, 0.0)
        ahead = later * (self.done + self.left) / of
        return replace(
            self, images=images + self.images, robust=robust + self.robust, done=done + self.done,
            left=self.left + ahead,
        )  # fmt: skip

    def __str__(self) -> str:
        batch = f" {self.batch} of {self.batches}" if self.batches > 1 else ""
        said = "right" if self.stage == CLEAN else "robust"
        return f"{self.stage}{batch}, {100 * self.robust / max(self.images, 1):.1f} % {said} so far"


Report = Callable[[Progress], None]


class Meter:
    """Adds up what is done of a stage's batches, in whatever order and wherever they are done."""

    def __init__(self, stage: Stage, start: Progress, sizes: Sequence[int], later: float) -> None:
        """Args:
        stage: The attack.
        start: Before its first batch; `left` is not read.
        sizes: Images of each batch that is not done yet.
        later: Work that an image is which no batch breaks, in the stages that come.
        """
        self._start, self._later, self._robust, self._finished = start, later, start.robust, 0
        self._step = [size * stage.cost for size in sizes]
        self._most = [size * stage.work for size in sizes]
        self._left, self._worked = list(self._most), [0.0] * len(sizes)

    def steps(self, batch: int, steps: int = 1) -> None:
        """So many more steps of an attack on a batch."""
        self._worked[batch] = min(self._worked[batch] + steps * self._step[batch], self._most[batch])
        self._left[batch] = self._most[batch] - self._worked[batch]

    def finished(self, batch: int, broken: int) -> None:
        """A batch is done, and so many of its images are broken."""
        self._left[batch], self._finished, self._robust = 0.0, self._finished + 1, self._robust - broken

    @property
    def progress(self) -> Progress:
        """Where the evaluation is."""
        start = self._start
        return replace(
            start, batch=min(start.batch + self._finished, start.batches), robust=self._robust,
            done=start.done + sum(self._worked), left=sum(self._left) + self._robust * self._later,
        )  # fmt: skip


def bar(label: str, *, shown: bool = True) -> Any:
    """A progress bar of work: elapsed and left, then the stage, its batch and the accuracy so far.

    Args:
        label: What is evaluated.
        shown: Whether it shows at all.

    Returns:
        tqdm's, for `show`.
    """
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    return tqdm(desc=label, total=1, bar_format=form, smoothing=0, leave=False, disable=not shown)


def show(bar: Any, progress: Progress) -> None:
    """Moves a bar.

    Args:
        bar: Of `bar`.
        progress: Where the evaluation is.
    """
    bar.total = progress.done + progress.left
    bar.set_postfix_str(str(progress), refresh=False)
    bar.update(progress.done - bar.n)
