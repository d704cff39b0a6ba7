from __future__ import annotations

import json
from pathlib import Path

import click

from robust_zoo import cache
from robust_zoo.cli.describe import as_json, select
from robust_zoo.errors import Unavailable, UnknownCheckpoint, VerificationFailed
from robust_zoo.registry import get, list_models
from robust_zoo.rows import DATA, Checkpoint


@click.command("verify")
@click.argument("names", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All that is bundled or cached (what no names means, too).")
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Instead of ROBUST_ZOO_CACHE or the user cache.")
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(names: tuple[str, ...], all_: bool, cache_dir: Path | None, as_json_: bool) -> None:
    """Hash the weights you have and compare with what was promised. Offline; changes nothing.

    \b
    robust-zoo verify                    # everything bundled or cached
    robust-zoo verify resnet50_l2_eps3 --json

    Every file is checked, then all bad ones are named. Exit code 1 if any is bad, 3 if a named one is not here.
    """
    root = cache.cache_root(cache_dir)
    rows = select(names) if names and not all_ else _present(root)
    results = [_verify(row, root) for row in rows]
    if as_json_:
        click.echo(json.dumps([result for result, _ in results], indent=1))
    else:
        for result, error in results:
            click.echo(f"{result['status']:<8} {result['name']}" + (f"  {result['state']}" if result["state"] else ""))
            if error and result["status"] == "corrupt":
                click.echo(f"error: {error}", err=True)
    statuses = [result["status"] for result, _ in results]
    click.echo(f"{statuses.count('ok')} of {len(statuses)} ok", err=True)
    code = VerificationFailed.exit_code if "corrupt" in statuses else Unavailable.exit_code if "missing" in statuses else 0
    click.get_current_context().exit(code)


def _present(root: Path) -> list[Checkpoint]:
    return [get(name) for name in sorted({*list_models(bundled=True), *_known(cache.entries(root))})]


def _known(names: list[str]) -> list[str]:
    known = []
    for name in names:
        try:
            known.append(get(name).name)
        except UnknownCheckpoint:
            click.echo(f"not of this registry, skipped: {name} (robust-zoo cache prune deletes it)", err=True)
    return known


def _verify(row: Checkpoint, root: Path) -> tuple[dict, VerificationFailed | None]:
    """status: "ok", "corrupt" or "missing"; state: how far the origin of a sound file is proven."""
    error: VerificationFailed | None = None
    state: str | None = None
    path = DATA / row.file if row.bundled else cache.weights_path(root, row.name)
    try:
        if row.bundled:
            found = cache.sha256_of(path) if path.is_file() else None
            if found not in (None, row.sha256):
                raise VerificationFailed(
                    f"the bundled weights of {row.name} are damaged", model=f"{row.name} ({row.file})", source=str(path),
                    expected=f"sha256 {row.sha256}", actual=f"sha256 {found}", next="pip install --force-reinstall robust-zoo",
                )  # fmt: skip
            state = "pinned" if found else None
        else:
            receipt = cache.verified(row, root)
            state = receipt.state if receipt else None
        status = "ok" if state else "missing"
    except VerificationFailed as failure:
        error, status = failure, "corrupt"
    return as_json(row, status) | {"state": state, "path": str(path)}, error
