"""Every way to fail, with its exit code and the five things a user needs to know; constructors of the usual ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from robust_zoo.text import printable

_FEW = 20  # names that an error lists


class ZooError(Exception):
    """Base of all errors raised on purpose.

    The message says what happened in one line; the five fields say which model and file, which
    source was tried, what was expected, what was found, and which command to run next. A field
    that does not apply is left out of the text.

    Args:
        message: What happened, in one line.
        model: Which checkpoint and file.
        source: Where it was looked for: paths, addresses, with what each one answered.
        expected: What would have been right.
        actual: What was found.
        next: The next command, or what to do.

    Attributes:
        exit_code: What the command line ends with; each subclass has its own.
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
        """Printable whatever the texts hold: a line break in one of them cannot pretend to be a field."""
        texts = {name: printable(text, keep="\n") for name, text in self.fields.items() if text}
        lines = [f"  {name + ':':<10}" + text.replace("\n", "\n" + " " * 12) for name, text in texts.items()]
        return "\n".join([printable(self.message), *lines])

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


class Refused(ZooError):
    """The file is unsafe or malformed and was not read: a pickle that runs code, a bomb, a broken header."""

    exit_code = 6


class NewHeadWarning(UserWarning):
    """A model differs from its checkpoint in a layer that starts at random: the robustness figures do not apply."""


# --- Constructors: one for each thing that goes wrong in many places ---


def closest(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """The choices that are spelled most like a name, the best first.

    Args:
        name: What was given.
        choices: The names there are.
        n: At most so many.

    Returns:
        Names out of `choices`.
    """
    return difflib.get_close_matches(name, list(choices), n=n, cutoff=0.0)


def unknown(
    kind: str,
    name: str,
    choices: Iterable[str],
    *,
    error: type[ZooError] = UsageError,
    next: str = "",
    like: str = "",
    **fields: str,
) -> ZooError:
    """The error for a name that no table has: it lists a short table, and the closest names of any.

    Args:
        kind: What the name should be of ("norm", "dataset").
        name: What was given.
        choices: The names there are.
        error: The kind of error.
        next: The next command; {closest} in it is the closest name.
        like: What the closest names are close to: `name` as the table would spell it, itself when empty.
        **fields: `model` and `source`.

    Returns:
        An error to raise.
    """
    names = list(choices)
    near = closest(like or name, names)
    listed = f"one of {', '.join(names)}" if len(names) <= _FEW else f"one of {len(names)} names"
    listed = " or ".join(names) if len(names) < 3 else listed
    return error(
        f"unknown {kind} {name!r}",
        expected=f"{listed}; closest: {', '.join(near)}",
        actual=repr(name),
        next=next.replace("{closest}", near[0] if near else ""),
        **fields,
    )


def missing_file(
    path: Path, expected: str, next: str = "", *, error: type[ZooError] = UsageError, model: str = ""
) -> ZooError:
    """The error for a file or folder that is not there (or a folder where a file is needed).

    Args:
        path: Where it should be.
        expected: What should be there, in words.
        next: The next command, or what to do.
        error: The kind of error.
        model: Which checkpoint it is of.

    Returns:
        An error to raise.
    """
    actual = "a directory" if path.is_dir() else "nothing there"
    return error(f"no such file: {path}", model=model, source=str(path), expected=expected, actual=actual, next=next)


def cannot_read(
    what: str, source: Path | str, expected: str, cause: Exception | str, next: str = "", **fields: str
) -> UsageError:
    """The error for something that is there and not what it should be.

    Args:
        what: What was read, in words, e.g. "test images".
        source: Where it is.
        expected: What should be there, in words.
        cause: What went wrong: the exception, or words.
        next: The next command, or what to do.
        **fields: `model`.

    Returns:
        An error to raise.
    """
    actual = cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}"
    return UsageError(f"cannot read {what}", source=str(source), expected=expected, actual=actual, next=next, **fields)


def cannot_write(path: Path, error: OSError, next: str = "") -> StorageError:
    """The error for a path that the disk refused.

    Args:
        path: What was to be written.
        error: What the disk said.
        next: What to do about it; advice about the cache when empty.

    Returns:
        An error to raise.
    """
    return StorageError(
        f"cannot write {path.name}",
        source=str(path),
        expected="a writable directory with free space",
        actual=f"{type(error).__name__}: {error.strerror or error}",
        next=next or "set ROBUST_ZOO_CACHE to a directory you can write to, or pass --cache-dir",
    )


def not_installed(what: str, package: str, extra: str) -> UsageError:
    """The error for what needs an optional package.

    Args:
        what: What needs it, in words: the error's message.
        package: The package that is missing.
        extra: The extra of ours that installs it.

    Returns:
        An error to raise.
    """
    return UsageError(
        what,
        expected=f"the {extra} extra",
        actual=f"{package} is not installed",
        next=f"pip install 'robust-zoo[{extra}]'",
    )


def damaged(what: str, source: Path | str, expected: str, actual: str, **fields: str) -> VerificationFailed:
    """The error for a file that is not the one it was: of the package, unless `next` says how else to get it.

    Args:
        what: The file, in words, with its verb: "the weights of X are".
        source: Where it is.
        expected: What it should be.
        actual: What it is.
        **fields: `model`, and `next`: how to get a sound one.

    Returns:
        An error to raise.
    """
    fields = {"next": "pip install --force-reinstall robust-zoo"} | fields
    return VerificationFailed(f"{what} damaged", source=str(source), expected=expected, actual=actual, **fields)
