"""An evaluation's batches, attacked by other processes: each makes the model of the verified weights once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
import torch
from torch import nn

from robust_zoo.errors import VerificationFailed
from robust_zoo.factory import create_model
from robust_zoo.pixels import pixel_model
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.evaluation.batches import Batch, Heard, broken
from robust_zoo.training.jobs.workers import Tell, Workers
from robust_zoo.weights.ensure import Weights, ensure

_BETWEEN = 0.2  # seconds between two words of how far a batch is


@dataclass(frozen=True)
class Origin:
    """What a model is made of, for other processes to make the same.

    Attributes:
        checkpoint: The row.
        weights_sha256: Of its file.
        device: Where its model is.
        example: (B, C, H, W) in [0, 1], a few images that folding is tried on.
    """

    checkpoint: Checkpoint
    weights_sha256: str
    device: torch.device
    example: np.ndarray = field(compare=False)

    def models(self, weights: Weights) -> tuple[nn.Module, nn.Module]:
        """The model of pixels as users have it, and the folded model, which shares its storage.

        Args:
            weights: Of the checkpoint.

        Returns:
            Both on the device, in eval mode, without gradients of parameters.
        """
        network = create_model(self.checkpoint, weights=weights, device=self.device)
        model = pixel_model(network).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return model, folded_model(model, torch.from_numpy(self.example).to(self.device)).model


def attack_elsewhere(
    workers: Workers, origin: Origin, batches: Iterable[Batch], n: int, heard: Heard
) -> Iterator[tuple[int, np.ndarray]]:
    """An `Attack` by processes that share the batches.

    Args:
        workers: The processes.
        origin: Of the model that they attack.
        batches: As an `Attack` is given them.
        n: How many.
        heard: Called now and then with a batch's number and how many more steps of its attack were made.

    Returns:
        The number of each batch that is done, with `broken` of it.

    Raises:
        VerificationFailed: The weights are no longer those that were verified.
        StorageError: A process was killed.
    """
    return workers.run(partial(_attacked, origin), batches, n, heard)


def _attacked(origin: Origin, batch: Batch, tell: Tell) -> np.ndarray:
    steps, told = 0, time.monotonic()

    def poll() -> None:
        nonlocal steps, told
        steps, now = steps + 1, time.monotonic()
        if now - told > _BETWEEN:
            tell(steps)
            steps, told = 0, now

    return broken(folded_model_of(origin), origin.device, batch, poll)


@lru_cache(maxsize=1)
def folded_model_of(origin: Origin) -> nn.Module:
    """The folded model, in a process that gets batches one by one: made once.

    Args:
        origin: What it is made of.

    Returns:
        It.

    Raises:
        VerificationFailed: The weights are no longer those that were verified.
    """
    weights = ensure(origin.checkpoint)
    if weights.sha256 != origin.weights_sha256:
        raise VerificationFailed(
            f"the weights of {origin.checkpoint.name} changed while they were evaluated",
            model=origin.checkpoint.name,
            source=str(weights.path),
            expected=f"sha256 {origin.weights_sha256}",
            actual=f"sha256 {weights.sha256}",
            next="the same command again, which measures what is there then",
        )
    return origin.models(weights)[1]
