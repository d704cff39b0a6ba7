"""`robust-zoo evaluate`: names, images and attacks -> ledger entries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.precision import require_precision
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.choices import CORRUPTED, FP32
from robust_zoo.training.data.dataset import Dataset, spread
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.distributed import device_of
from robust_zoo.training.evaluation import checks, engine, ledger
from robust_zoo.training.evaluation.corruptions import OURS, our_corruptions
from robust_zoo.training.evaluation.datasets import DATASETS, open_dataset
from robust_zoo.training.evaluation.entries import EntryKey
from robust_zoo.training.evaluation.of_series import How, table_of
from robust_zoo.training.evaluation.progress import bar, show
from robust_zoo.training.evaluation.series import Series
from robust_zoo.training.evaluation.shared import Origin, attack_elsewhere
from robust_zoo.training.evaluation.threats import own_threat
from robust_zoo.training.jobs.workers import Workers
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.exported import checkpoint_of

_CHECKED = 64  # images the checks look at


@dataclass(frozen=True)
class EvaluationPlan:
    """What to evaluate on which images.

    Attributes:
        attack: A name that `attacks.suites.suite` knows, or "corruptions"; "none" is clean accuracy.
        threats: The threat models; empty means what each model was trained for.
        n: Images, evenly spread through the dataset; all when None.
        batch_size: Images per batch; part of a figure's settings.
        seed: Of the attacks, or of the corruptions.
        shard: (i, k): every k-th chunk of images from the i-th.
        check: Look for reasons why a figure would mean nothing.
        precision: A name of `choices.PRECISIONS`; any but "fp32" is a part of a figure's settings.
    """

    attack: str = "autoattack"
    threats: Sequence[ThreatModel] = ()
    n: int | None = None
    batch_size: int = 250
    seed: int = 0
    shard: tuple[int, int] = (0, 1)
    check: bool = True
    precision: str = FP32


def evaluate(
    names: Sequence[str | Checkpoint],
    data: str,
    dataset: str,
    ledger_dir: Path,
    plan: EvaluationPlan = EvaluationPlan(),
    *,
    device: str = "auto",
    jobs: int = 1,
) -> list[dict[str, Any]]:
    """Fills a ledger with an entry for each model and threat model, or with one table for each model.

    Entries that exist are read; a killed evaluation goes on where it was, with as many processes as one likes. They
    share the batches of each attack, and the cores between them; the entries are those of one, but for their times.

    Args:
        names: Of checkpoints, or files that robust-zoo wrote, or checkpoints.
        data: The file or folder with the images; "" for what comes with the package.
        dataset: A name of `evaluation.datasets.DATASETS`; "" for what `data` turns out to be.
        ledger_dir: The ledger's folder; made where it is not there.
        plan: Attack, threat models and number of images.
        device: "auto", "cpu", "cuda" or "cuda:N".
        jobs: Processes that share the work, each with the model in its memory, all of them on the device.

    Returns:
        The complete entries, model by model; those that other shards still work on are left out.

    Raises:
        UsageError: Before anything is computed, for unknown attacks and datasets, checkpoints of other classes, and a
            model without a radius where the plan gives no threat model.
        UnknownCheckpoint: No checkpoint has that name.
        VerificationFailed: An existing entry is not sound.
        StorageError: The disk refuses a file, or one of the processes was killed.

    Example:
        >>> plan = EvaluationPlan("pgd-20", n=1000)
        >>> evaluate(["resnet50_l2_eps3"], "imagenet/val", "imagenet", Path("results"), plan)
    """
    check_attack(plan.attack, dataset)
    on = device_of(device)
    require_precision(plan.precision, on)
    checkpoints = [checkpoint_of(name) for name in names]
    ledger_dir.mkdir(parents=True, exist_ok=True)
    found, notes = [], set[str]()
    opened: dict[Any, tuple[str, Dataset | Series]] = {}  # each file of images is read for its hash once
    seed = plan.seed if plan.attack in CORRUPTED else 0  # nothing in images that are there already is of it
    how = How(on, plan.batch_size, seed, plan.precision, plan.shard)
    for checkpoint in checkpoints:  # all of them, before the first is measured
        kind = (checkpoint.dataset, checkpoint.preprocessing)
        opened[kind] = opened.get(kind) or _open(dataset, data, checkpoint, plan, notes)
        threats_of(checkpoint, plan)
    with Workers(jobs) as workers:
        for checkpoint in checkpoints:
            called, images = opened[checkpoint.dataset, checkpoint.preprocessing]
            if isinstance(images, Series):
                entry = table_of(checkpoint, images, called, ledger_dir, how, workers)
                found += [entry] if entry else []
            else:
                found += _of_model(checkpoint, images, called, ledger_dir, plan, on, workers)
    return found


def check_attack(attack: str, dataset: str) -> None:
    """Makes sure that an attack is one, and fits the images.

    Args:
        attack: A name that `attacks.suites.suite` knows, or of `choices.CORRUPTED`.
        dataset: A name of `evaluation.datasets.DATASETS`; "" where it is not said.

    Raises:
        UsageError: It is none; or the images are to be looked at as they are.
    """
    if dataset in DATASETS and DATASETS[dataset].table and attack != "none":
        raise UsageError(
            f"figures on {dataset} are of its images as they are",
            expected="--attack none, or no --attack",
            actual=f"--attack {attack}",
            next=f"robust-zoo evaluate NAME --dataset {dataset} --data DIR",
        )
    if attack not in CORRUPTED:
        suite(attack)


def _open(
    dataset: str, data: str, checkpoint: Checkpoint, plan: EvaluationPlan, notes: set[str]
) -> tuple[str, Dataset | Series]:
    """The images that a plan wants, and what they are called."""
    called, images = open_dataset(dataset, data, checkpoint)
    if isinstance(images, ImageFiles) and images.source.note not in notes:
        notes.add(images.source.note)
        tqdm.write(images.source.note, file=sys.stderr)
    if plan.attack in CORRUPTED and not isinstance(images, Series):
        drawn = f"{OURS}, seed {plan.seed}" if plan.seed else OURS
        called, images = f"{called}, {drawn}", our_corruptions(images, plan.seed)
    count = images.count if isinstance(images, Series) else len(images)
    if plan.n is None or plan.n >= count:
        return called, images
    some = images.spread(plan.n) if isinstance(images, Series) else spread(images, plan.n)
    return f"{called}, {plan.n} evenly spread", some


def threats_of(checkpoint: Checkpoint, plan: EvaluationPlan) -> Sequence[ThreatModel]:
    """The threat models that a plan measures a checkpoint under. Raises UsageError where there is none."""
    if plan.attack in CORRUPTED or not suite(plan.attack):
        return [checkpoint.threat]  # which is not asked for
    return plan.threats or [own_threat(checkpoint, f"evaluate {checkpoint.name}")]


def _of_model(
    checkpoint: Checkpoint, images: Dataset, called: str, ledger_dir: Path, plan: EvaluationPlan, device: torch.device,
    workers: Workers,
) -> list[dict[str, Any]]:  # fmt: skip
    """The complete entries of one model. Checks of the model alone are made once."""
    weights, data_sha256, stages = ensure(checkpoint), images.sha256, suite(plan.attack)
    few = spread(images, _CHECKED)
    pixels, labels = (torch.cat(parts) for parts in zip(*few.batches(_CHECKED), strict=True))
    origin = Origin(checkpoint, weights.sha256, device, pixels[:4].numpy())
    model, folded = origin.models(weights)
    p, threats = checkpoint.preprocessing, threats_of(checkpoint, plan)
    checked = checks.Subject(model, pixels.to(device), labels.to(device), threats[0], p.mean, p.std)
    failed: list[str] | None = None

    def flags(threat: ThreatModel) -> list[str] | None:
        nonlocal failed
        if plan.check and stages:
            failed = checks.failed_checks(replace(checked, threat=threat), failed)
        return failed

    how: Any = {"batch_size": plan.batch_size, "seed": plan.seed, "precision": plan.precision}
    found = []
    for threat in threats:
        key = EntryKey(checkpoint.name, weights.sha256, called, data_sha256, plan.attack, threat, **how)
        attack = partial(attack_elsewhere, workers, origin) if workers.jobs > 1 else None
        evaluation = engine.Evaluation(folded, threat, stages, device=device, attack=attack, **how)
        label = f"{checkpoint.name} {plan.attack}" + (f" {threat}" if stages else "")
        with bar(label) as shown:
            entry = ledger.complete(
                ledger_dir, key, evaluation, images, shard=plan.shard, flags=partial(flags, threat),
                report=partial(show, shown),
            )  # fmt: skip
        found += [entry] if entry else []
    return found
