"""The `finetune` protocol: a network trained on the target, by rates and decays chosen on validation images.

Its options hold Shafahi et al. 2020 (Adversarially robust transfer learning): a new head on frozen robust features, and
training everything while the features stay near the source's (learning without forgetting).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_zoo.architectures.batch_norm import freeze_batch_norm
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.choices import Rule, one_of
from robust_zoo.training.data.dataset import Dataset, Images
from robust_zoo.training.objectives import features_and_logits
from robust_zoo.training.transfer.features import Backbone, as_files, batches_for, features, read_through, shrunk
from robust_zoo.training.transfer.network import (
    OPTIMIZERS,
    choose_trainable,
    in_pixels,
    order,
    predictions,
    rate,
    seeded,
    train_epoch,
    with_new_head,
)
from robust_zoo.training.transfer.protocols.settings import check, refused
from robust_zoo.training.transfer.saved import Saved
from robust_zoo.training.transfer.splits import hold_out, stratified_split
from robust_zoo.training.transfer.task import Outcome, Target, joined, score
from robust_zoo.views import View
from robust_zoo.weights.ensure import Weights, ensure

_PARTS = Rule(
    "all, head, or last-K: K blocks before the head too",
    lambda part: bool(re.fullmatch(r"all|head|last-\d{1,3}", part)),
)
_DRAWN = 0xD809  # which randomness of a seed


@dataclass(frozen=True)
class Finetune:
    """Settings of the `finetune` protocol.

    Attributes:
        optimizer: "sgd" or "adamw".
        lrs: The grid's learning rates.
        weight_decays: The grid's weight decays.
        epochs: Passes over the training images, in each training.
        batch_size: Images per step.
        warmup: Share of the steps that the rate rises in, before it falls as a cosine.
        label_smoothing: Part of a label that is spread over all classes, in [0, 1).
        part: "all", "head", or "last-K": the head and K blocks before it.
        bn: "train", or "frozen" at the source's statistics.
        augment: Crops and flips.
        lwf: Weight of the distance to the source's features, 0 for none: the L1 norm summed over the units, averaged
            over the batch, on clean unaugmented images with BatchNorm frozen; the head alone is trained in the first
            half of the steps (RobustTransferLWF's released recipe; its lambda is 0.005 for 640 units).
        holdout: Part of the training images to choose on where there is no validation split.
        train_size: Training images per class, a stratified split by the seed; all where it is not set.
        shrink: The shorter side, in pixels, that images are first brought to, 0 for none.

    Raises:
        UsageError: A value may not be that, or lwf is there with what it cannot go with.
    """

    optimizer: str = "sgd"
    lrs: tuple[float, ...] = (0.001, 0.01)
    weight_decays: tuple[float, ...] = (0.0, 5e-4)
    epochs: int = 20
    batch_size: int = 64
    warmup: float = 0.1
    label_smoothing: float = 0.0
    part: str = "all"
    bn: str = "train"
    augment: bool = True
    lwf: float = 0.0
    holdout: float = 0.2
    train_size: int | None = None
    shrink: int = 0

    def __post_init__(self) -> None:
        check(self, optimizer=one_of(OPTIMIZERS), bn=one_of(("train", "frozen")), part=_PARTS)
        if self.lwf and (self.augment or self.bn != "frozen" or self.part != "all"):
            keeps = "it keeps the features of the very images that are trained on"
            raise refused(Finetune, "lwf", self.lwf, f'0; or augment = false, bn = "frozen", part = "all": {keeps}')


def finetune(
    checkpoint: Checkpoint,
    target: Target,
    settings: Finetune,
    *,
    cache: Path,
    weights: Weights | None = None,
    seed: int = 0,
    device: torch.device,
    progress: bool = False,
    saved: Saved | None = None,
) -> tuple[Outcome, nn.Module]:
    """Trains each point of the grid, chooses on validation images, trains once more on both together, tests once.

    Args:
        checkpoint: What is transferred.
        target: What it is transferred to.
        settings: The grid, and how each point is trained.
        cache: The folder of the source's features, for `lwf`.
        weights: Verified already; the checkpoint's when None.
        seed: Of splits, the new head, the order of images, and what networks draw in training (DropPath).
        device: Where the network is trained.
        progress: Show progress bars on stderr.
        saved: Where the trainings stand; None: they begin, and are not saved.

    Returns:
        The outcome, and the model (normalised images -> logits).

    Raises:
        UsageError: The loss stops being a number, or the network has no such part.
        VerificationFailed: An image cannot be decoded, or what was saved is damaged.
    """
    target = shrunk(target, settings.shrink)
    train = target.train
    if settings.train_size is not None:
        train = train.subset(stratified_split(train.labels, settings.train_size, seed)[0])
    if target.val is not None:
        fit, check, both = train, target.val, joined(train, target.val)
    else:
        held, kept = hold_out(train.labels, settings.holdout, seed)
        fit, check, both = train.subset(kept), train.subset(held), train
    for later in (check, target.test):
        read_through(later, checkpoint.preprocessing)
    training = _Training(
        checkpoint, weights or ensure(checkpoint), len(target.classes), settings, cache, seed, device, progress,
        saved or Saved(),
    )  # fmt: skip
    grid = [{"lr": lr, "weight_decay": decay} for lr, decay in product(settings.lrs, settings.weight_decays)]
    tried: list[dict[str, Any]] = training.saved.earlier
    for point in grid[len(tried) :] if len(grid) > 1 else []:
        model, _ = training.train(fit, tried, **point)
        correct, n, _ = score(training.predict(model, check), check.labels)
        tried.append(point | {"validation_accuracy": 100 * correct / n})
    chosen = max(tried, key=lambda t: t["validation_accuracy"]) if tried else grid[0]
    chosen = {name: chosen[name] for name in ("lr", "weight_decay")}
    model, losses = training.train(both, tried, **chosen)
    found = score(training.predict(model, target.test), target.test.labels)
    return Outcome(*found, chosen, tried, {"n_train": len(both), "losses": losses}), model


@dataclass(frozen=True)
class _Training:
    checkpoint: Checkpoint
    weights: Weights
    classes: int
    settings: Finetune
    cache: Path
    seed: int
    device: torch.device
    progress: bool
    saved: Saved

    def predict(self, model: nn.Module, data: Dataset) -> Tensor:
        batches = batches_for(data, self.checkpoint.preprocessing, 250)
        return predictions(in_pixels(model, self.checkpoint), batches, self.device)

    def train(
        self, data: Dataset, tried: list[dict[str, Any]], *, lr: float, weight_decay: float
    ) -> tuple[nn.Module, list[float]]:
        """The model after all epochs, and each epoch's mean loss; `tried` came of the trainings before it."""
        s = self.settings
        model = with_new_head(self.checkpoint, self.classes, self.seed, self.device, weights=self.weights)
        network = in_pixels(model, self.checkpoint)
        choose_trainable(model, s.part)
        optimizer = OPTIMIZERS[s.optimizer](
            [p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=weight_decay
        )
        source = self._source_features(data) if s.lwf else None
        a_epoch = math.ceil(len(data) / s.batch_size)
        steps = s.epochs * a_epoch

        def before_step(begun: int, step: int) -> None:
            done = begun + step
            for group in optimizer.param_groups:
                group["lr"] = rate(lr, done / steps, s.warmup)
            if source is not None:
                choose_trainable(model, "all" if 2 * done >= steps else "head")

        def loss_of(images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
            if source is None:
                return F.cross_entropy(network(images), labels, label_smoothing=s.label_smoothing)
            z, logits = features_and_logits(network, images)
            kept = (z - source[index].to(z.device)).abs().sum(1).mean()
            return F.cross_entropy(logits, labels, label_smoothing=s.label_smoothing) + s.lwf * kept

        losses: list[float] = []
        parts = {"model": model, "optimizer": optimizer, "losses": losses}
        label = f"{self.checkpoint.name} lr {lr:g} wd {weight_decay:g}"
        with seeded(self.seed, _DRAWN, self.device):
            for epoch in self.saved.epochs(s.epochs, parts, tried, label * self.progress):
                model.train()
                if s.bn == "frozen" or s.part == "head":
                    freeze_batch_norm(model)
                indices = order(len(data), s.batch_size, self.seed, epoch)
                batches, step = self._batches(data, indices, epoch), partial(before_step, epoch * a_epoch)
                losses.append(train_epoch(batches, indices, loss_of, optimizer, device=self.device, before_step=step))
        return model.eval(), losses

    def _batches(self, data: Dataset, indices: Any, epoch: int) -> Any:
        side = self.checkpoint.preprocessing.input_size[1]
        if not self.settings.augment:
            return (next(batches_for(data.subset(i), self.checkpoint.preprocessing, len(i))) for i in indices)
        if not (isinstance(data, Images) and data.images.shape[-1] == side):  # small nets know the field's pad and crop
            data = as_files(data, View.of(self.checkpoint.preprocessing))
        return data.train_batches(indices, seed=self.seed, epoch=epoch, device=self.device)

    def _source_features(self, data: Dataset) -> Tensor:
        return torch.from_numpy(
            np.array(features(Backbone(self.checkpoint, self.device, weights=self.weights), data, self.cache))
        )
