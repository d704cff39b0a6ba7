from __future__ import annotations

import json
from pathlib import Path

import click

from robust_zoo.cli.options import CACHE_DIR, DEVICE, use_cache
from robust_zoo.text import printable


@click.command("predict")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "-m", required=True, help="A checkpoint, or a file that robust-zoo wrote.")
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="So many classes of each image.")
@CACHE_DIR
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="A JSON array on stdout.")
def command(images: tuple[Path, ...], model: str, top: int, cache_dir: str | None, device: str, as_json: bool) -> None:
    """Say which class images are of.

    \b
    robust-zoo predict cat.jpg --model resnet50_l2_eps3 --top 5
    robust-zoo predict photos/ --model mine/model.safetensors --json

    IMAGES are files, and folders, of which all images at any depth are taken. A line for each: the file, its class and
    the probability in percent, between tabs.
    """
    use_cache(cache_dir)
    from robust_zoo.training.evaluation.predict import predict

    found = predict(model, images, top=top, device=device, progress=True)
    if as_json:
        rows = [
            {"file": str(one.file), "classes": [{"class": name, "percent": round(p, 4)} for name, p in pairs]}
            for one in found
            for pairs in [zip(one.classes, one.percent, strict=True)]
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    for one in found:
        pairs = (f"{printable(name)}\t{p:.1f}" for name, p in zip(one.classes, one.percent, strict=True))
        click.echo("\t".join([printable(one.file), *pairs]))
