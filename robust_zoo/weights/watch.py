"""Whether the sources of rows still have what the rows say: each asked for size and declared hash, nothing fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.addresses import origin
from robust_zoo.weights.causes import SourceFailed, explained, is_unknown_host
from robust_zoo.weights.http import Told, told
from robust_zoo.weights.pages import WebPage
from robust_zoo.weights.promises import promised
from robust_zoo.weights.sources import credentials_for
from robust_zoo.weights.whereabouts import Source

_HOSTS = 8  # asked at once; of each, one question at a time
_KEPT = (401, 403, 407, 451)  # statuses of a file that is not for everyone
_PASSING = (0, 408, 425, 429)  # of an answer that says nothing of the file, as those from 500 on; 0: none came


@dataclass(frozen=True)
class Answer:
    """What one source says of a checkpoint's file.

    Attributes:
        checkpoint: Whose file.
        source: Which source.
        verdict: "ok"; "other size" or "other hash" than the row's; "dead": it has no such file, or its host has no
            address; "refused": it is not for everyone; "quota": Drive hands it out no more today; "page": a web page
            in its place; "no answer": none, or one that says nothing of the file.
        size: In bytes, as it says; None when it does not.
        sha256: As it declares; None when it does not.
        detail: What was wrong, in words.
        remedy: What may help, in words.
        answered: Whether it answered at all.
    """

    checkpoint: Checkpoint
    source: Source
    verdict: str
    size: int | None = None
    sha256: str | None = None
    detail: str = ""
    remedy: str = ""
    answered: bool = True


def look(checkpoint: Checkpoint, source: Source) -> Answer:
    """Asks one source.

    Args:
        checkpoint: Whose file.
        source: One on a network.

    Returns:
        What it says.
    """
    import requests

    try:
        try:
            answer = told(source.address, credentials_for(source))
        except requests.RequestException as error:
            raise explained(error, source.address) from error
    except WebPage as error:
        return Answer(checkpoint, source, error.verdict, detail=str(error), remedy=error.remedy)
    except SourceFailed as error:
        said = (None, None, str(error), error.remedy, bool(error.status))
        return Answer(checkpoint, source, _verdict(error), *said)
    return Answer(checkpoint, source, *_compared(checkpoint, source, answer))


def _compared(checkpoint: Checkpoint, source: Source, said: Told) -> tuple[str, int | None, str | None, str]:
    """(verdict, size, sha256, detail) of what a source says of the file."""
    expected = promised(checkpoint, source, checkpoint.sha256, checkpoint.size)
    if said.size is not None and (said.size > expected.limit or said.size != (expected.size or said.size)):
        most = f"{expected.size:,}" if expected.size else f"at most {expected.limit:,}"
        return "other size", said.size, said.sha256, f"{said.size:,} bytes instead of {most}"
    if said.sha256 and expected.sha256 not in (None, said.sha256):
        return "other hash", said.size, said.sha256, f"sha256 {said.sha256} instead of {expected.sha256}"
    return "ok", said.size, said.sha256, ""


def _verdict(error: SourceFailed) -> str:
    if error.status in _KEPT:
        return "refused"
    if error.status in _PASSING or error.status >= 500:
        return "dead" if is_unknown_host(error) else "no answer"
    return "dead"


def look_at(
    asked: Sequence[tuple[Checkpoint, Source]], *, tick: Callable[[], object] = lambda: None
) -> tuple[Answer, ...]:
    """Asks many sources, politely: some hosts at once, and each of them one thing at a time.

    Args:
        asked: Checkpoints with sources on a network.
        tick: Called after each.

    Returns:
        What they say, in the order of `asked`.
    """
    hosts: dict[str, list[int]] = {}
    for i, (_, source) in enumerate(asked):
        hosts.setdefault(_host(source), []).append(i)

    def ask(indices: Iterable[int]) -> list[tuple[int, Answer]]:
        seen = []
        for i in indices:
            seen.append((i, look(*asked[i])))
            tick()
        return seen

    with ThreadPoolExecutor(_HOSTS) as pool:
        found = dict(pair for pairs in pool.map(ask, hosts.values()) for pair in pairs)
    if not any(seen.answered for seen in found.values()):  # it is this machine that has no network, or no name server
        found = {i: replace(seen, verdict="no answer") for i, seen in found.items()}
    return tuple(found[i] for i in range(len(asked)))


def _host(source: Source) -> str:
    try:
        return origin(source.address)[1]
    except ValueError:  # an address that is none: its turn will say so
        return source.address
