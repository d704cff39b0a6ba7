from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from robust_zoo.cli.net import explained
from robust_zoo.cli.options import CACHE_DIR, select
from robust_zoo.describe import count, gravest
from robust_zoo.errors import UsageError, ZooError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.cache import cache_root, read_receipt
from robust_zoo.weights.ensure import Weights, ensure
from robust_zoo.weights.first_seen import noted


@click.command("pin")
@click.argument("names", nargs=-1, required=True)
@CACHE_DIR
@click.option("--deep", is_flag=True, help="Also the fingerprint: logits of a few bundled images, in float64.")
@click.option("--offline", is_flag=True, help="Open no socket: only what is cached.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def command(names: tuple[str, ...], cache_dir: str | None, deep: bool, offline: bool, quiet: bool) -> None:
    """Print the lines of checkpoints.toml that tie weights to their rows. NAMES are checkpoints or wildcards.

    \b
    robust-zoo pin resnet50_l2_eps3
    robust-zoo pin 'resnet50_*'

    Fetches and converts what is not cached yet. `sha256` is of the file at its source, where the row lacks it, and
    `converted_sha256` of the safetensors file that it converts to: with that in the row, every cache, receipt and
    bundle is judged by it. Only weights that a hash proves are pinned, and files without a public hash that were first
    seen here (with `size`, and `sha256_from`: when and where); none that someone vouches for.

    With --deep also `fingerprint`: what the network says of a few bundled images, which robust-zoo verify --deep
    compares. Pin it once the network is known to behave as the authors' own code does.
    """
    failed: list[ZooError] = []
    checkpoints = [checkpoint for checkpoint in select(names) if deep or not checkpoint.bundled]
    for checkpoint in checkpoints:
        try:
            lines = _lines(checkpoint, cache_dir, deep, offline, quiet)
        except (ZooError, OSError) as error:
            failed.append(explained(error))
            click.echo(f"error: {failed[-1]}", err=True)
            continue
        click.echo("\n".join([f"# {checkpoint.name}", *lines]))
    click.echo(f"{count(len(checkpoints) - len(failed))} of {len(checkpoints)} pinned", err=True)
    click.get_current_context().exit(gravest(error.exit_code for error in failed))


def _lines(checkpoint: Checkpoint, cache_dir: str | None, deep: bool, offline: bool, quiet: bool) -> list[str]:
    """What the row lacks. Raises UsageError when no hash proves the weights."""
    weights = ensure(checkpoint, cache_dir=cache_dir, offline=offline or None, progress=not quiet)
    behaviour = _fingerprint(checkpoint, weights, quiet) if deep and not checkpoint.fingerprint else []
    if checkpoint.bundled:
        return behaviour
    return _hashes(checkpoint, weights, cache_root(cache_dir)) + behaviour


def _fingerprint(checkpoint: Checkpoint, weights: Weights, quiet: bool) -> list[str]:
    from tqdm import tqdm

    from robust_zoo.training.evaluation.behaviour import fingerprint_of

    bar = partial(tqdm, desc=checkpoint.name, unit="image", disable=quiet or None)
    return ["fingerprint = [", *(f'  "{line}",' for line in fingerprint_of(checkpoint, weights, bar=bar).lines), "]"]


def _hashes(checkpoint: Checkpoint, weights: Weights, root: Path) -> list[str]:
    receipt = read_receipt(weights.path.parents[1], checkpoint.name)
    seen = noted(checkpoint, root)
    converted = [] if checkpoint.converted_sha256 else [f'converted_sha256 = "{weights.sha256}"']
    if weights.state == "first-seen" and seen and seen.size:
        return [*seen.lines, *converted]
    if receipt is None or weights.state not in ("pinned", "hub-declared"):
        raise UsageError(
            f"the weights of {checkpoint.name} are {weights.state}: someone's word is not pinned",
            model=checkpoint.name,
            source=str(weights.path),
            expected="pinned or hub-declared, or a file that was first seen here",
            actual=f"{weights.state}, from {weights.source}",
            next=f"robust-zoo pin {checkpoint.name} --cache-dir NEW_DIRECTORY   where there is internet",
        )
    return ([] if checkpoint.sha256 else [f'sha256 = "{receipt.source_sha256}"']) + converted
