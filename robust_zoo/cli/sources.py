from __future__ import annotations

import json
from typing import Any

import click

from robust_zoo.cli.options import select
from robust_zoo.describe import count
from robust_zoo.errors import Unavailable, UsageError, VerificationFailed, ZooError
from robust_zoo.registry.lookup import list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import printable, several
from robust_zoo.weights.cache import local_directories
from robust_zoo.weights.promises import promised
from robust_zoo.weights.sources import is_offline, mirrors, sources_for
from robust_zoo.weights.watch import Answer, look_at
from robust_zoo.weights.whereabouts import Source


@click.command("sources")
@click.argument("names", nargs=-1)
@click.option("--check", is_flag=True, help="Ask each source on a network whether it still has the file.")
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(names: tuple[str, ...], check: bool, as_json_: bool) -> None:
    """Show where files are looked for, and whether they are still there. NAMES are checkpoints or wildcards; none: all.

    \b
    robust-zoo sources resnet50_l2_eps3
    robust-zoo sources 'resnet50_l2_*' --check
    robust-zoo sources --json

    A line for each source, in the order in which they are tried: checkpoint, kind of source, size and sha256 of the
    file there as the registry has them ("-": not known), and the source.

    With --check each source on a network is asked for size and declared hash (a HEAD request, or one for the first
    byte; no file is fetched, and one host is asked one thing at a time). A mirror needs one of the two files that a
    published checkpoint has, its own or NAME.safetensors. The line starts with what came of it: ok,
    other size, other hash, dead (no such file, or no such host), refused (not for everyone), quota (of Drive, for
    today), page (a web page in place of the file), no answer. Exit code 0 if all are ok, 3 if none answered (is this
    machine online?), else 1: fit for a scheduled job.
    """
    found = [(row, source) for row in select(names or list_models()) for source in _sources(row)]
    if not check:
        if as_json_:
            click.echo(json.dumps([_known(*one) for one in found], indent=1))
            return
        for row, source in found:
            click.echo(f"{row.name}  {_line(row, source, *_promise(row, source))}")
        return
    if is_offline():
        raise UsageError(
            "--check in offline mode",
            source="ROBUST_ZOO_OFFLINE or HF_HUB_OFFLINE",
            expected="a network",
            actual="offline: no socket was opened",
            next="unset both; or robust-zoo sources   without --check",
        )
    seen = _asked([(row, source) for row, source in found if source.address])
    seen = tuple(one for one in seen if not _is_spare(one, seen))
    if as_json_:
        click.echo(json.dumps([_known(one.checkpoint, one.source) | _said(one) for one in seen], indent=1))
    for one in seen:
        if not as_json_:
            line = _line(one.checkpoint, one.source, one.size, one.sha256)
            click.echo(f"{one.verdict:<10}  {one.checkpoint.name}  {line}")
        if one.verdict != "ok":
            click.echo(f"error: {_error(one, seen)}", err=True)
    sound = sum(one.verdict == "ok" for one in seen)
    click.echo(
        f"{sound} of {several(len(seen), 'source')} ok, of {count(len({s.checkpoint.name for s in seen}))}", err=True
    )
    if sound < len(seen):
        answered = any(one.answered for one in seen)
        click.get_current_context().exit(VerificationFailed.exit_code if answered else Unavailable.exit_code)


def _sources(row: Checkpoint) -> tuple[Source, ...]:
    return sources_for(row, directories=local_directories(), extra_mirrors=mirrors(), offline=False)


def _promise(row: Checkpoint, source: Source) -> tuple[int | None, str | None]:
    """Size and sha256 of the file there, as far as the registry knows them."""
    expected = promised(row, source, row.sha256, row.size)
    return expected.size, expected.sha256


def _line(row: Checkpoint, source: Source, size: int | None, sha256: str | None) -> str:
    cells = (source.kind, f"{size:,} bytes" if size else "-", sha256[:12] if sha256 else "-", printable(source))
    return "  ".join(cells)


def _known(row: Checkpoint, source: Source) -> dict[str, Any]:
    size, sha256 = _promise(row, source)
    about = {"name": row.name, "kind": source.kind, "source": source.location, "variable": source.variable or None}
    return about | {"size": size, "sha256": sha256}


def _said(one: Answer) -> dict[str, Any]:
    """size and sha256 in `said` are the source's own words."""
    said = {"size": one.size, "sha256": one.sha256}
    return {"verdict": one.verdict, "detail": one.detail or None, "said": said}


def _asked(found: list[tuple[Checkpoint, Source]]) -> tuple[Answer, ...]:
    from tqdm import tqdm

    with tqdm(total=len(found), unit="source", disable=None) as bar:
        return look_at(found, tick=bar.update)


def _is_spare(one: Answer, seen: tuple[Answer, ...]) -> bool:
    """Whether a mirror lacks one of a checkpoint's two files (its own, and what that converts to) and has the other."""
    place = one.source.location.rpartition("/")[0]
    return one.verdict == "dead" and any(
        other.verdict == "ok" and other.source.location.rpartition("/")[0] == place
        for other in seen
        if one.source.kind == other.source.kind == "mirror" and other.checkpoint.name == one.checkpoint.name
    )


def _error(one: Answer, seen: tuple[Answer, ...]) -> ZooError:
    """What is wrong with one source, and whether the checkpoint can still be had."""
    row, (size, sha256) = one.checkpoint, _promise(one.checkpoint, one.source)
    others = [s.source for s in seen if s.checkpoint.name == row.name and s.verdict == "ok"]
    words = [f"{size:,} bytes" if size else "", f"sha256 {sha256}" if sha256 else ""]
    if others:
        asked = "" if row.has_public_hash else " --allow-unverified"
        following = f"robust-zoo download {row.name}{asked}   is served by {others[0]}"
    elif one.remedy:
        following = f"{one.remedy}; then robust-zoo sources {row.name} --check"
    elif one.verdict == "no answer":
        following = f"robust-zoo sources {row.name} --check   again later, or where there is internet"
    else:
        following = (
            f"a mirror in ROBUST_ZOO_MIRRORS, a file in ROBUST_ZOO_PATH, or a new source in the row of {row.name}"
        )
    kind = Unavailable if one.verdict == "no answer" else VerificationFailed
    return kind(
        f"{one.verdict}: a source of {row.name}",
        model=f"{row.name} ({row.file})",
        source=str(one.source),
        expected=", ".join(filter(None, words))
        or f"the file, of at most {promised(row, one.source, None, None).limit:,} bytes",
        actual=one.detail,
        next=following,
    )
