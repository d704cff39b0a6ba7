"""A rehearsed folder -> its repository: what differs, one commit, read back. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from robust_zoo.errors import Unavailable
from robust_zoo.publishing.folder import Folder
from robust_zoo.publishing.remote import Commit, Repository, git_hash
from robust_zoo.registry.published import FILE

SAME, CHANGED, NEW = "same", "changed", "new"


@dataclass(frozen=True)
class Outcome:
    """What came of a publication.

    Attributes:
        commit: The newest one of the repository, or the proposed one.
        states: What each file was before, by name: SAME, CHANGED or NEW.
    """

    commit: Commit
    states: Mapping[str, str]

    @property
    def unchanged(self) -> bool:
        """Whether all of it was there."""
        return set(self.states.values()) <= {SAME}


def states_of(folder: Folder, there: Commit | None) -> dict[str, str]:
    """How the files compare with a repository.

    Args:
        folder: The files.
        there: What the repository has, None where there is none.

    Returns:
        By name: SAME, CHANGED or NEW.
    """
    found = there.hashes if there else {}
    hashes = {name: {sha256} for name, sha256 in folder.hashes.items()}
    for name, content in folder.texts.items():  # which the hub stores in either way
        hashes[name].add(git_hash(content))
    return {name: (SAME if found[name] in mine else CHANGED) if name in found else NEW for name, mine in hashes.items()}


def publish(folder: Folder, out: Path, repository: Repository, *, private: bool, propose: bool) -> Outcome:
    """Makes the repository have these files: by one commit, on top of what was there a moment ago, or by none.

    A process that is killed on the way leaves the repository as it was: large files travel first, and are seen by
    nobody until the commit. What reads back must be what was sent.

    Args:
        folder: The files, rehearsed.
        out: Where they lie.
        repository: Theirs.
        private: Whether a new repository is.
        propose: As a pull request.

    Returns:
        What came of it.

    Raises:
        VerificationFailed: The hub has other bytes than were sent, or a file was changed on the disk.
        UsageError, Unavailable, Refused: As remote.refusals.
    """
    files = {name: out / name for name in folder.names}
    there = repository.look(files)
    if there is None:
        repository.make(private=private)
        there = repository.look(files)
    if there is None:
        raise Unavailable(
            f"{repository.id} was made, and is not there",
            model=repository.model,
            source=repository.url,
            expected="a repository with a first commit",
            actual="none",
            next="the same command again in a minute",
        )
    states = states_of(folder, there)
    outcome = Outcome(there, states)
    if outcome.unchanged:
        return outcome
    message = f"{folder.checkpoint.name}: {', '.join(name for name, state in states.items() if state != SAME)}"
    done = repository.commit(files, there, message, sha256=folder.hashes, propose=propose)
    repository.check(done, {name: folder.hashes[name] for name in (FILE, "config.json")}, declared=FILE)
    return Outcome(done, states)
