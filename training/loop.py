"""The training loop: steps, held-out checks, checkpoints; resumed anywhere it ends as if it had not been cut."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robust_zoo.errors import UsageError
from robust_zoo.training.checkpoint import Progress, check_sizes, identity, require_same, restore, save, shared_sha256
from robust_zoo.training.data.dataset import Dataset, epoch_order, seed_of, spread
from robust_zoo.training.data.feed import Feed
from robust_zoo.training.distributed import World, synchronise_batch_norm
from robust_zoo.training.machine import Settings
from robust_zoo.training.objectives import Objective
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.reporter import Reporter
from robust_zoo.training.signals import Interrupt, Stopped
from robust_zoo.training.steps.compiling import choose
from robust_zoo.training.steps.health import measure_health
from robust_zoo.training.steps.passes import memory_format, optimizer_for
from robust_zoo.training.steps.step import make_step
from robust_zoo.training.steps.sums import Counts
from robust_zoo.training.steps.ways import EAGER

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
        self.held_out = spread(held_out, _HELD_OUT)
        self.model = model.to(world.device)
        self.memory_format = memory_format(self.model, self._a_pass())
        self.model.to(memory_format=self.memory_format)
        if recipe.sync_bn and world.size > 1:
            synchronise_batch_norm(self.model)
        self.optimizer = optimizer_for(self.model, recipe)
        how: Any = {"bf16": settings.bf16, "world": world, "poll": interrupt.poll, "objective": objective}
        how["check_every"] = 1 if world.device.type == "cpu" else settings.log_steps
        self.step = make_step(self.model, recipe, self.optimizer, **how)
        self.average = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay)) if recipe.ema_decay else None
        )
        self.progress = Progress()
        train_sha256, test_sha256 = (shared_sha256(images, world) for images in (data, held_out))
        self.identity = identity(recipe, train_sha256, test_sha256, world, precision=settings.numbers)
        self.says = Reporter(out, recipe, self.steps, world, settings)

    def _a_pass(self) -> Tensor:
        """As many images as there are in one pass of a step, without their numbers."""
        image, _ = next(iter(self.held_out.subset(torch.zeros(1, dtype=torch.int64)).batches(1)))
        count = self.recipe.batch_size // (self.world.size * self.recipe.accumulation)
        return torch.empty(1, device=self.world.device).expand(count, *image.shape[1:])

    @property
    def result(self) -> nn.Module:
        return self.average.module if self.average else self.model

    def to_the_end(self) -> nn.Module:
        try:
            self._restore()
            self.says.status("running", self.progress)
            self.says.begin(self.progress)
            try:
                while self.progress.epochs < self.recipe.epochs:
                    self._epoch()
            except Stopped:
                self._save()
                raise
            self.says.status("trained", self.progress)
        except Stopped as stopped:
            self.says.status("stopped", self.progress, reason=str(stopped))
            raise
        except UsageError:  # another run's directory: its status stays
            raise
        except Exception as error:
            self.says.status("failed", self.progress, reason=str(error).splitlines()[0])
            raise
        finally:
            self.says.close()
        return self.result

    def _epoch(self) -> None:
        recipe, progress, epoch, settings = self.recipe, self.progress, self.progress.epochs, self.settings
        order = epoch_order(
            len(self.data),
            recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            rank=self.world.rank,
            ranks=self.world.size,
        )[progress.step - epoch * self.steps :]
        feed = Feed(self.world.device)
        batches = self.data.train_batches(order, seed=recipe.seed, epoch=epoch, device=self.world.device)
        self.model.train()
        begun = saved = clock = time.monotonic()
        for images, labels in feed(batches):
            done = progress.step / self.steps
            images = images.contiguous(memory_format=self.memory_format)
            if not progress.way:
                self._choose_way(images, labels, recipe.at(done))
            self.optimizer.param_groups[0]["lr"] = lr = recipe.learning_rate(done)
            torch.manual_seed(seed_of(recipe.seed, progress.step, self.world.rank))  # random starts, dropout
            counts = self.step(images, labels, recipe.at(done))
            if self.average:
                self.average.update_parameters(self.model)
            now = time.monotonic()
            progress.step, progress.seconds, clock = progress.step + 1, progress.seconds + now - clock, now
            progress.since_log.add(counts)
            self.says.moved()
            if progress.step % settings.log_steps == 0 or progress.step % self.steps == 0:
                self.step.check()
                sums = Counts(*self.world.sum(*progress.since_log.read()))
                progress.since_log = Counts()
                self.says.line(progress, sums, lr, feed.waited)
                if now - saved > settings.save_seconds and self.says.log:  # nothing is summed up: ranks need not meet
                    self._save()
                    saved = time.monotonic()
        waited = feed.waited / max(time.monotonic() - begun, 1e-9)
        self._measure(waited)
        progress.epochs += 1
        self._save()
        self.says.status("running", progress)

    def _choose_way(self, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
        """Once in a run, on its first batch; a run that goes on goes on as it began."""
        asked, on_gpu = self.settings.compile, self.world.device.type == "cuda"
        if asked == "on" or (asked == "auto" and on_gpu):
            choice = choose(self.step, images, labels, recipe)
            self.says.chosen(choice)
            self.progress.way = choice.way
        else:
            self.progress.way = EAGER
        self.step.use(self.progress.way)

    def _measure(self, waited: float) -> None:
        """Held-out accuracies after an epoch."""
        started, threat = time.monotonic(), self.recipe.watched(self.progress.epochs + 1)
        health = measure_health(
            self.result, self.held_out, threat, self.world, bf16=self.settings.bf16, poll=self.interrupt.poll
        )
        self.progress.history.append(health)
        self.progress.seconds += time.monotonic() - started
        self.says.epoch(self.progress, health, waited)

    def _save(self) -> None:
        """Weights are the same on all ranks, so the first one's checkpoint is everyone's."""
        self.step.check()
        sums = self.world.gather(*self.progress.since_log.read()) if self.progress.since_log.seen else []
        if log := self.says.log:
            place = {"identity": self.identity, "log_position": log.position, "since_log": sums}
            save(self.out, self.progress, place, self._holders)

    def _restore(self) -> None:
        place = restore(self.out, self.progress, self.identity, self._holders, self.world)
        if log := self.says.log:
            log.rewind(place.get("log_position", 0))
        if way := self.progress.way:
            if self.settings.compile == "off":
                next = "give the command without --compile off, or choose another --out directory"
                require_same({"way": way}, {"way": EAGER}, self.out, self.recipe.architecture, next)
            self.step.use(way)

    @property
    def _holders(self) -> dict[str, Any]:
        """What has a state_dict."""
        return {"model": self.model, "optimizer": self.optimizer} | ({"average": self.average} if self.average else {})
