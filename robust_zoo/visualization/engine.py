"""Where a picture begins, and the one way it is changed: PGD in L2 on an objective, batch by batch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.pgd import Loss, pgd
from robust_zoo.visualization.kinds import Search

_GREY, _NOISE = 0.5, 0.05  # of the noise that pictures begin at; that of Engstrom et al. 2019
BATCH_SIZE = 50  # images that are changed at once


@dataclass(frozen=True)
class Objective:
    """What an image is changed towards.

    Attributes:
        loss: (answers (B, ...), targets (B, ...)) -> (B,), or the name of one of PGD's.
        lower: Whether less of it is wanted.
    """

    loss: str | Loss
    lower: bool = True


def _distance(features: Tensor, targets: Tensor) -> Tensor:
    """How far features are from others, relative to the others' length (Engstrom et al. 2019, equation 5)."""
    return (features - targets).norm(dim=1) / targets.norm(dim=1).clamp_min(1e-12)


CLASS = Objective("ce")  # Santurkar et al. 2019, section 3
FEATURES = Objective(_distance)
ONE_FEATURE = Objective(lambda features, wanted: features.gather(1, wanted[:, None]).squeeze(1), lower=False)


def noise(count: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Grey with a little noise: each image a function of its seed and place alone.

    Args:
        count: How many images, N.
        shape: Of one: (C, H, W).
        seed: Of all.

    Returns:
        (N, C, H, W) float32 in [0, 1].
    """
    draws = [np.random.default_rng((seed, i)).standard_normal(tuple(shape), np.float32) for i in range(count)]
    return (_GREY + _NOISE * torch.from_numpy(np.stack(draws))).clamp(0, 1)


def change(
    model: nn.Module,
    starts: Tensor,
    targets: Tensor,
    objective: Objective,
    search: Search,
    *,
    batch_size: int = BATCH_SIZE,
    progress: str = "",
) -> Tensor:
    """Changes images until a model's answer is what is asked for; of the images on the way, the best.

    Args:
        model: (B, C, H, W) in [0, 1] -> an answer (B, ...), such as logits or features.
        starts: (N, C, H, W) float in [0, 1]: where each image begins.
        targets: (N, ...), what the objective compares the answers with.
        objective: What is wanted of them.
        search: How far, in which steps.
        batch_size: Images at once. Images do not know of each other.
        progress: The label of a bar on stderr; "" for none.

    Returns:
        (N, C, H, W) in [0, 1] on the CPU, each within the search's radius of its start.

    Raises:
        UsageError: Starts are not in [0, 1].
    """
    where = next(model.parameters(), starts).device
    found = []
    batches = list(zip(starts.split(batch_size), targets.split(batch_size), strict=True))
    with tqdm(total=len(batches) * search.steps, desc=progress, disable=not progress, file=sys.stderr) as bar:

        def step(number: int, answer: Tensor) -> None:
            bar.update()

        for some, wanted in batches:
            changed = pgd(
                model,
                some.to(where),
                wanted.to(where),
                ThreatModel("l2", search.eps),
                steps=search.steps,
                step_size=search.step_size,
                loss=objective.loss,
                targeted=objective.lower,
                keep_best=True,
                watch=step,
            )
            found.append(changed.cpu())
    return torch.cat(found)


def answers(model: nn.Module, images: Tensor, batch_size: int = BATCH_SIZE) -> Tensor:
    """A model's answers, without gradients.

    Args:
        model: As `change` takes it, in eval mode.
        images: (N, C, H, W) in [0, 1].
        batch_size: Images at once.

    Returns:
        (N, ...) on the CPU.
    """
    where = next(model.parameters(), images).device
    with torch.no_grad():
        return torch.cat([model(some.to(where)).cpu() for some in images.split(batch_size)])
