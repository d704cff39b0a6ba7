"""What a run says: JSON lines, status.json, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from robust_zoo.errors import cannot_read
from robust_zoo.files import GO_ON, open_in_place, replace_file
from robust_zoo.readers import read_json, read_text

LOG = "log.jsonl"
_LARGEST = 1 << 28  # bytes; ImageNet's 90 epochs make 10 MB


class RunLog:
    """Appends to `log.jsonl`; `position` and `rewind` let a resumed run take up exactly where its checkpoint was.

    Entries have a `kind`: "step" (loss and accuracies since the last entry) or "epoch" (measured on held-out images).
    """

    def __init__(self, run: Path) -> None:
        """Opens the log of the run in this directory, or begins one. UsageError: it is a link, a folder or a pipe."""
        path = run / LOG
        if path.is_file() and path.lstat().st_nlink > 1:  # a second name of it must not grow with it
            replace_file(path, path.read_bytes(), GO_ON)
        self._file = os.fdopen(open_in_place(path, os.O_WRONLY | os.O_APPEND), "ab")
        self._board: Any = _tensorboard(run)

    def add(self, kind: str, step: int, **values: Any) -> None:
        """Writes one entry.

        Args:
            kind: "step" or "epoch".
            step: Updates that are done.
            **values: Plain values by name; TensorBoard gets the numbers.
        """
        self._file.write(json.dumps({"kind": kind, "step": step, **values}).encode() + b"\n")
        self._file.flush()
        if self._board:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    @property
    def position(self) -> int:
        """Bytes written; on the disk when this returns."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def rewind(self, position: int) -> None:
        """Forgets what was logged after a checkpoint that stood at `position`."""
        self._file.truncate(position)
        self._file.seek(position)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._board:
            self._board.close()


def _tensorboard(run: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(run / "tensorboard")


def read_log(run: Path, kind: str) -> list[dict[str, Any]]:
    """The entries of one kind; a line cut by a kill is left out.

    Args:
        run: The run's directory.
        kind: "step" or "epoch".

    Returns:
        What was logged, oldest first.

    Raises:
        UsageError: The file is no log.
    """
    entries = []
    try:
        lines = read_text(run / LOG, _LARGEST).splitlines()
    except ValueError as error:
        raise cannot_read("the log of a run", run / LOG, "lines that robust-zoo train wrote", str(error)) from None
    for line in lines:
        try:
            entry = read_json(line, finite=False)  # a loss may well be NaN
        except ValueError:
            continue
        if entry.get("kind") == kind:
            entries.append(entry)
    return entries


def write_status(run: Path, state: str, **values: Any) -> None:
    """Replaces `status.json`.

    Args:
        run: The run's directory.
        state: "running", "trained" (being measured), "stopped" (give the command again), "failed" or "finished".
        **values: Plain values beside it.

    Raises:
        StorageError: The disk is full or refuses.
    """
    about = {"state": state, "pid": os.getpid(), "host": socket.gethostname(), "time": time.strftime("%FT%T%z")}
    replace_file(run / "status.json", json.dumps(about | values, indent=1).encode() + b"\n", GO_ON)
