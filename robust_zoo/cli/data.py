from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.errors import UsageError, VerificationFailed, ZooError
from robust_zoo.text import printable

_ROOT = click.option(
    "--root", type=click.Path(path_type=Path), default=".", show_default=True, help="Where the datasets lie."
)


@click.group("data")
def command() -> None:
    """The datasets to transfer to: what they are, whether a copy is whole, where to get one.

    \b
    robust-zoo data list
    robust-zoo data check pets --root DATASETS
    robust-zoo data prepare pets --root DATASETS --download
    """


@command.command("list", short_help="The twelve datasets.")
def list_() -> None:
    """The twelve datasets of Salman et al. 2020: sizes, metric, licence, where they are.

    \b
    robust-zoo data list
    """
    from robust_zoo.training.transfer.datasets import load_datasets

    click.echo(f"{'name':<14}{'classes':>8}{'train':>8}{'val':>6}{'test':>8}  {'metric':<15} licence; where")
    for dataset in load_datasets().values():
        val = f"{dataset.val:,}" if dataset.val else "-"
        sizes = f"{dataset.classes:>8}{dataset.train:>8,}{val:>6}{dataset.test:>8,}"
        click.echo(f"{dataset.name:<14}{sizes}  {dataset.metric:<15} {dataset.licence}")
        click.echo(f"{'':<14}{dataset.title}. {dataset.where}")


@command.command("check", short_help="Is this copy whole?")
@click.argument("name")
@_ROOT
@click.option("--deep", is_flag=True, help="Decode every image, not only those that do not end as they should.")
def check(name: str, root: Path, deep: bool) -> None:
    """Is this copy of a dataset whole? NAME is of `robust-zoo data list`, or a folder.

    \b
    robust-zoo data check pets --root DATASETS
    robust-zoo data check flowers --root DATASETS --deep
    robust-zoo data check photos/

    A folder of images is a folder for each class, photos/cat/1.jpg, or such folders for training and for testing,
    photos/train/cat/1.jpg and photos/test/cat/1.jpg; val or validation is for choosing, or for testing where there is
    no test. Case does not matter, a folder around all of it does no harm, and images may lie deeper in their class.
    Without a test every fifth image is for testing. What was taken and what was left out is said.

    \b
    ImageNet may also be tar files (train*.tar, val*.tar) of class folders, or with KEY.cls or KEY.json beside KEY.jpg,
    or hfds/NAME.
    """
    from robust_zoo.training.transfer.datasets import open_target
    from robust_zoo.training.transfer.verify_copy import damaged, fingerprint, split_sizes

    target = open_target(name, root)
    sizes = ", ".join(f"{count:,} {split}" for split, count in split_sizes(target).items())
    click.echo(f"{printable(target.name)}: {len(target.classes)} classes, {sizes}; images sha256 {fingerprint(target)}")
    if target.note:
        click.echo(f"note: {target.note}")
    if bad := damaged(target, deep=deep):
        for line in bad:
            click.echo(printable(line), err=True)
        raise VerificationFailed(
            f"{len(bad)} damaged images",
            model=name,
            source=str(root),
            expected="images that can be decoded",
            actual=bad[0],
            next="put sound copies in their place",
        )
    click.echo("every image was decoded" if deep else "every image ends as it should (--deep decodes them)")


@command.command("prepare", short_help="What is missing, and where to get it.")
@click.argument("name")
@_ROOT
@click.option("--download", is_flag=True, help="Fetch it with torchvision, which checks what it fetches.")
def prepare(name: str, root: Path, download: bool) -> None:
    """What is missing of a dataset, and where to get it; with --download, get it.

    \b
    robust-zoo data prepare pets --root DATASETS
    robust-zoo data prepare pets --root DATASETS --download
    robust-zoo data prepare stanford_cars --root DATASETS
    """
    from robust_zoo.training.transfer.datasets import get_dataset, locate
    from robust_zoo.training.transfer.verify_copy import download as fetch

    dataset = get_dataset(name)
    try:
        kind, place = locate(dataset, root)
        click.echo(f"{dataset.name} is there: the {kind} layout in {place}")
        click.echo(f"next: robust-zoo data check {dataset.name} --root {root}")
        return
    except ZooError as error:
        if not download:
            click.echo(f"{dataset.title} is not under {root}: looked for {error.expected}")
            click.echo(f"where: {dataset.where}")
            click.echo(f"licence: {dataset.licence}")
            if dataset.note:
                click.echo(f"note: {dataset.note}")
    if download:
        if not dataset.fetchable:
            raise UsageError(
                f"{dataset.title} cannot be downloaded any more",
                model=dataset.name,
                expected="a local copy",
                actual="no host that torchvision knows",
                next=dataset.where,
            )
        fetch(dataset, root)
        click.echo(f"next: robust-zoo data check {dataset.name} --root {root}")
    elif dataset.fetchable:
        click.echo(f"next: robust-zoo data prepare {dataset.name} --root {root} --download")
