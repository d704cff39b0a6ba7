from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from robust_zoo.cli.options import CACHE_DIR, select
from robust_zoo.describe import count
from robust_zoo.errors import Unavailable, UsageError
from robust_zoo.registry.published import Published
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.passing_on import require_licences
from robust_zoo.weights.published import header_digest
from robust_zoo.weights.sources import is_offline

if TYPE_CHECKING:
    from robust_zoo.publishing.folder import Folder
    from robust_zoo.publishing.publication import Outcome
    from robust_zoo.publishing.remote import Repository

_PROVEN = ("pinned", "hub-declared")  # states of weights whose hash is public


@click.command("publish")
@click.argument("names", nargs=-1, required=True)
@click.option("--namespace", default="", metavar="ORG", help="A user or organisation of the hub; the project's own.")
@click.option("--dry-run", is_flag=True, help="Make and check the folder, say what differs at the hub; send nothing.")
@click.option("--public", is_flag=True, help="A new repository is seen by all; else by you, or your organisation.")
@click.option("--create-pr", is_flag=True, help="Propose the files as a pull request.")
@click.option("--out", type=Path, metavar="DIR", help="Leave the folders here, each under its checkpoint's name.")
@click.option("--licence", default="", metavar="LICENCE", help="Of a file of your own that does not say it: mit, ...")
@CACHE_DIR
@click.option("--offline", is_flag=True, help="With --dry-run: open no socket.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(
    names: tuple[str, ...], namespace: str, dry_run: bool, public: bool, create_pr: bool, out: Path | None,
    licence: str, cache_dir: str | None, offline: bool, quiet: bool, as_json_: bool,
) -> None:  # fmt: skip
    """Publish weights on the Hugging Face hub, for timm, transformers and robust_zoo.

    \b
    robust-zoo publish resnet50_l2_eps3 --namespace ORG --dry-run --out published
    robust-zoo publish resnet50_l2_eps3 --namespace ORG
    robust-zoo publish 'resnet18_l2_*' --namespace ORG --public
    robust-zoo publish mine.safetensors --namespace ME --licence mit

    NAMES are checkpoints, wildcards, or files that robust-zoo wrote. Each becomes a repository ORG/NAME with
    model.safetensors (the verified bytes as they are), config.json, the card as README.md with its curve, and LICENSE.
    Before any of it is sent, another process loads the folder with timm alone and must get the same logits, bit for
    bit; a network that timm does not have is loaded after robust_zoo.register_with_timm().

    Weights are published whose hash is public and whose licence is known. All files go into one commit on top of what
    was there; a repository that has them already is left alone. A new one is private until you say --public. The token
    is that of HF_TOKEN or of `hf auth login`.

    Afterwards timm.create_model("hf-hub:ORG/NAME", pretrained=True) loads it. Prints the lines that tell robust_zoo of
    it: reviewed and put into robust_zoo/registry/published.toml, they make it the first place to download from.
    --create-pr prints the pull request; when it is merged, the same command prints the lines.
    """
    from robust_zoo.publishing.access import endpoint, require_namespace, require_token, require_writer
    from robust_zoo.publishing.publication import publish, states_of
    from robust_zoo.publishing.remote import Repository

    asking = not (offline or is_offline())
    if not dry_run and not asking:
        raise Unavailable(
            "nothing can be published offline",
            source="--offline, ROBUST_ZOO_OFFLINE or HF_HUB_OFFLINE",
            expected="a network",
            actual="offline: no socket was opened",
            next="robust-zoo publish NAME --dry-run   makes and checks the folder",
        )
    owner, hub = require_namespace(namespace), endpoint()
    checkpoints = [_licensed(checkpoint, licence) for checkpoint in select(names)]
    require_licences(checkpoints)
    if not dry_run:
        require_token()
    click.echo(count(len(checkpoints)), err=True)
    results, allowed = [], False
    for checkpoint in checkpoints:
        repository = Repository(f"{owner}/{checkpoint.name}", hub, checkpoint.name)
        with _place(out, checkpoint) as place:
            folder = _rehearsed(checkpoint, repository, place, cache_dir, offline=not asking, quiet=quiet)
            if dry_run:
                there = repository.look({name: place / name for name in folder.names}) if asking else None
                states = states_of(folder, there) if asking else {}
                results.append(_told(repository, folder, states) | {"dry_run": True})
                if not as_json_:
                    _show(repository, folder, states)
                continue
            if not allowed:
                require_writer(owner, hub)
                allowed = True
            with _bars(quiet):
                outcome = publish(folder, place, repository, private=not public, propose=create_pr)
        results.append(_told(repository, folder, outcome.states) | _came(outcome))
        _say(repository, folder, outcome, public=public, lines=not as_json_)
    if as_json_:
        click.echo(json.dumps(results, indent=1))


def _licensed(checkpoint: Checkpoint, licence: str) -> Checkpoint:
    """With the licence that its owner says. Raises UsageError for a row, which says it itself."""
    if not licence or (checkpoint.is_own_file and not checkpoint.may_be_passed_on):
        return replace(checkpoint, licence=licence) if licence else checkpoint
    raise UsageError(
        f"the licence of {checkpoint.name} is said already",
        model=checkpoint.name,
        source=checkpoint.licence_from or checkpoint.collection.origin,
        expected="--licence for a file of your own that does not say it",
        actual=f"--licence {licence}, where it is {checkpoint.licence}",
        next="leave --licence out",
    )


@contextmanager
def _place(out: Path | None, checkpoint: Checkpoint) -> Iterator[Path]:
    """Where the folder lies: for good, or until it was sent."""
    if out:
        yield out / checkpoint.name
    else:
        with TemporaryDirectory(prefix="robust-zoo-") as scratch:
            yield Path(scratch) / checkpoint.name


@contextmanager
def _bars(quiet: bool) -> Iterator[None]:
    """With huggingface_hub's own progress bars, or without."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    change = quiet and not are_progress_bars_disabled()
    if change:
        disable_progress_bars()
    try:
        yield
    finally:
        if change:
            enable_progress_bars()


def _rehearsed(
    checkpoint: Checkpoint, repository: Repository, place: Path, cache_dir: str | None, *, offline: bool, quiet: bool
) -> Folder:
    """The folder, written and loaded by a stranger."""
    from robust_zoo.architectures.config import config_of, in_repository
    from robust_zoo.cli.card import files_of
    from robust_zoo.publishing.folder import folder_of, write
    from robust_zoo.publishing.rehearsal import rehearse
    from robust_zoo.weights.ensure import ensure

    weights = ensure(checkpoint, cache_dir=cache_dir, offline=offline or None, progress=not quiet)
    if weights.state not in _PROVEN:
        raise UsageError(
            f"{checkpoint.name} is {weights.state}: no public hash says that these are its weights",
            model=checkpoint.name,
            source=weights.source,
            expected=f"weights that are {' or '.join(_PROVEN)}",
            actual=weights.state,
            next=f"robust-zoo pin {checkpoint.name}   prints the lines that pin it in its row"
            if weights.state == "first-seen"
            else f"robust-zoo download {checkpoint.name} --cache-dir NEW   fetches and converts it here",
        )
    told = in_repository(checkpoint, repository.url)
    card = {name: text.encode() for name, text in files_of(told, "README", repository.id, source=checkpoint).items()}
    folder = folder_of(told, weights, config_of(told), card)
    write(folder, place)
    rehearse(folder, place)
    return folder


def _told(repository: Repository, folder: Folder, states: dict[str, str] | Any) -> dict[str, Any]:
    files = [
        {"file": name, "size": size, "sha256": folder.hashes[name], "state": states.get(name)}
        for name, size in folder.sizes.items()
    ]
    return {"name": folder.checkpoint.name, "repo": repository.id, "url": repository.url, "files": files}


def _came(outcome: Outcome) -> dict[str, Any]:
    commit = outcome.commit
    return {
        "dry_run": False,
        "revision": commit.revision,
        "private": commit.private,
        "pull_request": commit.pull_request or None,
        "unchanged": outcome.unchanged,
    }


def _show(repository: Repository, folder: Folder, states: dict[str, str]) -> None:
    click.echo(repository.id)
    width = max(map(len, folder.names))
    for name, size in folder.sizes.items():
        state = states.get(name, "not compared: offline")
        click.echo(f"  {name:<{width}}  {size:>13,} bytes  sha256 {folder.hashes[name]}  {state}")


def _say(repository: Repository, folder: Folder, outcome: Outcome, *, public: bool, lines: bool) -> None:
    """What happened on stderr; on stdout the lines for published.toml."""
    commit, name = outcome.commit, folder.checkpoint.name
    seen = "private" if commit.private else "public"
    if commit.pull_request:
        click.echo(f"{repository.id}: proposed as {commit.pull_request}", err=True)
        click.echo("when it is merged, the same command prints the lines for published.toml", err=True)
        return
    what = "has all of this already" if outcome.unchanged else "published"
    click.echo(f"{repository.id}: {what}, commit {commit.revision}, {seen}", err=True)
    if public and commit.private:
        click.echo(f"it was private before and stays so: {repository.url}/settings makes it public", err=True)
    told = "" if folder.checkpoint.network.plain_timm else "robust_zoo.register_with_timm(); "
    click.echo(f'{told}timm.create_model("hf-hub:{repository.id}", pretrained=True)', err=True)
    if lines and folder.is_registered:
        header = "" if folder.checkpoint.bundled else header_digest(folder.checkpoint)
        content, sha256 = folder.weights.content, folder.weights.sha256
        published = Published(repository.id, commit.revision, sha256, len(content), header)
        click.echo("\n".join([*published.lines(name), ""]))
