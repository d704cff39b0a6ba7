"""What no verb foresaw: any exception as five fields with an exit code, and any text as what a terminal can show."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, cast

import click

from robust_zoo.errors import StorageError, ZooError
from robust_zoo.text import printable
from robust_zoo.weights.child import out_of_memory

DEBUG = "ROBUST_ZOO_DEBUG"
_PACKAGE = Path(__file__).parents[1]
_UP = "\x1b[A"  # a line up: progress bars below each other need it


class Unforeseen(ZooError):
    """An exception that no module made an error of: its exit code says that the fault may well be ours."""

    exit_code = 70


def debugging(meta: dict[str, Any]) -> bool:
    """Whether tracebacks are shown: by --debug, which is noted in click's `meta`, or by ROBUST_ZOO_DEBUG=1."""
    return bool(meta.get(DEBUG)) or os.environ.get(DEBUG, "") not in ("", "0")


@contextmanager
def net(debug: Callable[[], bool]) -> Iterator[None]:
    """Every exception of the block ends the process with five fields and an exit code, never with a traceback.

    Args:
        debug: Whether the traceback is shown as well; asked when something is caught.

    Raises:
        SystemExit: Instead of whatever was raised, but for click's own ways to end.
    """
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BrokenPipeError:  # `robust-zoo list | head`: the reader has enough
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (Exception, KeyboardInterrupt) as error:
        found = None if isinstance(error, KeyboardInterrupt) else explained(error)
        with suppress(OSError):  # the terminal is gone, or the disk that it is sent to is full
            if debug():
                traceback.print_exception(error)
            click.echo(f"error: {found}" if found else "interrupted", err=True)
        sys.exit(found.exit_code if found else 130)


def explained(error: Exception) -> ZooError:
    """Any exception as an error with five fields.

    Args:
        error: What was caught.

    Returns:
        A ZooError as it is; for the disk's refusals and for memory a StorageError; else Unforeseen.
    """
    if isinstance(error, ZooError):
        return error
    said = _said(error)
    if out_of_memory(error):
        return StorageError(
            "out of memory",
            source=_place(error),
            expected="work that fits into the memory that is free",
            actual=said,
            next="a smaller batch or fewer images at once, other programs ended, or a machine with more memory",
        )
    if isinstance(error, OSError):
        return storage_error(error)
    return Unforeseen(
        "robust-zoo did not expect this",
        source=_place(error),
        expected="a result, or an error that says what to change",
        actual=said,
        next="check the files and values that you gave; the same command with --debug shows where it happened",
    )


def storage_error(error: OSError) -> StorageError:
    """An error of the local disk that no module foresaw, with its five fields."""
    return StorageError(
        error.strerror or _said(error),
        source=str(error.filename or "standard output"),
        expected="a path that can be read and written, on a disk with free space",
        actual=_said(error),
        next="check the path, its permissions and its disk (df -h)",
    )


def _said(error: Exception) -> str:
    """Its kind and words; of a traceback among them (of another process) the last line alone."""
    lines = str(error).strip().splitlines()
    text = lines[-1] if any(line.endswith("(most recent call last):") for line in lines) else " ".join(lines[:3])
    return f"{type(error).__name__}: {text}"


def _place(error: Exception) -> str:
    """The innermost line of this package that the exception went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(_PACKAGE)]
    return f"{Path(frames[-1].filename).relative_to(_PACKAGE.parent)}:{frames[-1].lineno}" if frames else ""


class _Shown:
    """A text stream that shows what a terminal would act on; all but `write` is the stream's own."""

    encoding = "utf-8"  # of an ASCII one click would take the bytes beneath

    def __init__(self, stream: TextIO, keep: str) -> None:
        self._stream, self._keep = stream, keep
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("a text stream")  # by which click tells it from one of bytes
        parts = text.split(_UP) if "\r" in self._keep else [text]
        self._stream.write(_UP.join(printable(part, keep=self._keep, limit=None) for part in parts))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def shown() -> Iterator[None]:
    """What the block prints, logs and warns of reaches the terminal printable, whoever wrote the names in it."""
    out, err = sys.stdout, sys.stderr  # None where they were closed
    with (
        redirect_stdout(cast("TextIO", _Shown(out, "\n\t") if out else out)),
        redirect_stderr(cast("TextIO", _Shown(err, "\n\t\r") if err else err)),
    ):
        yield
