"""Clean and PGD accuracy of a model on a dataset, as counts."""

from __future__ import annotations

import torch
from torch import nn
from tqdm import tqdm

from robust_zoo.counts import Count
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.pgd import Poll, eval_mode, pgd_until_wrong
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.data.fit import as_dataset


def pgd_accuracy(
    model: nn.Module,
    data: Dataset,
    threat: ThreatModel,
    *,
    steps: int = 20,
    restarts: int = 0,
    seed: int = 0,
    batch_size: int = 250,
    progress: str = "",
    poll: Poll = None,
) -> Count:
    """Accuracy of a pixel-space model under PGD; eps 0 or steps 0 is clean accuracy.

    An image counts as broken at its first misclassified iterate.

    Args:
        model: [0, 1] images -> logits, evaluated in eval mode on its own device; every module keeps its mode.
        data: The images and their labels.
        threat: The norm, and the radius of the ball.
        steps: How many, each of size 2.5 eps / steps (Madry et al. 2018).
        restarts: 0 is one run from the images, else so many from random starts.
        seed: Of the random starts.
        batch_size: Images per forward pass.
        progress: A label for a progress bar on stderr, none when empty.
        poll: Called between attack steps; may raise.

    Returns:
        How many of the images are robust (with steps 0: right), of how many.

    Raises:
        UsageError: `data` is another kind of object, or has no images.
    """
    data = as_dataset(data)
    device = next(model.parameters(), torch.empty(0)).device
    correct = 0
    bar = tqdm(data.batches(batch_size), desc=progress, total=-(-len(data) // batch_size), disable=not progress)
    with eval_mode(model):
        for images, labels in bar:
            images, labels = images.to(device), labels.to(device)
            adv_images = images
            if steps and threat.eps:
                adv_images = pgd_until_wrong(
                    model, images, labels, threat, steps=steps, restarts=restarts, seed=seed, poll=poll
                )
            with torch.no_grad():
                correct += int((model(adv_images).argmax(1) == labels).sum())
            if poll:
                poll()
    return Count(correct, len(data))
