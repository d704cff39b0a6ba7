from __future__ import annotations

import json
from pathlib import Path

import click

from robust_zoo.cli.options import CACHE_DIR, DEVICE, require_picture, select, use_cache
from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS

_PATH = click.Path(path_type=Path)


@click.command("recommend")
@click.argument("folder", type=_PATH)
@click.option("--architecture", "-a", help="Whose checkpoints to compare; resnet18 when nothing else is named.")
@click.option("--checkpoint", "-c", "more", multiple=True, help="Compare this one too: a name or a file; repeatable.")
@click.option("--norm", type=click.Choice([*NORMS]), help="Only checkpoints of this norm; both when left out.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), help="Minutes the features may take.")
@CACHE_DIR
@click.option("--cache", hidden=True)  # what --cache-dir was called
@DEVICE
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True, help="Processes that decode images.")
@click.option("--plot", "picture", type=_PATH, help="Also draw accuracy against eps (a .png).")
@click.option("--json", "as_json", is_flag=True, help="The ranking as JSON.")
def command(
    folder: Path,
    architecture: str | None,
    more: tuple[str, ...],
    norm: str | None,
    budget: float | None,
    cache_dir: str | None,
    cache: str | None,
    device: str,
    workers: int,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Which checkpoint, which eps, for my images?

    \b
    robust-zoo recommend photos/
    robust-zoo recommend photos/ --architecture resnet50 --norm l2 --budget 20 --plot eps.png
    robust-zoo recommend photos/ --architecture resnet18_x0_25 --json
    robust-zoo recommend photos/ -a resnet50 -c weights.safetensors

    FOLDER holds a folder of images for each class, five images or more in each; of a folder of splits the training
    images are taken. Features are extracted once for each checkpoint of the ladder, linear probes are cross-validated
    on them, and the ranking says which ones the images cannot tell apart. Weights that are not here yet are downloaded
    and verified first.
    """
    if picture:
        require_picture(picture)
    use_cache(cache_dir or cache)
    from robust_zoo.registry.lookup import get_architecture, list_models
    from robust_zoo.training.transfer.recommend import open_images, recommend, table
    from robust_zoo.training.transfer.recommend import picture as draw
    from robust_zoo.weights.cache import cache_root

    own = select(more)
    names: list[str | Checkpoint] = [*own]
    architecture = architecture or (None if names else "resnet18")
    if architecture:
        ladder = list_models(architecture=get_architecture(architecture).name, norm=norm)
        names += [name for name in ladder if name not in {checkpoint.name for checkpoint in own}]
    if not names:
        raise UsageError(
            f"no checkpoint of {architecture} with norm {norm}",
            expected="another norm or architecture",
            actual="none",
            next=f"robust-zoo list --architecture {architecture}",
        )
    images, classes = open_images(folder, workers=workers)
    if images.source.note:
        click.echo(images.source.note, err=True)
    advice = recommend(images, names, cache=cache_root() / "features", budget=budget, device=device, progress=True)
    if picture:
        draw(advice, folder.name, picture)
        click.echo(f"figure: {picture}", err=True)
    if as_json:
        ranking = [
            {
                "checkpoint": a.checkpoint.name,
                "correct": a.correct,
                "n": a.n,
                "accuracy": a.accuracy,
                "interval_95": a.interval,
                "tied_with_best": a.tied,
            }
            for a in advice
        ]
        click.echo(json.dumps(ranking, indent=1))
    else:
        click.echo(table(advice, len(classes)))
