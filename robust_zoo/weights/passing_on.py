"""Whether weights may be passed on: loading is one thing, handing copies to others needs a licence. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import several


def require_licences(checkpoints: Iterable[Checkpoint]) -> None:
    """That each of these checkpoints may be passed on, in a bundle or otherwise.

    Args:
        checkpoints: Whose weights.

    Raises:
        UsageError: The licence of some is not known: they are loaded from their authors' host and stay on the machine
            that loaded them.
    """
    closed = [checkpoint for checkpoint in checkpoints if not checkpoint.may_be_passed_on]
    if not closed:
        return
    names = ", ".join(checkpoint.name for checkpoint in closed)
    origins = dict.fromkeys(checkpoint.collection.origin for checkpoint in closed)
    said = dict.fromkeys(checkpoint.licence_from for checkpoint in closed if checkpoint.licence_from)
    raise UsageError(
        f"{several(len(closed), 'checkpoint')} cannot be passed on: under which licence is not known",
        model=names,
        source="; ".join(origins),
        expected="a licence that lets others have copies",
        actual="licence unknown" + (f" ({'; '.join(said)})" if said else ""),
        next="say it: --licence LICENCE (mit, apache-2.0, ...), if it is yours to say"
        if any(checkpoint.is_own_file for checkpoint in closed)
        else f"leave them out, and there: robust-zoo download {closed[0].name}   loads them from their authors' host",
    )
