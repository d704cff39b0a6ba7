from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from robust_zoo.cli.net import storage_error
from robust_zoo.cli.options import CACHE_DIR, by_a_signer, require_signature, select
from robust_zoo.describe import as_json, count, gravest, megabytes
from robust_zoo.errors import UsageError, ZooError
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights import bundle, manifest
from robust_zoo.weights.cache import cache_root
from robust_zoo.weights.ensure import Weights, ensure
from robust_zoo.weights.first_seen import noted

_Outcome = tuple[dict[str, Any], Weights | ZooError]  # what is known of the checkpoint, and what came of it


@click.command("download")
@click.argument("names", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Every checkpoint: tens of GB.")
@click.option("--from-bundle", type=Path, metavar="FILE", help="All that a file of robust-zoo bundle holds; offline.")
@click.option("--signature", type=Path, metavar="FILE", help="First check who signed the bundle's manifest.json.")
@by_a_signer
@CACHE_DIR
@click.option("--offline", is_flag=True, help="Open no socket: caches and ROBUST_ZOO_PATH only.")
@click.option("--allow-unverified", is_flag=True, help="Also take files for which no hash is known.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(
    names: tuple[str, ...],
    all_: bool,
    from_bundle: Path | None,
    signature: Path | None,
    public_key: Path | None,
    identity: str,
    issuer: str,
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
    robust-zoo download --from-bundle robust.tar
    robust-zoo download --from-bundle robust.tar --signature manifest.json.sig --public-key KEY.pem

    A download that was cut goes on where it stopped. Every file is hashed before it is used; the original .ckpt is
    read in a contained process and kept as safetensors only.

    Where there is no public hash, --allow-unverified notes the file as first-seen: no later use needs the option, other
    bytes are refused from then on, and the lines that pin it in the registry are printed on stderr.

    Prints name, state (pinned, hub-declared, vouched, first-seen or unverified) and path. A failure does not stop the
    others; all are named at the end, and the exit code is that of the gravest: 1, else 6, 5, 3. In JSON, status is the
    state or "failed", and a failed one has its error.
    """
    if bool(names) + all_ + bool(from_bundle) != 1:
        raise UsageError(
            "names, --all and --from-bundle exclude each other" if names or all_ else "nothing to download",
            expected="names or wildcards, or --all, or --from-bundle FILE",
            actual="both" if names or all_ else "neither",
            next="robust-zoo download resnet50_l2_eps3   or   robust-zoo list",
        )
    next = "robust-zoo download --from-bundle FILE --signature FILE --public-key KEY.pem"
    require_signature(signature, next, public_key, identity, issuer)
    if signature and not from_bundle:
        raise UsageError("a signature without a bundle", expected="--from-bundle FILE", actual="none", next=next)
    outcomes: Iterable[_Outcome]
    if from_bundle:
        signer: dict[str, Any] = {"signature": signature, "public_key": public_key}
        signer |= {"identity": identity, "issuer": issuer}
        check = partial(manifest.check_signed, **signer) if signature else lambda _: None
        outcomes = _bundled(from_bundle, cache_dir, quiet, check)
    else:
        checkpoints = select(list_models() if all_ else names)
        total = sum(checkpoint.approximate_size for checkpoint in checkpoints if not checkpoint.bundled)
        click.echo(f"{count(len(checkpoints))}, at most {megabytes(total)} to download", err=True)
        options = {"cache_dir": cache_dir, "offline": offline or None, "allow_unverified": allow_unverified}
        outcomes = (
            (as_json(checkpoint), _ensured(checkpoint, progress=not quiet, **options)) for checkpoint in checkpoints
        )
    root = cache_root(cache_dir)
    results: list[dict[str, Any]] = []
    failed: dict[str, ZooError] = {}
    for known, outcome in outcomes:
        name = known["name"]
        if isinstance(outcome, ZooError):
            failed[name] = outcome
            click.echo(f"error: {outcome}", err=True)
            error = {"message": outcome.message, **outcome.fields, "exit_code": outcome.exit_code}
            results.append(known | {"status": "failed", "error": error})
            continue
        results.append(known | {"status": outcome.state, "path": str(outcome.path), "weights_sha256": outcome.sha256})
        if not as_json_:
            click.echo(f"{name}  {outcome.state}  {outcome.path}")
        if outcome.state == "first-seen" and (seen := noted(get(name), root)) and seen.lines:
            click.echo(f"# {name}, first seen here: what its row in the registry may say", err=True)
            click.echo("\n".join(seen.lines), err=True)
        if outcome.state == "unverified" and not get(name).has_public_hash:
            next = f"robust-zoo download {name} --allow-unverified"
            click.echo(f"{name} is used only when it is asked for; {next}   notes it as first-seen", err=True)
    if as_json_:
        click.echo(json.dumps(results, indent=1))
    if failed:
        click.echo(f"{len(failed)} of {len(results)} failed:", err=True)
        for name, failure in failed.items():
            click.echo(f"  {name}: {failure.message} (code {failure.exit_code})", err=True)
    click.get_current_context().exit(gravest(error.exit_code for error in failed.values()))


def _ensured(checkpoint: Checkpoint, **options: Any) -> Weights | ZooError:
    try:
        return ensure(checkpoint, **options)
    except ZooError as error:
        return error
    except OSError as error:
        return storage_error(error)


def _bundled(path: Path, cache_dir: str | None, quiet: bool, check: Callable[[Path], object]) -> Iterator[_Outcome]:
    from tqdm import tqdm

    with tqdm(total=bundle.size(path), unit="B", unit_scale=True, desc=path.name, disable=quiet or None) as bar:
        for name, outcome in bundle.unpack(path, cache_dir=cache_dir, progress=bar.update, check=check):
            yield (as_json(get(name)) if name in list_models() else {"name": name}), outcome
