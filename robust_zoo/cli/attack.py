from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from robust_zoo.cli.options import threats
from robust_zoo.text import printable
from robust_zoo.threat import NORMS


@click.command("attack")
@click.argument("name")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--attack", "-a", default="pgd-20", show_default=True, help="As for robust-zoo evaluate.")
@click.option("--norm", type=click.Choice([*NORMS]), help="With --eps; otherwise what the model was trained for.")
@click.option("--eps", help="The radius, e.g. 0.5 or 4/255, of images in [0, 1].")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), default="adversarial", show_default=True, help="A directory."
)
def command(name: str, images: tuple[Path, ...], attack: str, norm: str | None, eps: str | None, out: Path) -> None:
    """Attack images of your own, and see what the model says before and after.

    \b
    robust-zoo attack resnet50_l2_eps3 cat.jpg dog.jpg
    robust-zoo attack resnet50_l2_eps0 cat.jpg --norm linf --eps 4/255 -o out

    Writes IMAGE_adversarial.png for each (resized and cropped as the model sees it; IMAGE_adversarial_2.png for a
    second image of that name), and attack.png: the images, their adversarial versions and the change, magnified. Each
    uses the whole radius. What is said after the arrow is said of the file that was written, read again.
    """
    from robust_zoo.training.evaluation.attack_images import attack_images

    threat = next(iter(threats(norm, eps)), None)
    shown = attack_images(name, images, threat, attack, out)
    named = Counter(one.file.name for one in shown)
    for one in shown:
        file = one.file.name if named[one.file.name] == 1 else one.file
        (before, sure), (after, then) = one.before, one.after
        sizes = ", ".join(f"{NORMS[name].label} {NORMS[name].spell(size, 3)}" for name, size in one.sizes.items())
        said = [] if one.fooled else [f"the attack failed: no adversarial image found within {one.threat}"]
        said += [sizes] if any(one.sizes.values()) else []
        said += [f"beyond {one.threat} by {one.beyond:.2g}, after rounding to 8 bits"] if one.beyond else []
        said += [printable(one.saved)]
        click.echo(f"{printable(file)}: {before} ({sure:.0f} %) -> {after} ({then:.0f} %); {'; '.join(said)}")
    click.echo(out / "attack.png")
