from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.cli.options import DEVICE, SEED, Named, select
from robust_zoo.visualization.kinds import KINDS

_PATH = click.Path(path_type=Path)


@click.command("visualize")
@click.argument("names", nargs=-1, required=True)
@click.option("--what", "-w", multiple=True, cls=Named, table=lambda: KINDS, help="What to draw; repeatable:")
@click.option("--images", multiple=True, type=_PATH, help="A folder, or a file of an image (repeatable).")
@click.option("--classes", "-c", multiple=True, metavar="CLASS", help="A class to draw, by name or number; repeatable.")
@click.option("--n", type=click.IntRange(1, 100), default=10, show_default=True, help="Pictures side by side.")
@SEED(help="Of the noise that pictures begin at.")
@click.option("--alone", is_flag=True, help="Without the standard model beside a robust one.")
@click.option("--tile", type=click.IntRange(16, 1024), help="Pixels of a picture's side.")
@click.option("--bare", is_flag=True, help="No words and hardly a margin, for pages that have their own.")
@click.option("--batch-size", type=click.IntRange(1), default=50, show_default=True, help="Pictures changed at once.")
@click.option("--out", "-o", type=_PATH, default="seen", show_default=True, help="A directory; or a .png or .webp.")
@DEVICE
def command(
    names: tuple[str, ...],
    what: tuple[str, ...],
    images: tuple[Path, ...],
    classes: tuple[str, ...],
    n: int,
    seed: int,
    alone: bool,
    tile: int | None,
    bare: bool,
    batch_size: int,
    out: Path,
    device: str,
) -> None:
    """Draw what models see: a robust one beside the standard one of its architecture.

    \b
    robust-zoo visualize resnet18_x0_25_cifar10_l2_eps0_5
    robust-zoo visualize resnet50_l2_eps3 --classes goldfish --classes tabby
    robust-zoo visualize resnet50_l2_eps3 --images photos/ --what more-like --what inversion

    NAMES are checkpoints, wildcards, or files that robust-zoo wrote. Without --what it is synthesis, or with --images
    all. Of models of CIFAR-10 the bundled images are taken where none are given.

    Writes KIND.png and KIND.npz for each kind: the picture, and what is in it as numbers. The same seed gives the same
    picture. Ten pictures of a class take 5 seconds a model on a CPU at 32 pixels, many minutes at 224.
    """
    from robust_zoo.visualization.sheets import visualize

    sheets = visualize(
        select(names),
        what,
        images=images,
        classes=classes,
        n=n,
        seed=seed,
        alone=alone,
        out=out,
        tile=tile or 0,
        bare=bare,
        batch_size=batch_size,
        device=device,
        progress=True,
    )
    for sheet in sheets.values():
        for file in sheet.files:
            click.echo(file)
