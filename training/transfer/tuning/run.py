"""`robust-zoo finetune`: a checkpoint and images of one's own -> a network that is kept, measured before and after."""

from __future__ import annotations

import hashlib
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from robust_zoo.errors import UsageError
from robust_zoo.files import GO_ON, storage
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.distributed import World, device_of
from robust_zoo.training.machine import Machine
from robust_zoo.training.run_lock import lock
from robust_zoo.training.signals import Interrupt
from robust_zoo.training.transfer.about import About
from robust_zoo.training.transfer.tuning import figures
from robust_zoo.training.transfer.tuning.images import Split, open_split
from robust_zoo.training.transfer.tuning.in_memory import source_of
from robust_zoo.training.transfer.tuning.modes import Tuning, mode_of, usual_epochs
from robust_zoo.training.transfer.tuning.result import Finetuned, finish, finished, require_same_run
from robust_zoo.training.transfer.tuning.start import probe, probed
from robust_zoo.training.transfer.tuning.tries import Tuner, choose
from robust_zoo.weights.cache import cache_root
from robust_zoo.weights.ensure import ensure


def finetune(
    name_or_model: str | Path | Checkpoint | nn.Module,
    data: Any,
    *,
    val: Any = None,
    mode: str = "all",
    k: int = 1,
    threat: ThreatModel | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int = 64,
    weight_decay: float = 5e-4,
    autoattack: int = 100,
    seed: int = 0,
    out: str | Path = "finetuned",
    device: str = "auto",
    machine: Machine = Machine(),
) -> Finetuned:
    """Trains a checkpoint's network on images of one's own, and keeps it.

    The new head begins as a logistic regression on the source's features. The loop is that of every training here: a
    run that was cut off anywhere goes on with the same call, and ends with the same file. Learning rates are tried on
    the training images and chosen by the validation images; the test images are looked at once, when all is decided.

    Args:
        name_or_model: A checkpoint's name, a file of weights that robust-zoo wrote, a checkpoint, or a
            model that timm or this package made.
        data: A folder of class folders, with splits or without; tar shards; a dataset's name; or a Dataset of torch's
            whose items are images and labels. Without a split for testing a fifth of the images is.
        val: Images to choose by, of the same kinds; None: the validation split, or else a fifth of the training images.
        mode: "all" layers, the "head" alone, "last-k" blocks and the head, "lwf" (features held near the source's) or
            "adversarial" (PGD training).
        k: Of "last-k".
        threat: What robust accuracy is measured under, and what "adversarial" trains for; None: for "adversarial"
            what the checkpoint was trained for, else robust accuracy is not measured.
        epochs: None: as many as make about 1,500 updates, 5 to 50.
        lr: None: the mode's two are tried.
        batch_size: Images per update, all of them where there are fewer.
        weight_decay: On every parameter that is trained.
        autoattack: How many test images AutoAttack is run on, where there is a threat model; 0 leaves it out.
        seed: Of splits, the order of images, augmentation.
        out: The folder that everything is written to; made where it is not there.
        device: "auto", "cpu", "cuda" or "cuda:N"; on a GPU in bf16 autocast.
        machine: Precision, loader processes, how often to save, whether to show progress.

    Returns:
        What was made: weights, figures, recipe.

    Raises:
        UnknownCheckpoint: No checkpoint has that name.
        UsageError: Images, mode or threat are none; or `out` holds another fine-tuning, or one of other images.
        VerificationFailed: The training diverges, or an image cannot be decoded.
        Stopped: After a signal; the same call goes on.
        StorageError: The disk refuses.

    Example:
        >>> tuned = robust_zoo.finetune("resnet50_l2_eps3", "photos", threat=ThreatModel("l2", 3.0), out="mine")
        >>> print(tuned.table)
    """
    out = Path(out)
    checkpoint = source_of(name_or_model, out)
    row, aim = mode_of(mode), _aim(checkpoint, mode, threat)
    split = open_split(data, val, workers=machine.workers, seed=seed)
    batch = min(batch_size, len(split.train))
    recipe = Tuning(
        architecture=checkpoint.architecture,
        dataset=split.name,
        threat=aim if row.attacks and aim else ThreatModel(checkpoint.norm, 0.0),
        epochs=usual_epochs(len(split.train), batch) if epochs is None else epochs,
        batch_size=batch,
        lr=lr if lr is not None else row.lrs[0],
        schedule="cosine",
        augment="crop_flip",
        weight_decay=weight_decay,
        random_start=True,
        seed=seed,
        mode=mode,
        k=k,
        aim=aim,
    )
    lrs = row.lrs if lr is None else (lr,)
    if machine.progress:
        tqdm.write(f"{split.name}: {split.note}", file=sys.stderr)
    world = World(0, 1, device_of(machine.device if device == "auto" else device))
    with storage(out, GO_ON):
        out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        stack.enter_context(lock(out))
        weights = ensure(checkpoint, progress=machine.progress)
        recipe = replace(recipe, source_sha256=weights.sha256)
        require_same_run(out, recipe, lrs, split, world, machine, autoattack)
        if done := finished(out):
            return done
        seen = split.seen_by(checkpoint.preprocessing)
        cache, count = cache_root() / "features", len(split.classes)
        head = probe(
            checkpoint, weights, seen.train, seen.val, count,
            cache=cache, device=world.device, progress=machine.progress,
        )  # fmt: skip
        fitted = probed(checkpoint, weights, head)  # a network that takes no such head is refused before the work
        tuner = Tuner(checkpoint, weights, seen, head, world, machine, interrupt)
        chosen = choose(tuner, recipe, lrs, out / "runs")
        plan = figures.Plan(aim, autoattack)
        about = About(
            checkpoint, weights.sha256, split.name, split.classes, len(split.train), _sha256(split), mode,
            recipe.threat, f"Fine-tuned from {checkpoint.name}: {chosen.recipe.in_words.rstrip('.')}",
            asdict(chosen.recipe), note=split.note, chosen=chosen.in_words,
            unmeasured=plan.unmeasured(len(split.classes)),
        )  # fmt: skip
        before, after = (
            figures.measure(
                network, name, checkpoint, seen.test, f"{about.dataset_name} test", plan, classes=count,
                evidence=out / "evidence", device=world.device, interrupt=interrupt, progress=machine.progress,
            )
            for network, name in ((fitted, "before"), (chosen.network, "after"))
        )  # fmt: skip
        return finish(out, chosen, replace(about, metrics=after), before)


def _aim(checkpoint: Checkpoint, mode: str, threat: ThreatModel | None) -> ThreatModel | None:
    """What robustness is measured under. Raises UsageError where adversarial training has no radius."""
    aim = threat or (checkpoint.threat if mode_of(mode).attacks else None)
    if aim is not None and not aim.eps:
        raise UsageError(
            f"{mode!r} with a radius of 0" if threat else f"{checkpoint.name} was trained for no radius",
            model=checkpoint.name,
            expected="--norm and --eps, a radius above 0",
            actual=f"eps {aim.eps:g}",
            next=f"robust-zoo finetune FOLDER --model {checkpoint.handle} --mode {mode} --norm linf --eps 4/255",
        )
    return aim


def _sha256(split: Split) -> str:
    """Of all images, split by split."""
    return hashlib.sha256(" ".join(data.sha256 for data in split.parts.values()).encode()).hexdigest()
