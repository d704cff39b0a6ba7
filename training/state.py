"""A run's checkpoints on disk: whole or absent, hashed, the last two kept; and the lock that keeps others out."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from robust_zoo.cache import sync_directory
from robust_zoo.errors import StorageError, UsageError, VerificationFailed

_KEEP = 2


def replace_file(path: Path, content: bytes) -> None:
    """`path` holds either what it held or `content`, whenever the power goes.

    Raises StorageError (exit code 5) when the disk refuses; what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # two processes may write the same entry of a ledger
    try:
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(
            f"cannot write {path.name}",
            source=str(path),
            expected="a writable run directory with free space",
            actual=f"{type(error).__name__}: {error.strerror or error}",
            next="free some space and give the same command again: the run goes on from its last checkpoint",
        ) from error


def save(run: Path, epochs: int, step: int, state: dict[str, Any]) -> Path:
    """Writes `checkpoint-<whole epochs>-<step>.pt` with its sha256 beside it, then drops all but the newest two.

    The hash comes first: a checkpoint without one was never completed.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content, path = buffer.getvalue(), run / f"checkpoint-{epochs:04d}-{step:08d}.pt"
    replace_file(_hash_of(path), f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode())
    replace_file(path, content)
    for old in checkpoints(run)[_KEEP:]:
        old.unlink(missing_ok=True)
    kept = {_hash_of(p) for p in checkpoints(run)}
    for sidecar in set(run.glob("checkpoint-*.pt.sha256")) - kept:
        sidecar.unlink(missing_ok=True)
    return path


def checkpoints(run: Path) -> list[Path]:
    """Newest first."""
    return sorted(run.glob("checkpoint-*.pt"), reverse=True)


def newest_whole(run: Path) -> tuple[bytes | None, list[str]]:
    """The bytes of the newest checkpoint that is what its hash says (None in a new run), and the names passed over.

    Raises VerificationFailed when there are checkpoints and none is whole.
    """
    damaged: list[str] = []
    for path in checkpoints(run):
        content, sidecar = path.read_bytes(), _hash_of(path)
        expected = sidecar.read_text().split()[:1] if sidecar.exists() else []
        if expected == [hashlib.sha256(content).hexdigest()]:
            return content, damaged
        damaged.append(path.name)
    if damaged:
        raise VerificationFailed(
            "no checkpoint of this run is whole",
            source=str(run),
            expected="a checkpoint-*.pt with the sha256 in the file beside it",
            actual=", ".join(damaged) + " damaged",
            next=f"rm {run}/checkpoint-*   to begin again, or choose another --out",
        )
    return None, []


def read(content: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _hash_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name + ".sha256")


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Holds the run's directory; a killed process leaves no lock behind.

    Raises UsageError naming the process that holds it. Where the file system has no locks, nothing is held.
    """
    path = run / "lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UsageError(
                    "this run is live already",
                    source=str(run),
                    expected="a run directory that no other process trains in",
                    actual=f"held by {file.read().strip() or 'another process'}",
                    next="wait for it, stop it with SIGTERM (it saves), or choose another --out",
                ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        for leftover in run.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
        yield
