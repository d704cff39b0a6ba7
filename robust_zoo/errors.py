"""Every way the zoo can fail, each with its exit code and the five things a user needs to know."""

from __future__ import annotations

from pathlib import Path


class ZooError(Exception):
    """Base of all errors raised on purpose.

    The message says what happened in one line; the five fields say which model and file, which
    source was tried, what was expected, what was found, and which command to run next. A field
    that does not apply is left out of the text.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, model: str = "", source: str = "", expected: str = "", actual: str = "", next: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.model, self.source, self.expected, self.actual, self.next = model, source, expected, actual, next

    @property
    def fields(self) -> dict[str, str]:
        """The five fields by name, in the order they are printed."""
        return {name: getattr(self, name) for name in ("model", "source", "expected", "actual", "next")}

    def __str__(self) -> str:
        lines = [f"  {name + ':':<10}{text}" for name, text in self.fields.items() if text]
        return "\n".join([self.message, *lines])

    def __reduce__(self) -> tuple:  # errors cross process boundaries (conversion runs in a child)
        return (_rebuild, (type(self), self.message, self.fields))


def _rebuild(kind: type[ZooError], message: str, fields: dict[str, str]) -> ZooError:
    return kind(message, **fields)


class VerificationFailed(ZooError):
    """Bytes or tensors are not the ones promised: wrong hash, wrong size, NaN, missing keys."""

    exit_code = 1


class UsageError(ZooError):
    """The call itself is wrong: a bad argument, an impossible combination."""

    exit_code = 2


class Unavailable(ZooError):
    """No source could serve the file."""

    exit_code = 3


class UnknownCheckpoint(ZooError):
    """No checkpoint, architecture or file of that name."""

    exit_code = 4


class StorageError(ZooError):
    """The local disk refused: no space, no permission, no home."""

    exit_code = 5


def cannot_write(path: Path, error: OSError, next: str = "") -> StorageError:
    """The StorageError for a path that the disk refused. next: what to do about it, for the cache when empty."""
    return StorageError(
        f"cannot write {path.parent}",
        source=str(path),
        expected="a writable directory with free space",
        actual=f"{type(error).__name__}: {error.strerror or error}",
        next=next or "set ROBUST_ZOO_CACHE to a directory you can write to, or pass --cache-dir",
    )


def not_installed(what: str, package: str, extra: str) -> UsageError:
    """The UsageError for what needs an optional package; `what` says so. extra: of ours, which installs it."""
    return UsageError(
        what, expected=f"the {extra} extra", actual=f"{package} is not installed",
        next=f"pip install 'robust-zoo[{extra}]'",
    )  # fmt: skip


class Refused(ZooError):
    """The file is unsafe or malformed and was not read: a pickle that runs code, a bomb, a broken header."""

    exit_code = 6


class NewHeadWarning(UserWarning):
    """A model differs from its checkpoint in a layer that starts at random: the robustness figures do not apply."""
