"""The trainings of a fine-tuning: one for each learning rate, by the loop of every training; the best is kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.checkpoint_files import newest_whole, read_checkpoint
from robust_zoo.training.distributed import World
from robust_zoo.training.loop import train_model
from robust_zoo.training.machine import Machine, Settings
from robust_zoo.training.objectives import Objective, keeping_features
from robust_zoo.training.signals import Interrupt
from robust_zoo.training.steps.health import Health
from robust_zoo.training.steps.soundness import Diverged
from robust_zoo.training.transfer.heads import Head
from robust_zoo.training.transfer.tuning.images import Split
from robust_zoo.training.transfer.tuning.modes import Tuning
from robust_zoo.training.transfer.tuning.start import source_model, start
from robust_zoo.weights.ensure import Weights


@dataclass(frozen=True)
class Tuner:
    """What every training of a fine-tuning shares.

    Attributes:
        checkpoint: The source.
        weights: Its own, verified.
        split: The images, as the network sees them.
        head: What `start.probe` found.
        world: This process, and its device.
        machine: Precision, checkpoints, progress.
        interrupt: Says when to stop.
    """

    checkpoint: Checkpoint
    weights: Weights
    split: Split
    head: Head
    world: World
    machine: Machine
    interrupt: Interrupt

    @property
    def bf16(self) -> bool:
        """Whether it runs under bf16 autocast: on a GPU, unless another precision is asked for."""
        asked = self.machine.precision
        return self.world.device.type == "cuda" if asked == "auto" else asked == "bf16"

    def train(self, recipe: Tuning, run: Path) -> tuple[nn.Module, Health]:
        """One training, from the source's weights to the last epoch; what was cut off goes on.

        Args:
            recipe: How.
            run: Its directory; made where it is not there.

        Returns:
            The network, without the pixel-space wrapper, on the CPU; and its last accuracies on validation images.

        Raises:
            Stopped: A signal came; everything is saved.
            Diverged: The learning rate is too high.
        """
        m = self.machine
        run.mkdir(parents=True, exist_ok=True)
        dtype = torch.float64 if m.precision == "fp64" else torch.float32
        model = start(self.checkpoint, self.weights, recipe, self.head, dtype)
        settings = Settings(self.bf16, m.save_seconds, m.log_steps, m.progress, f"lr {recipe.lr:g}", workers=m.workers)
        train_model(
            model, recipe, self.split.train, self.split.val, run,
            world=self.world, interrupt=self.interrupt, settings=settings, objective=self._objective(model, recipe),
        )  # fmt: skip
        content, _ = newest_whole(run)
        history = read_checkpoint(content or bytearray())["progress"]["history"]
        network = model.model.cpu().to(memory_format=torch.contiguous_format)
        return network.requires_grad_(True).eval(), Health(**history[-1])

    def _objective(self, model: nn.Module, recipe: Tuning) -> Objective | None:
        if not recipe.row.lwf:
            return None
        like = next(model.parameters()).detach().to(self.world.device)
        return keeping_features(source_model(self.checkpoint, self.weights, like), recipe.row.lwf)


@dataclass(frozen=True)
class Chosen:
    """What validation images chose.

    Attributes:
        network: Normalised images -> logits, on the CPU.
        recipe: By which it was trained.
        tried: Each learning rate with its accuracies on validation images, in percent.
    """

    network: nn.Module
    recipe: Tuning
    tried: list[dict[str, float | None]]

    @property
    def in_words(self) -> str:
        """What the learning rate was chosen from, as a sentence; "" where there was no choice."""
        if len(self.tried) == 1:
            return ""
        found = []
        for one in self.tried:
            accuracies = f"clean {one['clean']:.1f} %" if one["clean"] is not None else "diverged"
            accuracies += f", PGD-10 {one['pgd10']:.1f} %" if one["pgd10"] is not None else ""
            found.append(f"{one['lr']:g} ({accuracies})")
        by = "the mean of both" if self.recipe.aim else "accuracy"
        return f"Learning rates tried, with {by} on validation images deciding: {'; '.join(found)}."


def choose(tuner: Tuner, recipe: Tuning, lrs: Sequence[float], runs: Path) -> Chosen:
    """Trains by each learning rate, and keeps the one that is best on validation images.

    With a threat model that is the mean of clean and PGD-10 accuracy, else clean accuracy; of equal ones the first.

    Args:
        tuner: Source, images and machine.
        recipe: All but the learning rate.
        lrs: One or more.
        runs: The folder of the trainings.

    Returns:
        The model, as trained on the training images alone.

    Raises:
        Diverged: By every one of the rates.
    """
    best: tuple[float, nn.Module, Tuning] | None = None
    tried: list[dict[str, float | None]] = []
    for lr in lrs:
        one = replace(recipe, lr=lr)
        try:
            network, health = tuner.train(one, runs / f"lr{lr:g}")
        except Diverged as error:
            tried.append({"lr": lr, "clean": None, "pgd10": None})
            if best is None and lr == lrs[-1]:
                raise
            tqdm.write(f"lr {lr:g}: {error.actual}", file=sys.stderr)
            continue
        score = (health.clean + health.pgd10) / 2 if recipe.aim else health.clean
        tried.append({"lr": lr, "clean": health.clean, "pgd10": health.pgd10 if recipe.aim else None})
        if best is None or score > best[0]:
            best = (score, network, one)
    assert best is not None
    return Chosen(best[1], best[2], tried)
