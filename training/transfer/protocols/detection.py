"""The `detection` protocol: Faster R-CNN or Mask R-CNN on a checkpoint, tested by COCO's average precision."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.choices import one_of
from robust_zoo.training.detection.backbone import detection_backbone
from robust_zoo.training.detection.detectors import batches, detections, detector
from robust_zoo.training.detection.scenes import DetectionTarget, Scenes
from robust_zoo.training.detection.scores import Tally
from robust_zoo.training.transfer.network import OPTIMIZERS, descend, order, rate, seeded
from robust_zoo.training.transfer.protocols.settings import check
from robust_zoo.training.transfer.saved import Saved
from robust_zoo.training.transfer.task import Outcome
from robust_zoo.weights.ensure import Weights

_HEAD, _FLIPS = 0xDE7, 0xF11  # which randomness of a seed


@dataclass(frozen=True)
class Detection:
    """Settings of the `detection` protocol. Nothing is chosen: the defaults are torchvision's, for eight images a step.

    Attributes:
        masks: Mask R-CNN and AP of masks too, instead of Faster R-CNN.
        part: "all", or "head": the network is fixed, the pyramid and what stands on it are trained.
        optimizer: "sgd" or "adamw".
        lr: The highest learning rate.
        weight_decay: Of all that is trained.
        epochs: Passes over the training images.
        batch_size: Images per step.
        warmup: Share of the steps that the rate rises in, before it falls as a cosine.
        side: The shorter side that images are brought to, in pixels.
        longest: The most pixels of the other side.
        maps: Of the network so many, the coarsest, make the pyramid.
        width: Channels of the pyramid.
        samples: Boxes of an image that the head is trained on, in each step.
        flip: Mirror half of the training images, left to right.

    Raises:
        UsageError: A value may not be that.
    """

    masks: bool = False
    part: str = "all"
    optimizer: str = "sgd"
    lr: float = 0.01
    weight_decay: float = 1e-4
    epochs: int = 12
    batch_size: int = 8
    warmup: float = 0.05
    side: int = 800
    longest: int = 1333
    maps: int = 4
    width: int = 256
    samples: int = 512
    flip: bool = True

    def __post_init__(self) -> None:
        check(self, optimizer=one_of(OPTIMIZERS), part=one_of(("all", "head")))


def detection(
    checkpoint: Checkpoint,
    target: DetectionTarget,
    settings: Detection,
    *,
    weights: Weights | None = None,
    seed: int = 0,
    device: torch.device,
    progress: bool = False,
    saved: Saved | None = None,
) -> tuple[Outcome, nn.Module]:
    """Trains a detector on the checkpoint and tests it once.

    Args:
        checkpoint: What is transferred.
        target: Images with objects.
        settings: The detector, and how it is trained.
        weights: Verified already; the checkpoint's when None.
        seed: Of all that starts at random, the order of images and the flips.
        device: Where the detector is.
        progress: Show progress bars on stderr.
        saved: Where the training stands; None: it begins, and is not saved.

    Returns:
        The outcome, and the detector: lists of [0, 1] images -> boxes, labels and scores. The outcome's figure is AP
        of boxes, in percent; its count is of objects found at an IoU of .5; its details have all twelve figures.

    Raises:
        UsageError: The loss stops being a number, an image cannot be read, or masks are asked for that are not there.
        VerificationFailed: An image cannot be decoded, or has another size than its objects were marked in; or what
            was saved is damaged.
    """
    for _ in batches(target.test, _one_by_one(target.test), masks=settings.masks):
        pass  # what is wrong with a test image is said before the training, not after it
    with seeded(seed, _HEAD, device):
        s = settings
        backbone = detection_backbone(checkpoint, frozen=s.part == "head", maps=s.maps, width=s.width, weights=weights)
        model = detector(
            backbone, len(target.classes), masks=s.masks, side=s.side, longest=s.longest, samples=s.samples
        ).to(device)
        label = f"{checkpoint.name} detection" * progress
        losses = _train(model, target.train, settings, seed, device, label, saved or Saved())
    tallies = test(model, target.test, masks=settings.masks, device=device, progress=progress)
    correct, n = tallies["boxes"].found()
    scores = {kind: asdict(tally.scores()) for kind, tally in tallies.items()}
    details = {"n_train": len(target.train), "losses": losses, "ap": scores}
    return Outcome(correct, n, 100 * (scores["boxes"]["ap"] or 0.0), details=details), model


def _train(
    model: nn.Module, scenes: Scenes, s: Detection, seed: int, device: torch.device, label: str, saved: Saved
) -> list[float]:
    """Each epoch's mean loss."""
    optimizer = OPTIMIZERS[s.optimizer](
        [p for p in model.parameters() if p.requires_grad], lr=s.lr, weight_decay=s.weight_decay
    )
    a_epoch = math.ceil(len(scenes) / s.batch_size)
    losses: list[float] = []
    parts = {"model": model, "optimizer": optimizer, "losses": losses}
    steps = s.epochs * a_epoch
    model.train()
    with tqdm(total=steps, unit="step", desc=label, disable=not label, leave=False) as bar:
        for epoch in saved.epochs(s.epochs, parts):
            bar.update(epoch * a_epoch - bar.n)  # to where it goes on
            flips = np.random.default_rng((seed, epoch, _FLIPS)).random(len(scenes)) < 0.5 * s.flip
            keys = [
                [(i, bool(flips[i])) for i in part.tolist()] for part in order(len(scenes), s.batch_size, seed, epoch)
            ]
            total = 0.0
            for step, batch in enumerate(batches(scenes, keys, masks=s.masks), epoch * a_epoch):
                for group in optimizer.param_groups:
                    group["lr"] = rate(s.lr, step / steps, s.warmup)
                optimizer.zero_grad(set_to_none=True)
                images = [image.to(device) for image, _ in batch]
                targets = [{name: value.to(device) for name, value in wanted.items()} for _, wanted in batch]
                loss = torch.stack([*model(images, targets).values()]).sum()
                descend(loss, optimizer, step)
                total += loss.item() * len(batch)
                bar.update()
            losses.append(total / len(scenes))
            bar.set_postfix_str(f"loss {losses[-1]:.3f}")
    return losses


def _one_by_one(scenes: Scenes) -> list[list[tuple[int, bool]]]:
    return [[(i, False)] for i in range(len(scenes))]


@torch.no_grad()
def test(
    model: nn.Module, scenes: Scenes, *, masks: bool, device: torch.device, progress: bool = False
) -> dict[str, Tally]:
    """Looks for objects.

    Args:
        model: A detector; in eval mode afterwards.
        scenes: Images with objects.
        masks: Also compare masks.
        device: Where the model is.
        progress: Show a bar on stderr.

    Returns:
        What was found, as "boxes" and, with masks, "masks".
    """
    model.eval()
    tallies = {"boxes": Tally()} | ({"masks": Tally(masks=True)} if masks else {})
    loaded = batches(scenes, _one_by_one(scenes), masks=False)
    for scene, [(image, _)] in tqdm(
        zip(scenes.images, loaded, strict=True), total=len(scenes), unit="img", disable=not progress, leave=False
    ):
        found = detections(model([image.to(device)])[0])
        truth = scene.with_masks() if masks else scene.objects
        for tally in tallies.values():
            tally.add(truth, found)
    return tallies
