"""Names that anyone may have chosen: those fit for the registry's grammar, and paths of what is written under them."""

from __future__ import annotations

import re
from pathlib import Path

from robust_zoo.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,199}")
_LONGEST = 240  # bytes of a file's name; disks take 255, and temporary ones are longer by a few
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def is_name(text: str) -> bool:
    """Whether a text out of a file can be the name of a row: no path, no address, fit to be printed.

    Args:
        text: Any text.

    Returns:
        Whether it is of lower-case letters, digits and ``_ . -``, and begins with one of the first two.
    """
    return _NAME.fullmatch(text) is not None and ".." not in text


def within(folder: Path, name: str) -> Path:
    """The path of a file that is written to a folder, whoever chose the file's name.

    Args:
        folder: Where the user wants files.
        name: One name: no folder stands in it.

    Returns:
        The path, which lies in the folder, also where links are followed.

    Raises:
        UsageError: The name is a path, has control characters, is longer than disks take, or means a device on
            Windows; or a link of that name leads out of the folder.
    """
    path = folder / name
    if (
        not name.isprintable()
        or set(name) & set('/\\:*?"<>|')
        or len(name.encode()) > _LONGEST
        or name.rstrip(" .") != name
        or not name
        or _DEVICE.fullmatch(name)
    ):
        raise _not_written(name, folder, "a name that every file system takes, and no path")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _not_written(name, folder, f"a file in {folder}, and no link to {path.resolve()}")
    return path


def _not_written(name: str, folder: Path, expected: str) -> UsageError:
    return UsageError(
        f"no file is written under the name {name!r}",
        source=str(folder),
        expected=expected,
        actual=repr(name),
        next="give it another name; if you did not choose it, see who made the file that it is from",
    )
