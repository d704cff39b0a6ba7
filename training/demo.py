"""`robust-zoo demo`: the ladder of bundled models under attack and transferred, and what two of them see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor

from robust_zoo.counts import Count
from robust_zoo.factory import create_model
from robust_zoo.pixels import PixelModel, pixel_model
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.accuracy import pgd_accuracy
from robust_zoo.training.attacks.pgd import pgd
from robust_zoo.training.data.cifar10_sample import CLASSES, cifar10_classes, cifar10_sample
from robust_zoo.training.figures import tiles
from robust_zoo.training.figures.tiles import Row
from robust_zoo.training.transfer.protocols.work import Workspace
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
class Rung:
    """One model's accuracies on the sample.

    Attributes:
        checkpoint: Which model.
        clean: Its clean accuracy.
        robust: Its accuracy under PGD-20.
    """

    checkpoint: Checkpoint
    clean: Count
    robust: Count


@dataclass(frozen=True)
class Shown:
    """One model's view of one image per class.

    Attributes:
        checkpoint: Which model.
        adv_images: (10, 3, 32, 32) in [0, 1].
        predictions: What the model takes them for.
        gradients: (10, 3, 32, 32), of the loss in pixel space.
        drawn: (10, 3, 32, 32) in [0, 1], what it makes of noise for each class.
    """

    checkpoint: Checkpoint
    adv_images: Tensor
    predictions: list[str]
    gradients: Tensor
    drawn: Tensor


def ladder() -> list[Checkpoint]:
    """The bundled CIFAR-10 models of the demo's norm, from standard training to the largest radius."""
    return sorted(map(get, list_models(norm=_THREAT.norm, bundled=True)), key=lambda checkpoint: checkpoint.eps)


def run_demo(out: Path, n: int = 200, *, progress: bool = True) -> list[Rung]:
    """Verifies the models, measures them on `n` bundled images under PGD-20 at L2 0.5, draws `out` (a PNG) of two.

    Args:
        out: The picture's path.
        n: A multiple of 10 up to 1,000.
        progress: Whether to show a progress bar on stderr.

    Returns:
        What was measured, rung by rung.

    Raises:
        VerificationFailed: A bundled file is damaged.
    """
    data = cifar10_sample(max(1, min(n, 1000) // CLASSES))
    first = torch.arange(CLASSES) * (len(data) // CLASSES)
    images, labels = data.images[first].float() / 255, data.labels[first]
    rungs, shown = [], []
    for checkpoint in ladder():
        model = pixel_model(create_model(checkpoint.name).eval())
        clean = pgd_accuracy(model, data, _THREAT, steps=0)
        label = f"attacking {checkpoint.name}" if progress else ""
        robust = pgd_accuracy(model, data, _THREAT, steps=_STEPS, progress=label)
        rungs.append(Rung(checkpoint, clean, robust))
        if checkpoint.eps in (0, _THREAT.eps):
            shown.append(_shown(checkpoint, model, images, labels))
    draw(images, shown).save(out)
    return rungs


def _shown(checkpoint: Checkpoint, model: PixelModel, images: Tensor, labels: Tensor) -> Shown:
    whole = search_for("synthesis", images.shape[-1])
    search = replace(whole, steps=max(1, whole.steps // 2))  # paler than by `visualize`, in half the time
    adv_images = pgd(model, images, labels, _THREAT, steps=_STEPS, step_size=_STEP_SIZE)
    with torch.no_grad():
        predictions = [cifar10_classes()[i] for i in model(adv_images).argmax(1)]
    found, drawn = gradients(model, images, labels), synthesise(model, labels, search=search)
    return Shown(checkpoint, adv_images, predictions, found, drawn)


def transferred() -> dict[str, str]:
    """The paper's claim on scikit-learn's digits, which no model has seen: linear probes on features of the ladder.

    Returns:
        Each model's name, and its accuracy as text.
    """
    with TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "cells", Path(folder) / "features", progress=False)
        found = figures(transfer([checkpoint.name for checkpoint in ladder()], (digits,), SAMPLE_PLAN, workspace))
    return {figure.model.name: value_text(figure) for figure in found}


def table(rungs: Sequence[Rung], transfers: Mapping[str, str]) -> str:
    """The ladder as text.

    Args:
        rungs: What was measured on the sample.
        transfers: Each model's accuracy on digits; none where they are not installed.

    Returns:
        A line for each rung, and what the columns are of.
    """
    lines = [f"{'model':<34}{'clean':>8}{f'PGD-{_STEPS} {_THREAT}':>20}{'to digits' if transfers else '':>16}"]
    for rung in rungs:
        name = rung.checkpoint.name
        attacked = f"{rung.clean.accuracy:>6.1f} %{rung.robust.accuracy:>18.1f} %"
        lines.append(f"{name:<34}{attacked}{transfers.get(name, ''):>16}".rstrip())
    at = next(rung for rung in rungs if rung.checkpoint.threat == _THREAT)
    low, high = (f"{end:.0f}" for end in at.robust.interval)
    lines.append(
        f"{at.clean.n} bundled CIFAR-10 test images; 95 % interval of {at.robust.accuracy:.1f} %: {low}-{high} %"
    )
    if transfers:
        draws = len(SAMPLE_PLAN.seeds)
        lines.append(f"to digits, which no model has seen: linear probes, 20 labels a class, mean of {draws} draws")
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
