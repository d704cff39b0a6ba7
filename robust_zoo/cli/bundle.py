from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from robust_zoo.cli.options import CACHE_DIR, require_directory, select
from robust_zoo.describe import count, megabytes
from robust_zoo.errors import UsageError
from robust_zoo.weights import bundle
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.passing_on import require_licences


@click.command("bundle")
@click.argument("names", nargs=-1, required=True)
@click.option("--output", "-o", type=Path, required=True, metavar="FILE", help="The tar file to write.")
@CACHE_DIR
@click.option("--offline", is_flag=True, help="Open no socket: only what is cached.")
@click.option("--allow-unverified", is_flag=True, help="Also files for which no hash is known; they stay unverified.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def command(
    names: tuple[str, ...], output: Path, cache_dir: str | None, offline: bool, allow_unverified: bool, quiet: bool
) -> None:
    """Pack weights into one file for machines without internet. NAMES are checkpoints or wildcards.

    \b
    robust-zoo bundle 'resnet50_l2_*' -o robust.tar

    Fetches and verifies what is not cached yet. The file holds the converted weights, their receipts, cards and rows,
    and a manifest of all hashes. Weights whose licence is not known are not passed on. There: robust-zoo download
    --from-bundle robust.tar
    """
    from tqdm import tqdm

    from robust_zoo.cli.card import card_of

    require_directory(output)
    checkpoints = [checkpoint for checkpoint in select(names) if not checkpoint.bundled]
    if not checkpoints:
        raise UsageError(
            "nothing to bundle: these weights come with the package",
            model=", ".join(names),
            expected="checkpoints that are downloaded",
            actual="bundled ones only",
            next="robust-zoo list",
        )
    require_licences(checkpoints)
    click.echo(count(len(checkpoints)), err=True)
    fetch = partial(
        ensure, cache_dir=cache_dir, offline=offline or None, allow_unverified=allow_unverified, progress=not quiet
    )
    found = [(checkpoint, fetch(checkpoint).file) for checkpoint in checkpoints]
    total = sum(weights.path.stat().st_size for _, weights in found)
    with tqdm(total=total, unit="B", unit_scale=True, desc=output.name, disable=quiet or None) as bar:
        bundle.pack(output, found, card_of, bar.update)
    click.echo(f"{output}  {count(len(found))}, {megabytes(output.stat().st_size)}")
