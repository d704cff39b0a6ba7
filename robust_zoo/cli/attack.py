from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robust_zoo.cli.options import DEVICE, threats
from robust_zoo.text import printable
from robust_zoo.threat import NORMS

if TYPE_CHECKING:
    from robust_zoo.training.evaluation.attack_images import Attempt
    from robust_zoo.training.evaluation.attacked import Attacked


@click.command("attack")
@click.argument("name")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--attack", "-a", default="pgd-20", show_default=True, help="As for robust-zoo evaluate.")
@click.option("--norm", type=click.Choice([*NORMS]), help="With --eps; otherwise what the model was trained for.")
@click.option("--eps", help="The radius, e.g. 0.5 or 4/255, of images in [0, 1].")
@click.option("--target", "-t", metavar="CLASS", help="The class to be taken for, by name or number (PGD and FGSM).")
@click.option("--batch-size", type=click.IntRange(1), help="Images at once: 2 at 224 pixels, 64 at 32.")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), default="adversarial", show_default=True, help="A directory."
)
@DEVICE
def command(
    name: str,
    images: tuple[Path, ...],
    attack: str,
    norm: str | None,
    eps: str | None,
    target: str | None,
    batch_size: int | None,
    out: Path,
    device: str,
) -> None:
    """Attack images of your own, and see what the model says before and after.

    \b
    robust-zoo attack resnet50_l2_eps3 cat.jpg dog.jpg
    robust-zoo attack resnet50_l2_eps0 cat.jpg --norm linf --eps 4/255 -o out
    robust-zoo attack resnet50_l2_eps3 photos/ --target 3 -o attacked

    Writes IMAGE_adversarial.png for each (resized and cropped as the model sees it; IMAGE_adversarial_2.png for a
    second image of that name), and attack.png: the images, their adversarial versions and the change, magnified. Each
    uses the whole radius. What is said after the arrow is said of the file that was written, read again.

    IMAGES are files; or one folder of images, or of class folders, a tar file or hfds/NAME, as for robust-zoo evaluate,
    of any number of images and any classes. Of a folder the pictures lie in folders of the same names, so that other
    models can be evaluated on them; attack.png has 32 of them, and report.csv says what became of each.
    """
    from robust_zoo.training.evaluation.attack_images import attack_each

    threat = next(iter(threats(norm, eps)), None)
    attempt = attack_each(name, images, threat, attack, out, target=target, batch_size=batch_size, device=device)
    for line in _of_folder(attempt) if attempt.images.folder else _of_files(attempt):
        click.echo(line)
    click.echo(out / "attack.png")


def _of_files(attempt: Attempt) -> list[str]:
    """A line for each image."""
    lines, named = [], Counter(file.name for file in attempt.images.names)
    for one in attempt:
        file = one.file.name if named[one.file.name] == 1 else one.file
        (before, sure), (after, then) = one.before, one.after
        sizes = ", ".join(f"{NORMS[name].label} {NORMS[name].spell(size, 3)}" for name, size in one.sizes.items())
        said = [] if one.fooled else [_failed(one)]
        said += [sizes] if any(one.sizes.values()) else []
        said += [f"beyond {one.threat} by {one.beyond:.2g}, after rounding to 8 bits"] if one.beyond else []
        said += [printable(one.saved)]
        lines.append(f"{printable(file)}: {before} ({sure:.0f} %) -> {after} ({then:.0f} %); {'; '.join(said)}")
    return lines


def _failed(one: Attacked) -> str:
    if one.target and one.before[0] == one.target:
        return f"it was called {one.target} before"
    aimed = f" called {one.target}" if one.target else ""
    return f"the attack failed: no adversarial image{aimed} found within {one.threat}"


def _of_folder(attempt: Attempt) -> list[str]:
    """How many were fooled, and the report."""
    from tqdm import tqdm

    if attempt.images.folder and attempt.images.folder.note:
        click.echo(attempt.images.folder.note, err=True)
    count, fooled = len(attempt.images), 0
    with tqdm(total=count, desc=f"attacking {attempt.checkpoint.name}", file=sys.stderr) as bar:
        for one in attempt:
            fooled += one.fooled
            bar.update()
            bar.set_postfix_str(f"{fooled:,} fooled it", refresh=False)
    named = f"are called {attempt.target_name}" if attempt.target_name else "are called something else"
    share = f"{100 * fooled / count:.1f} %"
    return [f"{fooled:,} of {count:,} images ({share}) {named} within {attempt.threat}", str(attempt.report)]
