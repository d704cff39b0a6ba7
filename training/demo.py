"""`robust-zoo demo`: the bundled standard and robust model side by side, on real images, in a minute on a laptop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor

from robust_zoo.counts import Count
from robust_zoo.factory import create_model
from robust_zoo.pixels import pixel_model
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.accuracy import pgd_accuracy
from robust_zoo.training.attacks.pgd import pgd
from robust_zoo.training.data.cifar10_sample import CLASSES, cifar10_classes, cifar10_sample
from robust_zoo.training.figures import tiles
from robust_zoo.training.figures.tiles import Row
from robust_zoo.training.transfer.protocols.table import Workspace
from robust_zoo.training.transfer.report import figures, value_text
from robust_zoo.training.transfer.sample_suite import SAMPLE_PLAN, digits
from robust_zoo.training.transfer.sweep import transfer
from robust_zoo.visualization.changes import synthesise
from robust_zoo.visualization.kinds import search_for
from robust_zoo.visualization.saliency import as_pictures, gradients

_THREAT = ThreatModel("l2", 0.5)
_STEPS = 20
_STEP_SIZE = 2.5 * _THREAT.eps / _STEPS
_ZOOM = 4  # a 32-pixel image is drawn at 128


@dataclass(frozen=True)
class Shown:
    """One model's results: accuracies on the sample, and its view of one image per class.

    Attributes:
        checkpoint: Which model.
        clean: Its clean accuracy.
        robust: Its accuracy under PGD-20.
        adv_images: (10, 3, 32, 32) in [0, 1].
        predictions: What the model takes them for.
        gradients: (10, 3, 32, 32), of the loss in pixel space.
        drawn: (10, 3, 32, 32) in [0, 1], what it makes of noise for each class.
    """

    checkpoint: Checkpoint
    clean: Count
    robust: Count
    adv_images: Tensor
    predictions: list[str]
    gradients: Tensor
    drawn: Tensor


def bundled_pair() -> tuple[Checkpoint, Checkpoint]:
    """The bundled CIFAR-10 models the demo compares.

    Returns:
        The one of standard training, and the one trained at the demo's threat model.
    """
    names = list_models(norm=_THREAT.norm, bundled=True)
    checkpoints = {get(name).eps: get(name) for name in names}
    return checkpoints[0.0], checkpoints[_THREAT.eps]


def run_demo(out: Path, n: int = 200, *, progress: bool = True) -> list[Shown]:
    """Verifies both models, measures them on `n` bundled images under PGD-20 at L2 0.5, draws `out` (a PNG).

    Args:
        out: The picture's path.
        n: A multiple of 10 up to 1,000.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The results of both models, the standard one first.

    Raises:
        VerificationFailed: A bundled file is damaged.
    """
    data = cifar10_sample(max(1, min(n, 1000) // CLASSES))
    first = torch.arange(CLASSES) * (len(data) // CLASSES)
    images, labels = data.images[first].float() / 255, data.labels[first]
    shown, whole = [], search_for("synthesis", images.shape[-1])
    search = replace(whole, steps=max(1, whole.steps // 2))  # paler than by `visualize`, in half the time
    for checkpoint in bundled_pair():
        model = pixel_model(create_model(checkpoint.name).eval())
        clean = pgd_accuracy(model, data, _THREAT, steps=0)
        label = f"attacking {checkpoint.name}" if progress else ""
        robust = pgd_accuracy(model, data, _THREAT, steps=_STEPS, progress=label)
        adv_images = pgd(model, images, labels, _THREAT, steps=_STEPS, step_size=_STEP_SIZE)
        with torch.no_grad():
            predictions = [cifar10_classes()[i] for i in model(adv_images).argmax(1)]
        found, drawn = gradients(model, images, labels), synthesise(model, labels, search=search)
        shown.append(Shown(checkpoint, clean, robust, adv_images, predictions, found, drawn))
    draw(images, shown).save(out)
    return shown


def transfer_headline() -> str:
    """The paper's claim on scikit-learn's digits, which no model has seen: linear probes on the demo's two models."""
    checkpoints = bundled_pair()
    with TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "cells", Path(folder) / "features", progress=False)
        found = figures(transfer([checkpoint.name for checkpoint in checkpoints], (digits,), SAMPLE_PLAN, workspace))
    standard, robust = sorted(found, key=lambda f: f.model.eps)
    return (
        f"transfer to handwritten digits, 20 labels per class, mean of {robust.seeds} draws: "
        f"{value_text(standard)} on the standard model's features, {value_text(robust)} on the robust one's"
    )


def table(shown: list[Shown]) -> str:
    """The two models side by side, as text."""
    lines = [f"{'model':<34}{'clean':>10}{f'PGD-{_STEPS} {_THREAT}':>22}   training"]
    for s in shown:
        how = f"adversarial, {s.checkpoint.threat}" if s.checkpoint.eps else "standard"
        lines.append(f"{s.checkpoint.name:<34}{s.clean.accuracy:>8.1f} %{s.robust.accuracy:>20.1f} %   {how}")
    low, high = shown[-1].robust.interval
    lines.append(
        f"on {shown[0].clean.n} bundled CIFAR-10 test images; 95 % interval of the last figure {low:.0f}-{high:.0f} %"
    )
    return "\n".join(lines)


def draw(images: Tensor, shown: list[Shown]) -> Image.Image:
    """Rows of ten tiles: the images, then for each model its adversarial images, input gradients, and drawings.

    Args:
        images: (10, 3, 32, 32) in [0, 1], one per class.
        shown: The results on them.

    Returns:
        The picture.
    """
    names = cifar10_classes()
    rows = [Row("Ten test images of CIFAR-10", [*images], names)]
    for s in shown:
        kind = f"Robust model (trained at {s.checkpoint.threat})" if s.checkpoint.eps else "Standard model"
        wrong = [seen != name for seen, name in zip(s.predictions, names, strict=True)]
        attacked = f"{kind}: adversarial images ({_THREAT}) and what it takes them for (framed: wrong)"
        rows.append(Row(attacked, [*s.adv_images], s.predictions, wrong))
        rows.append(Row(f"{kind}: how its loss changes with each pixel (input gradient)", [*as_pictures(s.gradients)]))
        rows.append(Row(f"{kind}: what it makes of noise, to be sure of each class", [*s.drawn], names))
    return tiles.draw(rows, 32 * _ZOOM)
