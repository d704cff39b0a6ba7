"""Where a source file may be; and the error when no source served it: who was asked, what each said, what to do."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote

from robust_zoo.errors import Unavailable, VerificationFailed, ZooError
from robust_zoo.registry.places import Place
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.addresses import join, without_secrets

_HUB, _ENDPOINT = "https://huggingface.co", "HF_ENDPOINT"


@dataclass(frozen=True)
class Source:
    """One place that may have a file.

    Attributes:
        kind: "bundled", "local", "hub" or "mirror".
        location: A path, or an address as it may be shown.
        address: What is asked, name and password and query included.
        variable: Which one gave the address, "" for none.
    """

    kind: str
    location: str
    address: str = field(default="", repr=False, compare=False)
    variable: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.location} ({self.variable})" if self.variable else self.location


def remote(kind: str, address: str, variable: str = "") -> Source:
    """A source that is asked over a network; which variable gave its address is told with it."""
    return Source(kind, without_secrets(address), address, variable)


def hub_source(place: Place) -> Source:
    """A file on the hub, at the pinned revision."""
    given = os.environ.get(_ENDPOINT, "").strip()
    path = f"{place.repo}/resolve/{quote(place.revision, safe='')}/{quote(place.path)}"
    return remote("hub", join(given or _HUB, path), _ENDPOINT if given else "")


def unserved(
    checkpoint: Checkpoint,
    sha256: str | None,
    state: str,
    wrong: list[tuple[Source, str]],
    failures: list[tuple[Source, str]],
    *,
    offline: bool,
    remedies: Iterable[str] = (),
) -> ZooError:
    """The error that names every source tried, with its cause.

    Args:
        checkpoint: Whose file.
        sha256: What it must be, None when unknown.
        state: Where that hash is from; see robust_zoo.weights.verify.VerifiedFile.
        wrong: Sources that served other bytes, and which.
        failures: Sources that served nothing, and why.
        offline: Whether no socket was opened.
        remedies: What may help, in words.

    Returns:
        VerificationFailed when a source served other bytes, else Unavailable.
    """
    model = f"{checkpoint.name} ({checkpoint.file})"
    tried = "; ".join(dict.fromkeys(f"{source}: {cause}" for source, cause in wrong + failures))
    if wrong:
        return VerificationFailed(
            f"{checkpoint.name}: other bytes than promised, and no source has the right ones",
            model=model,
            source=tried,
            expected=f"sha256 {sha256} ({state})",
            actual="; ".join(dict.fromkeys(cause for _, cause in wrong)),
            next=f"robust-zoo info {checkpoint.name}   shows where this hash comes from",
        )
    if any("no sha256 is known" in cause for _, cause in failures):
        following = (
            f"go online, so that the hub can declare it; or robust-zoo download {checkpoint.name} --allow-unverified"
        )
    elif offline:
        following = f"online: robust-zoo download {checkpoint.name} (about {checkpoint.approximate_size / 1e6:,.0f} MB)"
    elif helps := list(dict.fromkeys(remedies)):
        following = f"{'; '.join(helps)}; then robust-zoo download {checkpoint.name}"
    else:
        following = f"robust-zoo download {checkpoint.name}   tries again and resumes; ROBUST_ZOO_MIRRORS adds sources"
    return Unavailable(
        f"{checkpoint.name} is not cached, and offline mode is on"
        if offline
        else f"no source could serve {checkpoint.name}",
        model=model,
        source=tried or "the cache and ROBUST_ZOO_PATH",
        expected=f"{checkpoint.file}" + (f" with sha256 {sha256}" if sha256 else ""),
        actual="offline: no socket was opened"
        if offline
        else f"failed sources: {len({source for source, _ in failures})}",
        next=following,
    )
