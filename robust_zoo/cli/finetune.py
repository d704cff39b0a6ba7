from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from robust_zoo.cli.options import CACHE_DIR, DEVICE, SAVE_SECONDS, SEED, Named, threats, use_cache
from robust_zoo.readers import read_json
from robust_zoo.threat import NORMS
from robust_zoo.training.signals import EXIT_STOPPED

_WHOLE = click.IntRange(1)
_ABOVE_0 = click.FloatRange(min=0, min_open=True)


def _modes() -> Mapping[str, Any]:
    from robust_zoo.training.transfer.tuning.modes import MODES

    return MODES


@click.command("finetune")
@click.argument("folder")
@click.option("--model", "-m", required=True, help="A checkpoint, or a file that robust-zoo wrote.")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), default="finetuned", show_default=True,
    help="The folder of the model; an interrupted fine-tuning goes on.",
)  # fmt: skip
@click.option(
    "--val", help="A folder of images to choose by; otherwise FOLDER's own, or a fifth of the training images."
)
@click.option("--mode", default="all", show_default=True, cls=Named, table=_modes, help="What is trained:")
@click.option("--k", type=_WHOLE, default=1, show_default=True, help="Of last-k.")
@click.option("--norm", type=click.Choice([*NORMS]), help="With --eps: measure robust accuracy; and train for it, when")
@click.option("--eps", help="the mode is adversarial. A radius, e.g. 0.5 or 4/255.")
@click.option("--epochs", type=_WHOLE, help="As many as make 1,500 updates, 5 to 50, when left out.")
@click.option("--lr", type=_ABOVE_0, help="The learning rate; two are tried when left out.")
@click.option("--batch-size", type=_WHOLE, default=64, show_default=True, help="Images an update.")
@click.option(
    "--autoattack", type=click.IntRange(0), default=100, show_default=True,
    help="Test images that AutoAttack is run on, with --norm and --eps; 0 leaves it out.",
)  # fmt: skip
@SEED(help="Of splits and order.")
@DEVICE
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp64"]), default="auto", show_default=True,
    help="auto: bf16 autocast on a GPU.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=4, show_default=True, help="Processes that read images.")
@SAVE_SECONDS(help="Between checkpoints, besides the one after each epoch.")
@CACHE_DIR
@click.option("--json", "as_json", is_flag=True, help="The result as JSON, instead of the table.")
def command(
    folder: str, model: str, out: Path, norm: str | None, eps: str | None, precision: str, workers: int, device: str,
    save_seconds: float, cache_dir: str | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Train a checkpoint on images of your own, keep it, and say what it lost and won.

    \b
    robust-zoo finetune photos/ --model resnet50_l2_eps3 --out mine
    robust-zoo finetune photos/ --model resnet50_l2_eps3 --mode lwf --norm l2 --eps 3 --out mine_lwf
    robust-zoo finetune photos/ --model resnet50_l2_eps3 --mode adversarial --out mine_robust

    FOLDER holds a folder of images for each class, or splits (train, val, test) of such folders or of tar shards, or is
    hfds/NAME; it is read as by robust-zoo transfer, and what was taken for what is said first. Learning rates are
    chosen on validation images; the test images are looked at once, at the end: clean accuracy and, with --norm and
    --eps, that under PGD-20 and AutoAttack, before (the checkpoint with a head fitted to its features) and after.

    --out gets model.safetensors, which says its classes, preprocessing and where it is from; config.json, by which timm
    loads the folder; card.md; and the evidence of every figure. SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C save and exit with
    75; the same command goes on and ends with the same file.
    """
    threat = next(iter(threats(norm, eps)), None)
    use_cache(cache_dir)
    from robust_zoo.training.machine import Machine
    from robust_zoo.training.signals import Stopped
    from robust_zoo.training.transfer.tuning.result import RESULT
    from robust_zoo.training.transfer.tuning.run import finetune

    machine = Machine(device, precision, workers, save_seconds)
    try:
        found = finetune(model, folder, threat=threat, out=out, machine=machine, **options)
    except Stopped as stopped:
        click.echo(f"stopped ({stopped}) and saved; the same command goes on", err=True)
        sys.exit(EXIT_STOPPED)
    click.echo(f"{found.path}; its card is {out / 'card.md'}", err=True)
    click.echo(json.dumps(read_json((out / RESULT).read_bytes()), indent=1) if as_json else found.table)
