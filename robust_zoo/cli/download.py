from __future__ import annotations

import json
from typing import Any

import click

from robust_zoo.cli import storage_error
from robust_zoo.cli.describe import CACHE_DIR, as_json, count, gravest, megabytes, select
from robust_zoo.errors import UsageError, ZooError
from robust_zoo.registry import list_models


@click.command("download")
@click.argument("names", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Every checkpoint: tens of GB.")
@CACHE_DIR
@click.option("--offline", is_flag=True, help="Open no socket: caches and ROBUST_ZOO_PATH only.")
@click.option("--allow-unverified", is_flag=True, help="Also take files for which no hash is known anywhere.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(
    names: tuple[str, ...],
    all_: bool,
    cache_dir: str | None,
    offline: bool,
    allow_unverified: bool,
    quiet: bool,
    as_json_: bool,
) -> None:
    """Fetch, verify and convert weights. NAMES are checkpoints or wildcards.

    \b
    robust-zoo download resnet50_l2_eps3
    robust-zoo download 'resnet18_linf_*' --cache-dir ./weights

    A download that was cut goes on where it stopped. Every file is hashed before it is used; the original .ckpt is
    read in a contained process and kept as safetensors only.

    Prints name, state (pinned, hub-declared or unverified) and path. A failure does not stop the others; all are
    named at the end, and the exit code is that of the gravest: 1, else 6, 5, 3. In JSON, status is the state or
    "failed", and a failed one has its error.
    """
    from robust_zoo.weights import ensure

    if bool(names) == all_:
        raise UsageError(
            "--all with names" if names else "nothing to download",
            expected="names or wildcards, or --all",
            actual="both" if names else "neither",
            next="robust-zoo download resnet50_l2_eps3   or   robust-zoo list",
        )
    rows = select(list_models() if all_ else names)
    total = sum(row.approximate_size for row in rows if not row.bundled)
    click.echo(f"{count(len(rows))}, at most {megabytes(total)} to download", err=True)
    results: list[dict[str, Any]] = []
    failed: dict[str, ZooError] = {}
    for row in rows:
        try:
            weights = ensure(
                row,
                cache_dir=cache_dir,
                offline=offline or None,
                allow_unverified=allow_unverified,
                progress=not quiet,
            )
        except (ZooError, OSError) as error:
            failure = failed[row.name] = error if isinstance(error, ZooError) else storage_error(error)
            click.echo(f"error: {failure}", err=True)
            told = {"message": failure.message, **failure.fields, "exit_code": failure.exit_code}
            results.append(as_json(row, "failed") | {"error": told})
            continue
        results.append(as_json(row, weights.state) | {"path": str(weights.path), "weights_sha256": weights.sha256})
        if not as_json_:
            click.echo(f"{row.name}  {weights.state}  {weights.path}")
    if as_json_:
        click.echo(json.dumps(results, indent=1))
    if failed:
        click.echo(f"{len(failed)} of {len(rows)} failed:", err=True)
        for name, failure in failed.items():
            click.echo(f"  {name}: {failure.message} (code {failure.exit_code})", err=True)
    click.get_current_context().exit(gravest(failure.exit_code for failure in failed.values()))
