"""A repository on the Hugging Face hub: what is there, one commit on top of it, and whether it reads back. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_zoo.errors import Unavailable, VerificationFailed, damaged
from robust_zoo.publishing.refusals import refusals
from robust_zoo.weights.addresses import join
from robust_zoo.weights.asked import opened
from robust_zoo.weights.causes import SourceFailed
from robust_zoo.weights.credentials import token
from robust_zoo.weights.http import head, request

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Commit:
    """What a repository is at one moment.

    Attributes:
        revision: The commit.
        private: Whether others see it.
        hashes: The files that were asked about, by name: sha256 of one that is stored as a large file, else git's
            hash of its content.
        pull_request: Its address, where the commit is only proposed.
    """

    revision: str
    private: bool
    hashes: Mapping[str, str]
    pull_request: str = ""


@dataclass(frozen=True)
class Repository:
    """A model repository.

    Attributes:
        id: "ORGANISATION/NAME".
        endpoint: Of the hub.
        model: The checkpoint's name, for messages.
    """

    id: str
    endpoint: str
    model: str

    @property
    def url(self) -> str:
        """Its page."""
        return join(self.endpoint, self.id)

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint)

    def look(self, files: Mapping[str, Path]) -> Commit | None:
        """What is there of these files.

        Args:
            files: By their names in the repository.

        Returns:
            The newest commit, None where there is no such repository, or none that this user may see.

        Raises:
            UsageError, Unavailable: As `refusals`.
        """
        from huggingface_hub.errors import RepositoryNotFoundError

        with refusals(self.id, self.endpoint, self.model):
            try:
                info = self._api().model_info(self.id)
                found: list[Any] = self._api().get_paths_info(self.id, list(files), revision=info.sha)
            except RepositoryNotFoundError:
                return None
        hashes = {entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in found}
        return Commit(info.sha or "", bool(info.private), hashes)

    def make(self, *, private: bool) -> None:
        """Makes the repository; one that is there already stays as it is.

        Args:
            private: Whether only members of the organisation see it.

        Raises:
            UsageError, Unavailable: As `refusals`.
        """
        with refusals(self.id, self.endpoint, self.model):
            self._api().create_repo(self.id, private=private, exist_ok=True)

    def commit(
        self, files: Mapping[str, Path], parent: Commit, message: str, *, sha256: Mapping[str, str], propose: bool
    ) -> Commit:
        """One commit with all of these files on top of another: all of them are there afterwards, or none is.

        Args:
            files: By their names in the repository.
            parent: What the newest commit must be.
            message: Of the commit.
            sha256: What some of the files must still be when they are sent.
            propose: As a pull request.

        Returns:
            The new commit, without hashes.

        Raises:
            VerificationFailed: A file was changed since it was written.
            UsageError, Unavailable, Refused: As `refusals`.
        """
        from huggingface_hub import CommitOperationAdd

        with refusals(self.id, self.endpoint, self.model):
            additions = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
            for addition in additions:
                found, wanted = addition.upload_info.sha256.hex(), sha256.get(addition.path_in_repo)
                if wanted not in (None, found):
                    raise damaged(
                        f"{addition.path_in_repo} of {self.model} was changed since it was checked: it is",
                        files[addition.path_in_repo],
                        f"sha256 {wanted}",
                        f"sha256 {found}",
                        model=self.model,
                        next="the same command again; let nothing else write to that folder",
                    )
            done = self._api().create_commit(
                self.id, additions, commit_message=message, parent_commit=parent.revision, create_pr=propose
            )
        return Commit(done.oid, parent.private, {}, done.pr_url or "" if propose else "")

    def check(self, commit: Commit, sha256: Mapping[str, str], *, declared: str) -> None:
        """That a commit reads back as it was meant, as a download sees it: asked by our own client, not by the library.

        Args:
            commit: From `commit`.
            sha256: Of files, by name.
            declared: The one whose sha256 the hub must declare; the others are read.

        Raises:
            VerificationFailed: It does not.
            Unavailable: The hub does not say.
        """
        base = join(self.endpoint, f"{self.id}/resolve/{commit.revision}")
        for name, wanted in sha256.items():
            try:
                found = self._declared(f"{base}/{name}") if name == declared else self._read(f"{base}/{name}")
            except SourceFailed as failure:
                raise Unavailable(
                    f"{self.id}: the commit {commit.revision} was made, and does not read back",
                    model=self.model,
                    source=f"{base}/{name}",
                    expected=f"sha256 {wanted}",
                    actual=str(failure),
                    next=failure.remedy or "the same command again: it looks whether the files are there",
                ) from None
            if found != wanted:
                raise VerificationFailed(
                    f"{self.id}: the commit {commit.revision} was made, and the hub has another {name}",
                    model=self.model,
                    source=f"{base}/{name}",
                    expected=f"sha256 {wanted}",
                    actual=f"sha256 {found}" if found else "no sha256 declared",
                    next=f"do not register this commit; look at {self.url}/commits/main, then the same command again",
                )

    @staticmethod
    def _declared(url: str) -> str:
        return head(url, token()).headers.get("x-linked-etag", "").strip('"')

    @staticmethod
    def _read(url: str) -> str:
        with opened() as session, request(session, url, 0, token()) as answer:
            return hashlib.sha256(answer.content).hexdigest()


def git_hash(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
