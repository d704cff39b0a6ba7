from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from robust_zoo.cli.net import storage_error
from robust_zoo.cli.options import CACHE_DIR, by_a_signer, require_signature, select
from robust_zoo.describe import as_json, gravest
from robust_zoo.errors import StorageError, Unavailable, UsageError, VerificationFailed, ZooError
from robust_zoo.registry.lookup import get, list_models, natural_key
from robust_zoo.registry.rows import DATA, Checkpoint
from robust_zoo.weights import cache, manifest
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.first_seen import Seen, noted
from robust_zoo.weights.verify import Weights, verified

_EXIT_CODES = {
    "corrupt": VerificationFailed.exit_code,
    "otherwise": VerificationFailed.exit_code,
    "unreadable": StorageError.exit_code,
    "missing": Unavailable.exit_code,
}


@click.command("verify")
@click.argument("names", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All that is bundled or cached (what no names means, too).")
@CACHE_DIR
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
@click.option("--deep", is_flag=True, help="Also compute what each network says of a few bundled images; see below.")
@click.option("--signature", type=Path, metavar="FILE", help="First check who signed the package's manifest of hashes.")
@by_a_signer
def command(
    names: tuple[str, ...],
    all_: bool,
    cache_dir: str | None,
    as_json_: bool,
    deep: bool,
    signature: Path | None,
    public_key: Path | None,
    identity: str,
    issuer: str,
) -> None:
    """Hash the weights you have and compare with what was promised. Offline; changes nothing.

    \b
    robust-zoo verify                    # everything bundled, cached, or in the caches of ROBUST_ZOO_PATH
    robust-zoo verify resnet50_l2_eps3 --json
    robust-zoo verify --signature manifest.json.sig --public-key robust_zoo.pem

    Every file is checked, and each gets a status: ok, corrupt, unreadable or missing. Exit code 1 if any is
    corrupt, else 5 if any cannot be read, else 3 if one that you named is not here.

    A hash says nothing of what no file holds: the activation, an epsilon of LayerNorm, which of two sets of weights was
    meant. --deep computes the logits of a few bundled images, in float64 on the CPU, and compares them with the row's:
    behaves as recorded, behaves otherwise (status otherwise, exit code 1), or behaviour not verified, where the row has
    none. Seconds for a ResNet-50, minutes for the largest.
    """
    if names and all_:
        raise UsageError(
            "--all with names", expected="names, or --all", actual="both", next="robust-zoo verify   checks everything"
        )
    if signature:
        manifest.check_signature(signature, public_key=public_key, identity=identity, issuer=issuer)
        click.echo(f"signed by {public_key or identity}: the registry and its hashes", err=True)
    next = "robust-zoo verify --signature FILE --public-key KEY.pem"
    require_signature(signature, next, public_key, identity, issuer)
    roots = (cache.cache_root(cache_dir), *cache.local_directories())
    checkpoints = select(names) if names else _present(roots)
    results = [result for checkpoint in checkpoints for result in _results(checkpoint, roots, deep)]
    if as_json_:
        click.echo(json.dumps([result for result, _ in results], indent=1))
    for result, error in results:
        if not as_json_:
            cells = [f"{result['status']:<10}", result["name"], result["state"], result["behaviour"], result["path"]]
            click.echo("  ".join(cell for cell in cells if cell))
        if error:
            click.echo(f"error: {error}", err=True)
    statuses = [result["status"] for result, _ in results]
    click.echo(f"{statuses.count('ok')} of {len(statuses)} ok", err=True)
    click.get_current_context().exit(gravest(_EXIT_CODES[status] for status in statuses if status != "ok"))


def _present(roots: Sequence[Path]) -> list[Checkpoint]:
    known, found = set(list_models()), {name for root in roots for name in cache.cached_names(root)}
    for name in sorted(found - known):
        click.echo(f"not of this registry, skipped: {name} (robust-zoo cache prune deletes it)", err=True)
    return [get(name) for name in sorted(found & known | set(list_models(bundled=True)), key=natural_key)]


def _results(checkpoint: Checkpoint, roots: Sequence[Path], deep: bool) -> list[tuple[dict[str, Any], ZooError | None]]:
    """One result a copy. Null: the state of a copy that is not sound, behaviour without --deep, a missing path."""
    copies: list[tuple[Path | None, Path]] = [(root, cache.weights_path(root, checkpoint.name)) for root in roots]
    if checkpoint.bundled:
        copies = [(None, DATA / checkpoint.file)]
    found = [(root, path) for root, path in copies if path.is_file()]
    missing = as_json(checkpoint, "missing") | {"state": None, "behaviour": None, "path": None}
    seen = noted(checkpoint, roots[0])
    return [_result(checkpoint, root, path, seen, deep) for root, path in found] or [(missing, None)]


def _result(
    checkpoint: Checkpoint, root: Path | None, path: Path, seen: Seen | None, deep: bool
) -> tuple[dict[str, Any], ZooError | None]:
    about = as_json(checkpoint, "ok") | {"state": None, "behaviour": None, "path": str(path)}
    try:
        weights = _weights(checkpoint, root, path, seen)
        about["state"] = weights.state
        if deep:
            about["behaviour"] = "behaves otherwise"
            about["behaviour"] = _behaviour(checkpoint, weights)
        return about, None
    except VerificationFailed as error:
        return about | {"status": "otherwise" if about["behaviour"] else "corrupt"}, error
    except OSError as error:
        return about | {"status": "unreadable"}, storage_error(error)


def _weights(checkpoint: Checkpoint, root: Path | None, path: Path, seen: Seen | None) -> Weights:
    found = verified(checkpoint, root, seen) if root else ensure(checkpoint)
    if found is None:
        raise FileNotFoundError(2, "deleted while it was being checked", str(path))
    return found


def _behaviour(checkpoint: Checkpoint, weights: Weights) -> str:
    """In words. Raises VerificationFailed where it is not the row's."""
    if checkpoint.fingerprint is None:
        return "behaviour not verified"
    from tqdm import tqdm

    from robust_zoo.training.evaluation.behaviour import check, fingerprint_of

    images = len(checkpoint.fingerprint.responses)
    bar = partial(tqdm, desc=checkpoint.name, unit="image", disable=None)
    check(checkpoint, checkpoint.fingerprint, fingerprint_of(checkpoint, weights, images=images, bar=bar), weights)
    return "behaves as recorded"
