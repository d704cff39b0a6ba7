"""The site on a disk: written whole or not at all, over an earlier one or where nothing is."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from robust_zoo.errors import UsageError
from robust_zoo.files import storage
from robust_zoo.site.pages import packed

LIST = "FILES.gz"  # the paths of all files of the site, a line each: what a later site may replace


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Puts a site into a folder in one step; killed before it, what was there stays.

    What begins with a dot stays where it is (.git of a Space that was cloned). Files of an earlier site go.

    Args:
        folder: Where; made where it is not, with the folders above it.
        files: Path in the site -> bytes, as `build` makes them.

    Raises:
        UsageError: The folder holds files that are not of an earlier site, or is a file or a link.
        StorageError: The disk refuses.
    """
    _require_ours(folder)
    advice = "free some space, or choose another folder for -o"
    with storage(folder, advice):
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        old = new.with_name(f"{new.name}.old")
        try:
            paths = "".join(f"{path}\n" for path in files)
            for path, content in {**files, LIST: packed(paths.encode())}.items():
                file = new / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            new.chmod(0o755)  # mkdtemp's 0700 is for secrets
            if folder.exists():
                folder.replace(old)
            new.replace(folder)
            for hidden in old.glob(".*") if old.exists() else ():
                hidden.replace(folder / hidden.name)
        except BaseException:
            if old.exists() and not folder.exists():
                old.replace(folder)
            shutil.rmtree(new, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _require_ours(folder: Path) -> None:
    """That nothing is lost but an earlier site."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise _not_ours(folder, "a link" if folder.is_symlink() else "a file")
    known = _listed(folder / LIST)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    others = sorted(path for path in found - known - {LIST} if not path.startswith("."))
    if others:
        raise _not_ours(folder, ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else ""))


def _listed(file: Path) -> set[str]:
    """The paths that an earlier site says are its own; none where it says nothing that can be read."""
    try:
        return set(gzip.decompress(file.read_bytes()).decode().splitlines())
    except (OSError, EOFError, zlib.error, UnicodeError):
        return set()


def _not_ours(folder: Path, actual: str) -> UsageError:
    return UsageError(
        f"{folder.name} holds what is not of a site",
        source=str(folder),
        expected="a new or empty folder, or one that robust-zoo site wrote",
        actual=actual,
        next="choose another folder for -o, or move these files away",
    )
