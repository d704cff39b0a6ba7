from __future__ import annotations

from pathlib import Path

import click

from robust_zoo import cache
from robust_zoo.cli.describe import megabytes
from robust_zoo.registry import list_models

_CACHE_DIR = click.option(
    "--cache-dir", type=click.Path(path_type=Path), help="Instead of ROBUST_ZOO_CACHE or the user cache."
)


@click.group("cache")
def command() -> None:
    """Look into and tidy the cache of verified weights.

    \b
    robust-zoo cache ls
    robust-zoo cache prune --dry-run
    """


@command.command("path")
@_CACHE_DIR
def path_(cache_dir: Path | None) -> None:
    """Print the cache's directory."""
    click.echo(cache.cache_root(cache_dir))


@command.command("ls")
@_CACHE_DIR
def ls(cache_dir: Path | None) -> None:
    """List cached weights: name, size, and how far their origin is proven. (`robust-zoo verify` hashes them.)"""
    root = cache.cache_root(cache_dir)
    names = cache.entries(root)
    for name in names:
        receipt = cache.read_receipt(root, name)
        size = megabytes(cache.weights_path(root, name).stat().st_size)
        click.echo(f"{name:<36} {size:>10}  {receipt.state if receipt else 'no receipt'}")
    click.echo(f"{len(names)} checkpoints in {root}", err=True)


@command.command("prune")
@click.option("--dry-run", is_flag=True, help="Say what would go, delete nothing.")
@_CACHE_DIR
def prune(dry_run: bool, cache_dir: Path | None) -> None:
    """Delete cut downloads, temporaries, damaged copies and weights that the registry no longer knows."""
    root = cache.cache_root(cache_dir)
    paths = cache.leftovers(root, set(list_models()))
    freed = sum(path.stat().st_size for path in paths)
    for path in paths:
        click.echo(path)
        if not dry_run:
            path.unlink()
    click.echo(f"{'would free' if dry_run else 'freed'} {megabytes(freed)}", err=True)
