from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.cli.options import CACHE_DIR
from robust_zoo.describe import count, megabytes
from robust_zoo.errors import StorageError
from robust_zoo.files import open_file
from robust_zoo.locks import taken
from robust_zoo.registry.lookup import get, list_models, natural_key
from robust_zoo.text import printable
from robust_zoo.weights import cache, own
from robust_zoo.weights.verify import state_of


@click.group("cache")
def command() -> None:
    """Look into and tidy the cache of verified weights.

    \b
    robust-zoo cache ls
    robust-zoo cache prune --dry-run
    """


@command.command("path", short_help="Print the cache's directory.")
@CACHE_DIR
def path_(cache_dir: str | None) -> None:
    """Print the cache's directory.

    \b
    du -sh "$(robust-zoo cache path)"
    """
    click.echo(cache.cache_root(cache_dir))


@command.command("ls", short_help="List cached weights.")
@CACHE_DIR
def ls(cache_dir: str | None) -> None:
    """List cached weights: name, size, and how far their origin is proven.

    \b
    robust-zoo cache ls --cache-dir ./weights

    Model files of your own that were converted here come last, by the name they had. The files are not hashed;
    robust-zoo verify does that.
    """
    root = cache.cache_root(cache_dir)
    lines = []
    for name in sorted(cache.cached_names(root), key=natural_key):
        receipt = cache.read_receipt(root, name)
        known = get(name) if name in list_models() else None
        state = state_of(known, receipt, root) if known and receipt else "no receipt" if known else "no checkpoint"
        lines.append((name, cache.weights_path(root, name), state))
    lines += [(name, path, f"private, {architecture}") for name, architecture, path in own.own_files(root)]
    for name, path, state in lines:
        click.echo(f"{printable(name):<36} {megabytes(path.stat().st_size):>10}  {printable(state)}")
    click.echo(f"{count(len(lines))} in {root}", err=True)


@command.command("prune", short_help="Delete what is not in use.")
@click.option("--dry-run", is_flag=True, help="Say what would go, delete nothing.")
@CACHE_DIR
def prune(dry_run: bool, cache_dir: str | None) -> None:
    """Delete cut downloads, temporaries, damaged copies and weights that the registry no longer knows.

    \b
    robust-zoo cache prune --dry-run
    robust-zoo cache prune

    Prints each path. Does nothing while another process downloads into this cache.
    """
    root = cache.cache_root(cache_dir)
    if busy := [path.stem for path in (root / "downloads").glob("*.lock") if _held(path)]:
        raise StorageError(
            f"{', '.join(busy)} is being downloaded into this cache",
            model=", ".join(busy),
            source=str(root),
            expected="a cache that no process writes to",
            actual="its lock is held",
            next="robust-zoo cache prune   when it is done",
        )
    paths = cache.leftovers(root, set(list_models()))
    freed = 0
    for path in paths:
        size = path.stat().st_size
        if not dry_run:
            path.unlink()
        freed += size
        click.echo(path)
    click.echo(f"{count(len(paths), 'file')}, {megabytes(freed)} {'would be freed' if dry_run else 'freed'}", err=True)


def _held(lock: Path) -> bool:
    """Whether another process has this lock; False where the platform has no locks."""
    try:
        file = open_file(lock)
    except OSError:  # no lock of ours
        return False
    with file:
        return taken(file) is False
