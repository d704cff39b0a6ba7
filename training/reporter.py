"""What a training says while it runs: its bar, its log, its status, its warnings; of many processes the first alone."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from robust_zoo.training.checkpoint import Progress
from robust_zoo.training.data.feed import too_slow
from robust_zoo.training.distributed import World
from robust_zoo.training.log import RunLog, write_status
from robust_zoo.training.machine import Settings
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.steps.compiling import Choice
from robust_zoo.training.steps.health import Health, overfitting
from robust_zoo.training.steps.sums import Counts


class Reporter:
    """Of one run.

    Attributes:
        log: The run's log; None in processes that write none.
    """

    def __init__(self, out: Path, recipe: Recipe, steps: int, world: World, settings: Settings) -> None:
        """Opens the log in the run's directory; `steps`: of an epoch."""
        self.out, self.recipe, self.steps, self.world, self.settings = out, recipe, steps, world, settings
        self.log = RunLog(out) if world.first else None
        self._bar: Any = None

    def begin(self, progress: Progress) -> None:
        """Shows the bar, where the run stands."""
        size = self.recipe.batch_size
        self._bar = tqdm(
            total=self.recipe.epochs * self.steps * size,
            initial=progress.step * size,
            unit="img",
            unit_scale=True,
            mininterval=2,
            disable=not (self.world.first and self.settings.progress),
            desc=self.settings.label,
        )

    def moved(self) -> None:
        """One step more."""
        self._bar.update(self.recipe.batch_size)

    def chosen(self, choice: Choice) -> None:
        """How steps are run, and why."""
        if self.log:
            self.log.add("way", 0, way=choice.way, tried=choice.tried)
            self._say(str(choice))

    def line(self, progress: Progress, sums: Counts, lr: float, waited: float) -> None:
        """One line of the log, for the images since the last.

        Args:
            progress: Where the run stands.
            sums: Over all processes, as plain numbers.
            lr: The learning rate of the last step.
            waited: Seconds for which the device waited for the images of this epoch so far.
        """
        n = sums.seen
        values = {"loss": sums.loss / n, "adv_accuracy": 100 * sums.adv / n, "clean_accuracy": 100 * sums.clean / n}
        if not self.recipe.threat.eps:
            values["clean_accuracy"] = values.pop("adv_accuracy")
        elif self.recipe.random_start:  # the attack's first pass sees no clean image
            del values["clean_accuracy"]
        if self.log:
            times = {"seconds": round(progress.seconds, 1), "waited": round(waited, 1)}
            self.log.add("step", progress.step, lr=lr, **values, **times)
        self._bar.set_postfix({k.removesuffix("_accuracy"): f"{v:.3g}" for k, v in values.items()}, refresh=False)

    def epoch(self, progress: Progress, health: Health, waited: float) -> None:
        """Held-out accuracies after an epoch; warns when they look wrong, or the images come too slowly.

        Args:
            progress: Where the run stands; the epoch is not counted yet.
            health: What was measured, the last of the history.
            waited: The share of the epoch for which the device waited for images.
        """
        number, threat = progress.epochs + 1, self.recipe.watched(progress.epochs + 1)
        if not self.log:
            return
        alarm = self._alarm(progress)
        values = asdict(health) | {"threat": str(threat)} | ({"alarm": alarm} if alarm else {})
        self.log.add("epoch", progress.step, epoch=number, **values)
        said = f"epoch {number}/{self.recipe.epochs}: clean {health.clean:.1f} %"
        if threat.eps:
            said += f", at {threat} one step {health.single_step:.1f} %, PGD-10 {health.pgd10:.1f} %"
        self._say(said)
        for warning in filter(None, (alarm, too_slow(waited, self.settings.workers, os.cpu_count() or 1))):
            self._say(f"warning: {warning}")

    def status(self, how: str, progress: Progress, **more: Any) -> None:
        """Replaces status.json; `how` and `more` as `write_status` takes them."""
        if self.world.first:
            write_status(
                self.out,
                how,
                step=progress.step,
                steps=self.steps * self.recipe.epochs,
                epoch=progress.epochs,
                epochs=self.recipe.epochs,
                seconds=round(progress.seconds, 1),
                threat=str(self.recipe.threat),
                alarm=self._alarm(progress),
                **more,
            )

    def close(self) -> None:
        """Ends bar and log."""
        if self._bar is not None:
            self._bar.close()
        if self.log:
            self.log.close()

    def _alarm(self, progress: Progress) -> str:
        return overfitting(progress.history) if self.recipe.threat.eps else ""

    def _say(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)
