from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from robust_zoo.cli import ranking
from robust_zoo.cli.options import (
    CACHE_DIR,
    DEVICE,
    MAX_PARAMS,
    MIN_ROBUST,
    UNDER,
    collection,
    require_picture,
    robust_at,
    select,
    use_cache,
)
from robust_zoo.describe import count
from robust_zoo.errors import Unavailable, UsageError
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS
from robust_zoo.weights.cache import cache_root
from robust_zoo.weights.ensure import ensure, is_present

if TYPE_CHECKING:
    from robust_zoo.training.transfer.ahead import Ahead

_DEFAULT = "resnet18"
_PATH = click.Path(path_type=Path)


@click.command("recommend")
@click.argument("folder", type=_PATH, required=False)
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["corruptions"]),
    help="Without FOLDER: who is best under noise, blur and weather, by what was measured.",
)
@click.option("--architecture", "-a", multiple=True, help="Compare this architecture's checkpoints (repeatable).")
@collection()
@MAX_PARAMS
@UNDER
@MIN_ROBUST
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
    folder: Path | None,
    purpose: str | None,
    more: tuple[str, ...],
    under: str | None,
    min_robust: float | None,
    norm: str | None,
    budget: float | None,
    cache_dir: str | None,
    cache: str | None,
    device: str,
    workers: int,
    picture: Path | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Which checkpoint, which eps, for my images?

    \b
    robust-zoo recommend photos/
    robust-zoo recommend photos/ --architecture resnet50 --norm l2 -c weights.safetensors --plot eps.png
    robust-zoo recommend photos/ --under linf:4/255 --min-robust 50 --max-params 100M
    robust-zoo recommend --for corruptions

    FOLDER holds a folder of images for each class, five images or more in each; of a folder of splits the training
    images are taken. Features are extracted once for each checkpoint, linear probes are cross-validated on them, and
    the ranking says which ones the images cannot tell apart.

    Without any of -a, -c, --collection, --max-params and --min-robust the ladder of resnet18 is compared; where it
    cannot be downloaded, what is here and the bundled models, which is said. How much is to be downloaded and about how
    long the features take is said before anything is fetched; --budget takes fewer images. Checkpoints without a public
    hash are compared when they are named, or here already.
    """
    own = select(more)
    at = robust_at(under, min_robust)
    filters["min_robust"] = (*at, min_robust) if at and min_robust is not None else (at or None)
    asked = {name: value for name, value in filters.items() if value not in (None, ())}
    if purpose:
        idle = {"FOLDER": folder, "--plot": picture, "--budget": budget}
        _by_corruptions({name: value for name, value in idle.items() if value}, own, norm, asked, as_json)
        return
    if folder is None:
        raise UsageError(
            "no images to choose by",
            expected="FOLDER, or --for corruptions",
            actual="neither",
            next="robust-zoo recommend photos/",
        )
    if picture:
        require_picture(picture)
    use_cache(cache_dir or cache)
    from robust_zoo.training.transfer.recommend import open_images, recommend, table
    from robust_zoo.training.transfer.recommend import picture as draw

    chosen = [*own, *_filtered(own, norm, asked)]
    images, classes = open_images(folder, workers=workers)
    if images.source.note:
        click.echo(images.source.note, err=True)
    if chosen:
        _fetch(_announced(chosen, len(images), device))
    else:
        chosen = _default(norm, len(images), device)
    advice = recommend(images, chosen, cache=cache_root() / "features", budget=budget, device=device, progress=True)
    if picture:
        draw(advice, folder.name, picture)
        click.echo(f"figure: {picture}", err=True)
    if as_json:
        advised = [
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
        click.echo(json.dumps(advised, indent=1))
    else:
        click.echo(table(advice, len(classes)))
        click.echo(f"robust-zoo finetune {quote(str(folder))} --model {quote(advice[0].checkpoint.handle)}")


def _by_corruptions(
    idle: Mapping[str, Any], own: Sequence[Checkpoint], norm: str | None, asked: dict[str, Any], as_json: bool
) -> None:
    """The ranking by what rows say of corruptions; no weights are needed. Raises UsageError for what is of no use."""
    if idle:
        raise UsageError(
            "corruptions were measured on images of their own",
            expected=f"--for corruptions without {' and '.join(idle)}",
            actual=" ".join(f"{name} {value}" for name, value in idle.items()),
            next=f"robust-zoo recommend {quote(str(idle.get('FOLDER', 'photos/')))}",
        )
    rows = [get(name) for name in list_models(norm=norm, **asked)] if asked or norm or not own else []
    found = ranking.by_corruptions({row.handle: row for row in (*own, *rows)}.values())
    click.echo(json.dumps(ranking.as_json(found), indent=1) if as_json else ranking.table(found))


def _filtered(own: Sequence[Checkpoint], norm: str | None, asked: dict[str, Any]) -> list[Checkpoint]:
    """The rows that filters ask for, but those that nobody can prove; said when some are left out."""
    from robust_zoo.training.transfer.ahead import provable

    if not asked:
        return []
    names = {checkpoint.name for checkpoint in own}
    found = [get(name) for name in list_models(norm=norm, **asked) if name not in names]
    usable, unproven = provable(found)
    if not usable and not own:
        example = unproven[0].name if unproven else ""
        raise UsageError(
            "no checkpoint is like that" if not unproven else f"nobody has said the hash of {count(len(unproven))}",
            expected="filters that leave a checkpoint whose weights can be proven",
            actual=", ".join(f"{name} {_said(value)}" for name, value in {**asked, "norm": norm}.items() if value),
            next=f"robust-zoo download {example} --allow-unverified" if example else "robust-zoo list",
        )
    if unproven:
        click.echo(f"{count(len(unproven))} without a public hash left out, such as {unproven[0].name}", err=True)
    return usable


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _default(norm: str | None, images: int, device: str) -> list[Checkpoint]:
    """The ladder of resnet18; what is here of it and what is bundled, where it cannot be downloaded."""
    ladder = [get(name) for name in list_models(architecture=_DEFAULT, norm=norm)]
    try:
        _fetch(_announced(ladder, images, device))
        return ladder
    except Unavailable as error:
        at_hand = [checkpoint for checkpoint in ladder if is_present(checkpoint)]
        at_hand += [get(name) for name in list_models(norm=norm, bundled=True)]
        click.echo(f"{error.message}; what is here is compared instead:", err=True)
        _announced(at_hand, images, device)
        return at_hand


def _announced(checkpoints: Sequence[Checkpoint], images: int, device: str) -> Ahead:
    from robust_zoo.training.distributed import device_of
    from robust_zoo.training.transfer.ahead import look_ahead

    ahead = look_ahead(checkpoints, images, device_of(device))
    click.echo(str(ahead), err=True)
    return ahead


def _fetch(ahead: Ahead) -> None:
    """Before any feature is computed: what cannot be had is known first."""
    for checkpoint in ahead.missing:
        ensure(checkpoint)
