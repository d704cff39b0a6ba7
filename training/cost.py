"""What a recipe costs before it is run: image passes, FLOPs, and hours on this device from a few real steps."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from robust_zoo.architectures.build import build
from robust_zoo.readers import read_json
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.checkpoint import check_sizes
from robust_zoo.training.distributed import World
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.run import products, untrained
from robust_zoo.training.steps.passes import memory_format, optimizer_for
from robust_zoo.training.steps.step import make_step

_TRIAL_SECONDS = 10.0


@dataclass(frozen=True)
class Cost:
    """What a training costs.

    Attributes:
        images: Seen over all epochs.
        passes: Forward-sized pieces of work per image (Recipe.passes).
        forward_flops: Of one image, a multiply-add counting 2.
    """

    images: int
    passes: int
    forward_flops: int

    @property
    def flops(self) -> float:
        """Of the whole training. A backward pass to the inputs or to the weights is counted as a forward pass."""
        return float(self.images) * self.passes * self.forward_flops


def cost(checkpoint: Checkpoint, recipe: Recipe) -> Cost:
    """What a training costs, counted on a model without storage; nothing is computed.

    Args:
        checkpoint: With the network and the dataset.
        recipe: With the epochs, the batch size and the attack.

    Returns:
        The cost of the whole training.

    Raises:
        UsageError: The dataset has less than one batch.
    """
    images = checkpoint.collection.dataset.train_images
    check_sizes(recipe, images, 1)
    steps = images // recipe.batch_size
    return Cost(steps * recipe.batch_size * recipe.epochs, recipe.passes, forward_flops(checkpoint))


def forward_flops(checkpoint: Checkpoint) -> int:
    """The arithmetic of one image, counted on a network without storage; nothing is computed.

    Args:
        checkpoint: With the network and its input size.

    Returns:
        Floating-point operations of a forward pass, a multiply-add counting 2.
    """
    return _counted(checkpoint.network.timm, json.dumps(_arguments(checkpoint)), checkpoint.preprocessing.input_size)


@cache
def _counted(builder: str, arguments: str, size: tuple[int, int, int]) -> int:
    """Once for each network, however many checkpoints have it; `arguments` are JSON, which can be compared."""
    with torch.device("meta"):
        network = build(builder, **read_json(arguments)).eval()
        images = torch.empty(1, *size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return counter.get_total_flops()


def _arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"num_classes": checkpoint.preprocessing.num_classes, **checkpoint.network.arguments}


def forward_seconds(checkpoint: Checkpoint, device: torch.device) -> float:
    """The time of one image's forward pass on this device, measured on random images and random weights.

    Args:
        checkpoint: With the network and its input size.
        device: Where it is measured.

    Returns:
        Seconds per image, of the second of two batches.
    """
    network = build(checkpoint.network.timm, **_arguments(checkpoint)).eval()
    network.to(device).to(memory_format=torch.channels_last)
    images = torch.rand(64 if device.type == "cuda" else 8, *checkpoint.preprocessing.input_size, device=device)
    images, seconds = images.contiguous(memory_format=torch.channels_last), 0.0
    for _ in range(2):
        started = time.perf_counter()
        with torch.no_grad():
            network(images).sum().item()  # waits for the device
        seconds = time.perf_counter() - started
    return seconds / len(images)


def images_per_second(checkpoint: Checkpoint, recipe: Recipe, world: World, precision: str) -> float:
    """The speed of a recipe's step on this device, measured on random images for about ten seconds.

    Args:
        checkpoint: With the network and its input size.
        recipe: With the attack and the objective.
        world: With the device; this process alone is measured.
        precision: As Machine has it.

    Returns:
        Training images per second, the attack included; the best of the steps.
    """
    model, bf16 = untrained(checkpoint, recipe, world, precision)
    model.to(world.device).train()
    part = min(recipe.batch_size // recipe.accumulation, 128 if world.device.type == "cuda" else 16)
    recipe = replace(recipe, batch_size=part, accumulation=1)  # a pass has no more of a batch than a part
    images = torch.rand(part, *checkpoint.preprocessing.input_size, device=world.device)
    how = memory_format(model, images)
    images = images.contiguous(memory_format=how)
    model.to(memory_format=how)
    step = make_step(model, recipe, optimizer_for(model, recipe), bf16=bf16, world=world)
    labels = torch.zeros(len(images), dtype=torch.int64, device=world.device)
    best, begun = float("inf"), time.monotonic()
    with products(precision, world.device):
        while time.monotonic() - begun < _TRIAL_SECONDS or best == float("inf"):
            started = time.monotonic()
            step(images, labels)  # ends with a check, which waits for the device
            best = min(best, time.monotonic() - started)
    return len(images) / best
