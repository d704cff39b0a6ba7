"""The training loop: steps, held-out checks, checkpoints; resumed anywhere it ends as if it had not been cut."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from robust_zoo.errors import UsageError
from robust_zoo.training.checkpoint import Progress, check_sizes, identity, restore, save, shared_sha256
from robust_zoo.training.data.dataset import Dataset, epoch_order, seed_of, spread
from robust_zoo.training.distributed import World, synchronise_batch_norm
from robust_zoo.training.health import measure_health, overfitting
from robust_zoo.training.log import RunLog, write_status
from robust_zoo.training.machine import Settings
from robust_zoo.training.objectives import Objective
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.signals import Interrupt, Stopped
from robust_zoo.training.step import Counts, make_step, optimizer_for

_HELD_OUT = 512  # images the health of a run is measured on after each epoch


def train_model(
    model: nn.Module,
    recipe: Recipe,
    data: Dataset,
    held_out: Dataset,
    out: Path,
    *,
    world: World,
    interrupt: Interrupt,
    settings: Settings = Settings(),
    objective: Objective | None = None,
) -> nn.Module:
    """Trains a pixel-space model in place.

    A run that was cut off anywhere goes on from its last checkpoint and ends with the same weights to the bit.

    Args:
        model: [0, 1] images -> logits, in fp32 or fp64.
        recipe: How to train it.
        data: The training split.
        held_out: Other images, which the run's health is watched on; nothing is chosen by them.
        out: Holds checkpoint-*.safetensors, log.jsonl and status.json; the caller holds its lock.
        world: This process among all.
        interrupt: Says when to stop.
        settings: What belongs to the machine.
        objective: What is minimised; None: the recipe's.

    Returns:
        The model, or its moving average when the recipe has one.

    Raises:
        Stopped: A signal came; everything is saved.
        UsageError: `out` holds another run.
        VerificationFailed: The training diverges.
        StorageError: The disk is full.
    """
    return _Run(model, recipe, data, held_out, out, world, interrupt, settings, objective).to_the_end()


class _Run:
    """The state that the functions of one training share."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: Dataset,
        held_out: Dataset,
        out: Path,
        world: World,
        interrupt: Interrupt,
        settings: Settings,
        objective: Objective | None,
    ) -> None:
        self.recipe, self.data, self.out, self.settings = recipe, data, out, settings
        self.world, self.interrupt = world, interrupt
        self.steps = len(data) // recipe.batch_size  # per epoch
        check_sizes(recipe, len(data), world.size)
        self.model = model.to(world.device).to(memory_format=torch.channels_last)
        if recipe.sync_bn and world.size > 1:
            synchronise_batch_norm(self.model)
        self.optimizer = optimizer_for(self.model, recipe)
        how: Any = {"bf16": settings.bf16, "world": world, "poll": interrupt.poll, "objective": objective}
        self.step = make_step(self.model, recipe, self.optimizer, **how)
        self.average = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay)) if recipe.ema_decay else None
        )
        self.held_out = spread(held_out, _HELD_OUT)
        self.progress = Progress()
        train_sha256, test_sha256 = (shared_sha256(images, world) for images in (data, held_out))
        self.identity = identity(recipe, train_sha256, test_sha256, world, bf16=settings.bf16)
        self.log: RunLog | None = None

    @property
    def result(self) -> nn.Module:
        return self.average.module if self.average else self.model

    def to_the_end(self) -> nn.Module:
        if self.world.first:
            self.log = RunLog(self.out)
        try:
            self._restore()
            self._status("running")
            size = self.recipe.batch_size
            with tqdm(
                total=self.recipe.epochs * self.steps * size,
                initial=self.progress.step * size,
                unit="img",
                unit_scale=True,
                mininterval=2,
                disable=not (self.world.first and self.settings.progress),
                desc=self.settings.label,
            ) as bar:
                while self.progress.epochs < self.recipe.epochs:
                    self._epoch(bar)
            self._status("trained")
        except Stopped as stopped:
            self._save()
            self._status("stopped", reason=str(stopped))
            raise
        except UsageError:  # another run's directory: its status stays
            raise
        except Exception as error:
            self._status("failed", reason=str(error).splitlines()[0])
            raise
        finally:
            if self.log:
                self.log.close()
        return self.result

    def _epoch(self, bar: Any) -> None:
        recipe, progress, epoch = self.recipe, self.progress, self.progress.epochs
        order = epoch_order(
            len(self.data),
            recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            rank=self.world.rank,
            ranks=self.world.size,
        )[progress.step - epoch * self.steps :]
        batches = self.data.train_batches(order, seed=recipe.seed, epoch=epoch, device=self.world.device)
        self.model.train()
        saved = clock = time.monotonic()
        for images, labels in batches:
            done = progress.step / self.steps
            self.optimizer.param_groups[0]["lr"] = lr = recipe.learning_rate(done)
            torch.manual_seed(seed_of(recipe.seed, progress.step, self.world.rank))  # random starts, dropout
            counts = self.step(images.contiguous(memory_format=torch.channels_last), labels, recipe.at(done))
            if self.average:
                self.average.update_parameters(self.model)
            now = time.monotonic()
            progress.step, progress.seconds, clock = progress.step + 1, progress.seconds + now - clock, now
            progress.since_log.add(counts)
            bar.update(recipe.batch_size)
            if progress.step % self.settings.log_steps == 0 or progress.step % self.steps == 0:
                self._report(bar, lr)
                if now - saved > self.settings.save_seconds and self.log:  # nothing is summed up: ranks need not meet
                    self._save()
                    saved = time.monotonic()
        self._measure(bar)
        progress.epochs += 1
        self._save()
        self._status("running")

    def _report(self, bar: Any, lr: float) -> None:
        """One line of the log for the images since the last."""
        seen, loss, adv, clean = self.world.sum(*vars(self.progress.since_log).values())
        self.progress.since_log = Counts()
        values = {"loss": loss / seen, "adv_accuracy": 100 * adv / seen, "clean_accuracy": 100 * clean / seen}
        if not self.recipe.threat.eps:
            values["clean_accuracy"] = values.pop("adv_accuracy")
        elif self.recipe.random_start:  # the attack's first pass sees no clean image
            del values["clean_accuracy"]
        if self.log:
            self.log.add("step", self.progress.step, lr=lr, **values, seconds=round(self.progress.seconds, 1))
        bar.set_postfix({name.removesuffix("_accuracy"): f"{v:.3g}" for name, v in values.items()}, refresh=False)

    def _measure(self, bar: Any) -> None:
        """Held-out accuracies after an epoch; warns when they look wrong."""
        started, threat = time.monotonic(), self.recipe.watched(self.progress.epochs + 1)
        health = measure_health(
            self.result, self.held_out, threat, self.world, bf16=self.settings.bf16, poll=self.interrupt.poll
        )
        self.progress.history.append(health)
        self.progress.seconds += time.monotonic() - started
        alarm = overfitting(self.progress.history) if self.recipe.threat.eps else ""
        if self.log:
            values = asdict(health) | {"threat": str(threat)} | ({"alarm": alarm} if alarm else {})
            self.log.add("epoch", self.progress.step, epoch=self.progress.epochs + 1, **values)
            said = f"epoch {self.progress.epochs + 1}/{self.recipe.epochs}: clean {health.clean:.1f} %"
            if threat.eps:
                said += f", at {threat} one step {health.single_step:.1f} %, PGD-10 {health.pgd10:.1f} %"
            bar.write(said + (f"\nwarning: {alarm}" if alarm else ""), file=sys.stderr)

    def _save(self) -> None:
        """Weights are the same on all ranks, so the first one's checkpoint is everyone's."""
        sums = self.world.gather(*vars(self.progress.since_log).values()) if self.progress.since_log.seen else []
        if self.log:
            place = {"identity": self.identity, "log_position": self.log.position, "since_log": sums}
            save(self.out, self.progress, place, self._holders)

    def _restore(self) -> None:
        place = restore(self.out, self.progress, self.identity, self._holders, self.world)
        if self.log:
            self.log.rewind(place.get("log_position", 0))

    @property
    def _holders(self) -> dict[str, Any]:
        """What has a state_dict."""
        return {"model": self.model, "optimizer": self.optimizer} | ({"average": self.average} if self.average else {})

    def _status(self, how: str, **more: Any) -> None:
        if self.world.first:
            p = self.progress
            alarm = overfitting(p.history) if self.recipe.threat.eps else ""
            write_status(
                self.out,
                how,
                step=p.step,
                steps=self.steps * self.recipe.epochs,
                epoch=p.epochs,
                epochs=self.recipe.epochs,
                seconds=round(p.seconds, 1),
                threat=str(self.recipe.threat),
                alarm=alarm,
                **more,
            )
