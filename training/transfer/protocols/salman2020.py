"""The `salman2020` protocol: transfer exactly as "Do Adversarially Robust ImageNet Models Transfer Better?" ran it.

Source: microsoft/robust-models-transfer, src/main.py and src/utils. What it does differently from a clean experiment is
`QUIRKS`, each with a switch in `Salman2020`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_zoo.architectures.batch_norm import freeze_batch_norm
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.choices import one_of
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.transfer.features import as_files, shrunk
from robust_zoo.training.transfer.network import (
    choose_trainable,
    order,
    predictions,
    seeded,
    train_epoch,
    with_new_head,
)
from robust_zoo.training.transfer.protocols.settings import check
from robust_zoo.training.transfer.saved import Saved
from robust_zoo.training.transfer.splits import hold_out
from robust_zoo.training.transfer.task import Outcome, Target, score
from robust_zoo.views import View
from robust_zoo.weights.ensure import Weights

_DRAWN = 0x5A1  # which randomness of a seed
MODES = ("fixed-feature", "full-network")
# src/utils/constants.py and the loaders: mean 0 and variance 1 for every target but these two
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
_PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
OUTPUTS = {"dtd": 57}  # for 47 classes
# switch -> (what upstream does, what is done with the switch off)
QUIRKS = {
    "target_statistics": ("inputs are normalised with the target's mean and deviation (0 and 1 for ten of twelve)",
                          "inputs are normalised as the source model was trained"),
    "moving_bn": ('"fixed" features come from BatchNorm in train mode, whose statistics move',
                  "in fixed-feature mode BatchNorm keeps the source's statistics"),
    "choose_on_test": ("the best epoch is chosen on the test images, and is the figure",
                       "the best epoch is chosen on a fifth of the training images, and tested once"),
    "extra_outputs": ("DTD's head has 57 outputs for 47 classes", "the head has as many outputs as there are classes"),
}  # fmt: skip


@dataclass(frozen=True)
class Salman2020:
    """Settings of the `salman2020` protocol; the last four are upstream's quirks, which --quirks compares.

    Attributes:
        mode: "fixed-feature" trains the last layer, "full-network" everything.
        lr: 0.01 or 0.001 in the published cells.
        weight_decay: Of SGD.
        batch_size: Images per step.
        epochs: Passes over the training images.
        step: Epochs after which the rate is divided by 10.
        momentum: Of SGD.
        shrink: The shorter side, in pixels, that images are first brought to (the paper's experiment with 32), 0 for
            none.
        target_statistics: Normalise with the target's mean and deviation.
        moving_bn: BatchNorm stays in train mode under fixed features.
        choose_on_test: Report the best epoch on the test images.
        extra_outputs: DTD's head has 57 outputs.

    Raises:
        UsageError: A value may not be that.
    """

    mode: str = "fixed-feature"
    lr: float = 0.01
    weight_decay: float = 5e-4
    batch_size: int = 64
    epochs: int = 150
    step: int = 50
    momentum: float = 0.9
    shrink: int = 0
    target_statistics: bool = True
    moving_bn: bool = True
    choose_on_test: bool = True
    extra_outputs: bool = True

    def __post_init__(self) -> None:
        check(self, mode=one_of(MODES))


def salman2020(
    checkpoint: Checkpoint,
    target: Target,
    settings: Salman2020,
    *,
    weights: Weights | None = None,
    seed: int = 0,
    device: torch.device,
    progress: bool = False,
    saved: Saved | None = None,
) -> tuple[Outcome, nn.Module]:
    """Trains as upstream.

    Networks that upstream's freeze rule refuses (it looks for "layer4") train their classifier in fixed-feature mode.

    Args:
        checkpoint: What is transferred.
        target: What it is transferred to.
        settings: Mode, rates and quirks.
        weights: Verified already; the checkpoint's when None.
        seed: Of the new head, the order of images, their crops, and what networks draw in training (DropPath).
        device: Where the network is trained.
        progress: Show a progress bar on stderr.
        saved: Where the training stands; None: it begins, and is not saved.

    Returns:
        The outcome, whose details hold the losses and accuracies of all epochs, and the accuracy of the last one beside
        the best; and the model (normalised images -> logits): the last epoch's, or the chosen one's where it was not
        chosen on the test images.

    Raises:
        UsageError: The loss stops being a number.
        VerificationFailed: What was saved is damaged.
    """
    side, target = checkpoint.preprocessing.input_size[1], shrunk(target, settings.shrink)
    outputs = OUTPUTS.get(target.name, len(target.classes)) if settings.extra_outputs else len(target.classes)
    model = with_new_head(checkpoint, outputs, seed, device, weights=weights)
    mean, std = checkpoint.preprocessing.mean, checkpoint.preprocessing.std
    if settings.target_statistics:
        mean, std = STATISTICS.get(target.name, _PLAIN)  # type: ignore[assignment]
    trained, checked = _splits(target, settings, seed)
    view = View(side, round(side / 0.875))  # of 256 pixels the 224 in the middle
    train, check, test = (as_files(data, view) for data in (trained, checked, target.test))
    network = PixelModel(model, mean, std)
    choose_trainable(model, "head" if settings.mode == "fixed-feature" else "all")
    with seeded(seed, _DRAWN, device):
        losses, scores, best_epoch = fit(network, train, check, settings, seed, device, progress, saved or Saved())
    found = scores[best_epoch]
    if not settings.choose_on_test:
        found = score(predictions(network, test.batches(250), device), test.labels)
    details: dict[str, Any] = {
        "best_epoch": best_epoch,
        "last_epoch_accuracy": 100 * scores[-1][0] / scores[-1][1],
        "losses": losses,
        "accuracies": [100 * correct / n for correct, n, _ in scores],
        "quirks": [said[not getattr(settings, name)] for name, said in QUIRKS.items()],
    }
    return Outcome(*found, chosen={"epoch": best_epoch}, details=details), model.eval()


def _splits(target: Target, settings: Salman2020, seed: int) -> tuple[Dataset, Dataset]:
    """Upstream trains on training and validation images where there are both (aircraft, dtd)."""
    if settings.choose_on_test:
        return target.train_and_val, target.test
    if target.val is not None:
        return target.train, target.val
    check, train = hold_out(target.train.labels, 0.2, seed)
    return target.train.subset(train), target.train.subset(check)


def fit(
    network: PixelModel, train: Any, check: Any, settings: Salman2020, seed: int, device: torch.device, progress: bool,
    saved: Saved,
) -> tuple[list[float], list[tuple[int, int, float]], int]:  # fmt: skip
    """Upstream's loop: robustness.train.train_model with SGD, StepLR, no attack.

    Args:
        network: Takes [0, 1] images; trained in place, and given the best epoch's weights at the end when that epoch
            is not chosen on the test images.
        train: Training images, as files.
        check: The images that the best epoch is chosen on, as files.
        settings: Mode, rates and quirks.
        seed: Of the order of images and their crops.
        device: Where the network is.
        progress: Show a progress bar on stderr.
        saved: Where the training stands.

    Returns:
        The mean loss and the (correct, n, mean per-class) of every epoch, and the best one, the first of tied ones.
    """
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad],
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    losses: list[float] = []
    scores: list[tuple[int, int, float]] = []
    kept: dict[str, Tensor] = {}
    parts = {"network": network, "optimizer": optimizer, "losses": losses, "scores": scores, "kept": kept}
    for epoch in saved.epochs(settings.epochs, parts, label=f"salman2020 {settings.mode}" * progress):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * 0.1 ** (epoch // settings.step)
        network.train()
        if settings.mode == "fixed-feature" and not settings.moving_bn:
            freeze_batch_norm(network)
        indices = order(len(train), settings.batch_size, seed, epoch)
        batches = train.train_batches(indices, seed=seed, epoch=epoch, device=device)
        losses.append(
            train_epoch(batches, indices, lambda x, y, _: F.cross_entropy(network(x), y), optimizer, device=device)
        )
        scores.append(score(predictions(network, check.batches(250), device), check.labels))
        if _best(scores) == epoch and not settings.choose_on_test:
            kept.update({name: value.clone() for name, value in network.state_dict().items()})
    if kept:
        network.load_state_dict(kept)
    return losses, scores, _best(scores)


def _best(scores: Sequence[tuple[int, int, float]]) -> int:
    """The epoch with the most right, the first of tied ones."""
    return max(range(len(scores)), key=lambda epoch: scores[epoch][0])


def variants(settings: Salman2020, datasets: Iterable[str]) -> list[Salman2020]:
    """The settings, and for each quirk that matters in their mode and to one of the datasets, those without it.

    Args:
        settings: With all quirks, or some.
        datasets: Names of targets.

    Returns:
        `settings` first.
    """
    idle = {"moving_bn": settings.mode != "fixed-feature", "extra_outputs": not OUTPUTS.keys() & set(datasets)}
    off = [quirk for quirk in QUIRKS if getattr(settings, quirk) and not idle.get(quirk)]
    return [settings, *(replace(settings, **{quirk: False}) for quirk in off)]  # type: ignore[arg-type]
