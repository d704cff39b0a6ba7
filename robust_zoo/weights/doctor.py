"""Looks through caches for files of ours: what each is by its bytes, and the command that puts it right.

Changes nothing, opens no socket, and reads no pickle.
"""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robust_zoo.errors import Refused, UnknownCheckpoint, VerificationFailed
from robust_zoo.files import open_file, sha256_of
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights import cache
from robust_zoo.weights.first_seen import OtherFile, noted
from robust_zoo.weights.on_disk import converted_name, directory_of, is_robustbenchs, named
from robust_zoo.weights.promises import is_converted
from robust_zoo.weights.safetensors_file import read_header
from robust_zoo.weights.verify import verified

BAD = ("html", "pointer", "truncated", "wrong", "damaged", "unreadable")  # statuses that need the fix


@dataclass(frozen=True)
class Finding:
    """A file of ours, or one that should be.

    Attributes:
        path: Of the file.
        name: The checkpoint's.
        status: "good", "unknown hash" (whole, but nothing here can prove its origin), or one of BAD.
        size: Bytes.
        detail: What was found, in words.
        fix: A shell command, "" when there is nothing to do.
    """

    path: Path
    name: str
    status: str
    size: int
    detail: str
    fix: str = ""


def in_cache(root: Path, own: Path) -> Iterator[Finding]:
    """The weights in a cache of this package, each hashed, and what the user's own notes of them compared."""
    for name in cache.cached_names(root):
        path = cache.weights_path(root, name)
        try:
            checkpoint = get(name)
            if found := verified(checkpoint, root, noted(checkpoint, own)):
                yield Finding(path, name, "good", len(found.content), f"{found.state}, from {found.source}")
        except UnknownCheckpoint:
            yield Finding(
                path,
                name,
                "unknown hash",
                path.stat().st_size,
                "no checkpoint here has this name",
                "robust-zoo cache prune",
            )
        except OtherFile as error:
            detail = f"expected {error.expected}, found {error.actual}"
            yield Finding(path, name, "wrong", path.stat().st_size, detail, f"robust-zoo verify {name}")
        except VerificationFailed as error:
            detail = f"expected {error.expected}, found {error.actual}"
            yield Finding(path, name, "damaged", path.stat().st_size, detail, f"robust-zoo download {name}")
        except OSError as error:
            yield Finding(path, name, "unreadable", 0, str(error), f"ls -l {shlex.quote(str(path))}")


def examine(path: Path) -> Finding | None:
    """What one file is.

    Args:
        path: Of the file.

    Returns:
        The finding, None when neither its name nor its hash is of a checkpoint here.
    """
    checkpoint = named(path)
    try:
        size = path.stat().st_size
        with open_file(path) as file:
            start = file.read(512)
        if checkpoint and (cause := _not_weights(path, start, size, checkpoint)):
            return Finding(path, checkpoint.name, *cause, _again(path, checkpoint))
        if size > max(cache.largest(row) for row in load_registry().checkpoints.values()):
            return None
        sha256 = sha256_of(path)
    except OSError as error:
        return Finding(
            path, checkpoint.name if checkpoint else "", "unreadable", 0, str(error), f"ls -l {shlex.quote(str(path))}"
        )
    rows = load_registry().checkpoints.values()
    owner = next((r for r in rows if sha256 in r.hashes or is_converted(r, sha256)), None)
    if owner is None and checkpoint is None:
        return None
    if owner is None:
        return _unproven(path, checkpoint, size, sha256) if checkpoint else None
    if checkpoint and checkpoint is not owner:
        right = path.with_name(_called(owner, sha256))
        return Finding(
            path,
            checkpoint.name,
            "wrong",
            size,
            f"named {checkpoint.name}, but the file of {owner.name}, by its sha256",
            f"mv -n {shlex.quote(str(path))} {shlex.quote(str(right))}",
        )
    detail = f"pinned by its sha256{_twice(path)}"
    return Finding(path, owner.name, "good", size, detail, _use(path, owner, _called(owner, sha256)))


def _called(owner: Checkpoint, sha256: str) -> str:
    """The name by which a checkpoint's file, or what it converts to, is looked for."""
    return converted_name(owner) if is_converted(owner, sha256) else owner.file


def _not_weights(path: Path, start: bytes, size: int, checkpoint: Checkpoint) -> tuple[str, int, str] | None:
    """(status, size, detail) of a file that can be told to be no whole checkpoint without hashing it."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<"):
        return "html", size, "a web page (a login or error page?) saved as weights"
    if text.startswith(b"version https://git-lfs"):
        return "pointer", size, "a Git LFS pointer: the file itself was never fetched"
    if size > cache.largest(checkpoint):
        return "wrong", size, f"{size:,} bytes, where {cache.largest(checkpoint):,} are the most"
    own = path.suffix == Path(checkpoint.file).suffix and not is_robustbenchs(path, checkpoint)
    if checkpoint.size and size < checkpoint.size and own:
        return "truncated", size, f"{size:,} of {checkpoint.size:,} bytes"
    if not start.startswith((b"PK\x03\x04", b"\x80")) and start[8:9] != b"{":  # \x80: torch before its zip format
        return "damaged", size, f"neither a checkpoint nor safetensors: starts with {start[:8]!r}"
    if start.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
        return "truncated", size, f"{size:,} bytes, and the end of the archive is missing"
    if start[8:9] == b"{":
        try:
            read_header(path)
        except Refused as error:
            return "truncated", size, f"expected {error.expected}, found {error.actual}"
    return None


def _unproven(path: Path, checkpoint: Checkpoint, size: int, sha256: str) -> Finding:
    """A whole file under a checkpoint's name with a hash that no checkpoint's file has."""
    if path.suffix == ".safetensors" and not checkpoint.bundled:
        if converted := checkpoint.converted_sha256:
            detail = f"sha256 {sha256}, not {converted}"
            return Finding(path, checkpoint.name, "wrong", size, detail, _again(path, checkpoint))
        detail = f"sha256 {sha256}: a converted file without its receipt; nothing proves where it is from"
        return Finding(path, checkpoint.name, "unknown hash", size, detail, f"robust-zoo download {checkpoint.name}")
    if checkpoint.hashes:
        detail, fix = f"sha256 {sha256}, not {' or '.join(sorted(checkpoint.hashes))}", _again(path, checkpoint)
        if not is_robustbenchs(path, checkpoint):
            return Finding(path, checkpoint.name, "wrong", size, detail, fix)
        detail += ": RobustBench's copy may be another file than that of the authors"
        return Finding(path, checkpoint.name, "unknown hash", size, detail, f"robust-zoo download {checkpoint.name}")
    if zipfile.is_zipfile(path) and (broken := _damaged(path)):
        return Finding(path, checkpoint.name, "damaged", size, broken, _again(path, checkpoint))
    known = "the registry has none to compare, the hub may" if checkpoint.hub else "nobody has published one to compare"
    if checkpoint.converted_sha256:
        known = "the registry has that of what it converts to, so its download will tell"
    detail = f"sha256 {sha256}; {known}{_twice(path)}"
    return Finding(path, checkpoint.name, "unknown hash", size, detail, _use(path, checkpoint, checkpoint.file))


def _damaged(path: Path) -> str:
    """The first entry of an archive that does not fit its own checksum, "" if all do."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.testzip()
    except Exception as error:  # zipfile has a dozen ways to say that a file is broken
        return str(error) or type(error).__name__
    return f"{entry} does not fit its checksum" if entry else ""


def _twice(path: Path) -> str:
    """Whether a robustness checkpoint holds its network twice, from the names in its pickle, which is not loaded."""
    if not zipfile.is_zipfile(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [info for info in archive.infolist() if info.filename.endswith("data.pkl")]
            double = any(info.file_size < 1 << 26 and b"attacker.model." in archive.read(info) for info in pickles)
    except Exception:  # as in _damaged: what cannot be looked into is not known to hold anything twice
        return ""
    return "; holds every weight twice and the optimizer: converted, it is a third" if double else ""


def _use(path: Path, checkpoint: Checkpoint, file: str) -> str:
    """The command that takes a file where it lies, instead of downloading it."""
    if checkpoint.bundled:  # the package has its own
        return ""
    unproven = "" if checkpoint.has_public_hash else " --allow-unverified"
    if found := directory_of(path, checkpoint):
        return f"ROBUST_ZOO_PATH={shlex.quote(str(found))} robust-zoo download {checkpoint.name}{unproven}"
    directory = shlex.quote(str(path.parent))
    link = f"ln -s {shlex.quote(path.name)} {directory}/{shlex.quote(file)}"
    return f"{link} && ROBUST_ZOO_PATH={directory} robust-zoo download {checkpoint.name}{unproven}"


def _again(path: Path, checkpoint: Checkpoint) -> str:
    """The command that replaces a broken file; a link of a hub's cache goes with what it points to."""
    files = [path, path.resolve()] if path.is_symlink() else [path]
    return f"rm {' '.join(shlex.quote(str(file)) for file in files)} && robust-zoo download {checkpoint.name}"
