from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.errors import UsageError, VerificationFailed, ZooError

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
    from robust_zoo.training.transfer.datasets import load_rows

    click.echo(f"{'name':<14}{'classes':>8}{'train':>8}{'val':>6}{'test':>8}  {'metric':<15} licence; where")
    for row in load_rows().values():
        val = f"{row.val:,}" if row.val else "-"
        click.echo(
            f"{row.name:<14}{row.classes:>8}{row.train:>8,}{val:>6}{row.test:>8,}  {row.metric:<15} {row.licence}"
        )
        click.echo(f"{'':<14}{row.title}. {row.where}")


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
    """
    from robust_zoo.training.transfer.datasets import open_target
    from robust_zoo.training.transfer.verify_copy import damaged, fingerprint, split_sizes

    target = open_target(name, root)
    sizes = ", ".join(f"{count:,} {split}" for split, count in split_sizes(target).items())
    click.echo(f"{target.name}: {len(target.classes)} classes, {sizes}; list sha256 {fingerprint(target)}")
    if target.note:
        click.echo(f"note: {target.note}")
    if bad := damaged(target, deep=deep):
        for line in bad:
            click.echo(line, err=True)
        raise VerificationFailed(
            f"{len(bad)} damaged images", model=name, source=str(root), expected="images that can be decoded",
            actual=bad[0], next="fetch these files again",
        )  # fmt: skip
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
    from robust_zoo.training.transfer.datasets import get_row, locate
    from robust_zoo.training.transfer.verify_copy import fetch

    row = get_row(name)
    try:
        kind, place = locate(row, root)
        click.echo(f"{row.name} is there: the {kind} layout in {place}")
        click.echo(f"next: robust-zoo data check {row.name} --root {root}")
        return
    except ZooError as error:
        if not download:
            click.echo(f"{row.title} is not under {root}: looked for {error.expected}")
            click.echo(f"where: {row.where}")
            click.echo(f"licence: {row.licence}")
            if row.note:
                click.echo(f"note: {row.note}")
    if download:
        if not row.fetchable:
            raise UsageError(
                f"{row.title} cannot be downloaded any more", model=row.name, expected="a local copy",
                actual="no host that torchvision knows", next=row.where,
            )  # fmt: skip
        fetch(row, root)
        click.echo(f"next: robust-zoo data check {row.name} --root {root}")
    elif row.fetchable:
        click.echo(f"next: robust-zoo data prepare {row.name} --root {root} --download")
