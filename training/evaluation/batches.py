"""A batch of images under an attack: what is done with it by this process or another, and which images are broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.attacks.pgd import Poll
from robust_zoo.training.attacks.precision import products_in
from robust_zoo.training.attacks.suites import Stage


@dataclass(frozen=True)
class Batch:
    """Images under an attack, and all that decides what becomes of them but for the model; it can be sent.

    Attributes:
        stage: The attack.
        threat: What every adversarial image is held to.
        seed: Of the attack.
        precision: A name of `choices.PRECISIONS`.
        images: (B, C, H, W) float32 in [0, 1].
        labels: (B,) int64.
    """

    stage: Stage
    threat: ThreatModel
    seed: int
    precision: str
    images: np.ndarray
    labels: np.ndarray


Heard = Callable[[int, int], None]
"""Called with a batch's number and how many more steps of its attack were made."""
Attack = Callable[[Iterable[Batch], int, Heard], Iterator[tuple[int, np.ndarray]]]
"""Attacks so many batches, and yields the number of each that is done with `broken` of it, in any order."""


def broken(model: nn.Module, device: torch.device, batch: Batch, poll: Poll) -> np.ndarray:
    """Attacks a batch; every adversarial image is checked again here.

    Args:
        model: As an Evaluation's.
        device: Where it is.
        batch: The images and the attack.
        poll: Called between the attack's steps; it may raise to stop.

    Returns:
        (B,) bool: which images are misclassified, within the threat model.
    """
    images, labels = (torch.from_numpy(values).to(device) for values in (batch.images, batch.labels))
    with products_in(batch.precision):
        adv_images = batch.stage(model, images, labels, batch.threat, seed=batch.seed, poll=poll)
        with torch.no_grad():
            wrong = model(adv_images).argmax(1) != labels
    size = rules(batch.threat.norm).size(adv_images - images).flatten()
    allowed = size <= batch.threat.eps * (1 + 1e-5) + 1e-7
    inside = (adv_images >= 0).flatten(1).all(1) & (adv_images <= 1).flatten(1).all(1)
    return (wrong & allowed & inside).cpu().numpy()
