"""Whose files these are: directories that no one else may write to, and who may write to a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def own_directory(path: Path) -> None:
    """Makes a directory, and those above it, that no one else may write to, whatever the umask says.

    Args:
        path: The directory; one that is there stays as it is.

    Raises:
        OSError: The disk refused.
    """
    if not path.is_dir():
        own_directory(path.parent)
        path.mkdir(mode=0o755, exist_ok=True)


def who_else(*paths: Path) -> str:
    """Who besides this user may write to files and directories.

    Args:
        *paths: All of them; links count as what they lead to.

    Returns:
        In words, with the first such path; "" when no one else may but root, or the platform cannot tell.

    Raises:
        OSError: One is not there.
    """
    for path in paths if hasattr(os, "getuid") else ():
        found = path.stat()
        if found.st_uid not in (os.getuid(), 0):
            return f"{path} belongs to user {found.st_uid}"
        if found.st_mode & 0o022:
            return f"others may write to {path} ({stat.filemode(found.st_mode)})"
    return ""
