from __future__ import annotations

import json
from pathlib import Path

import click

from robust_zoo.cli.describe import as_json, megabytes, select
from robust_zoo.errors import UsageError, ZooError
from robust_zoo.registry import list_models


@click.command("download")
@click.argument("names", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Every checkpoint (about 34 GB of downloads).")
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Instead of ROBUST_ZOO_CACHE or the user cache.")
@click.option("--offline", is_flag=True, help="Open no socket: caches and ROBUST_ZOO_PATH only.")
@click.option("--allow-unverified", is_flag=True, help="Also take files for which no hash is known anywhere.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(
    names: tuple[str, ...],
    all_: bool,
    cache_dir: Path | None,
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
    """
    from robust_zoo.weights import ensure

    if not names and not all_:
        raise UsageError(
            "nothing to download", expected="names, wildcards or --all", actual="no name",
            next="robust-zoo download resnet50_l2_eps3   or   robust-zoo list",
        )  # fmt: skip
    rows = select(list_models() if all_ else names)
    total = sum(row.approximate_size for row in rows if not row.bundled)
    click.echo(f"{len(rows)} checkpoints, at most {megabytes(total)} to download", err=True)
    done, failed = [], []
    for row in rows:
        try:
            weights = ensure(
                row,
                cache_dir=cache_dir,
                offline=offline or None,
                allow_unverified=allow_unverified,
                progress=not quiet,
            )
        except ZooError as error:
            failed.append(error)
            click.echo(f"error: {error}", err=True)
            continue
        done.append(as_json(row, weights.state) | {"path": str(weights.path), "weights_sha256": weights.sha256})
        if not as_json_:
            click.echo(f"{row.name}  {weights.state}  {weights.path}")
    if as_json_:
        click.echo(json.dumps(done, indent=1))
    if failed:
        click.echo(f"{len(failed)} of {len(rows)} failed", err=True)
        click.get_current_context().exit(failed[0].exit_code)
