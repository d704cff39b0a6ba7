"""`robust-zoo evaluate`: names, images and attacks -> ledger entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from robust_zoo.errors import UsageError
from robust_zoo.factory import create_model
from robust_zoo.normalize import PixelModel, pixel_model
from robust_zoo.registry import get
from robust_zoo.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.data import Dataset, spread
from robust_zoo.training.evaluation import checks, engine, ledger
from robust_zoo.training.evaluation.datasets import open_dataset
from robust_zoo.training.evaluation.suite import suite
from robust_zoo.training.fold import attack_copy
from robust_zoo.weights import ensure

_CHECKED = 64  # images the checks look at


@dataclass(frozen=True)
class Plan:
    """What to evaluate on which images.

    threats: empty means what each model was trained for. n: images evenly spread through the dataset, all when None.
    """

    attack: str = "autoattack"
    threats: Sequence[ThreatModel] = ()
    n: int | None = None
    batch_size: int = 250
    seed: int = 0
    shard: tuple[int, int] = (0, 1)
    check: bool = True


def evaluate(
    names: Sequence[str], data: str, dataset: str, book: Path, plan: Plan = Plan(), *, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Fills the ledger `book` with a cell for each model and threat model; returns the complete ones.

    data, dataset: see evaluation.datasets. Cells that exist are read; a killed evaluation goes on where it was.

    Raises UsageError before anything is computed for unknown attacks, datasets and checkpoints of other classes.
    """
    suite(plan.attack)
    rows = [get(name) for name in names]
    book.mkdir(parents=True, exist_ok=True)
    found = []
    for row in rows:
        called, images = open_dataset(dataset, data, row)
        if plan.n is not None and plan.n < len(images):
            called, images = f"{called}, {plan.n} evenly spread", spread(images, plan.n)
        for threat in _threats(row, plan):
            entry = _cell(row, images, called, threat, book, plan, torch.device(device))
            found += [entry] if entry else []
    return found


def _threats(row: Checkpoint, plan: Plan) -> Sequence[ThreatModel]:
    if not suite(plan.attack):
        return [row.threat]  # clean accuracy knows none
    if plan.threats or row.eps:
        return plan.threats or [row.threat]
    raise UsageError(
        f"{row.name} was trained for no radius", model=row.name, expected="--norm and --eps", actual="eps 0",
        next=f"robust-zoo evaluate {row.name} --norm linf --eps 4/255",
    )  # fmt: skip


def _cell(
    row: Checkpoint, images: Dataset, called: str, threat: ThreatModel, book: Path, plan: Plan, device: torch.device
) -> dict[str, Any] | None:
    weights = ensure(row).sha256
    cell = ledger.Cell(
        row.name, weights, called, images.sha256, plan.attack, threat, batch_size=plan.batch_size, seed=plan.seed
    )
    model = pixel_model(create_model(row.name).to(device)).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    stages = suite(plan.attack)
    label = f"{row.name} {plan.attack}" + (f" {threat}" if stages else "")
    shard = sum(len(piece) for piece in list(engine.chunks(len(images)))[plan.shard[0] :: plan.shard[1]])
    bar = tqdm(total=shard, unit="img", desc=label, leave=False)

    def progress(done: int, robust: int) -> None:
        bar.update(done - bar.n)
        bar.set_postfix_str(f"{100 * robust / max(done, 1):.1f} % withstood so far")

    first, _ = next(iter(images.subset(torch.arange(min(4, len(images)))).batches(4)))
    with bar:
        folded = attack_copy(model.to(memory_format=torch.channels_last), first.to(device)).model
        job = engine.Job(folded, threat, stages, plan.batch_size, plan.seed, device=device)
        return ledger.fill(
            book, cell, job, images, shard=plan.shard, progress=progress,
            flags=lambda: _flags(model, row, images, threat, device) if plan.check and stages else None,
        )  # fmt: skip


def _flags(model: PixelModel, row: Checkpoint, images: Dataset, threat: ThreatModel, device: torch.device) -> list[str]:
    few = spread(images, _CHECKED)
    pixels, labels = (torch.cat(parts).to(device) for parts in zip(*few.batches(_CHECKED), strict=True))
    p = row.preprocessing
    return checks.speaking_up(checks.Subject(model, pixels, labels, threat, p.mean, p.std))
