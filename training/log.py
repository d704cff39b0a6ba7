"""What a run says: JSON lines, status.json, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

from robust_zoo.errors import cannot_read
from robust_zoo.files import GO_ON, open_in_place, replace_file
from robust_zoo.readers import Malformed, read_json, read_text
from robust_zoo.text import printable

LOG = "log.jsonl"
_LARGEST = 1 << 28  # bytes; ImageNet's 90 epochs make 10 MB


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_percent(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 100


# kind -> what an entry of it must hold; a loss may well be NaN. What else stands in one is anyone's.
_FIELDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "step": {"step": _is_whole, "loss": _is_number},
    "way": {"way": lambda value: isinstance(value, str)},
    "epoch": {"epoch": _is_whole, "clean": _is_percent, "single_step": _is_percent, "pgd10": _is_percent},
}


class RunLog:
    """Appends to `log.jsonl`; `position` and `rewind` let a resumed run take up exactly where its checkpoint was.

    Entries have a `kind`: "way" (how steps are run, and why), "step" (loss and accuracies since the last entry) or
    "epoch" (measured on held-out images).
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
            kind: "way", "step" or "epoch".
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
    """The entries of one kind; a last line that was cut by a kill is left out.

    Args:
        run: The run's directory.
        kind: "way", "step" or "epoch".

    Returns:
        What was logged, oldest first.

    Raises:
        UsageError: The file is no log, or a line is no entry of one; the error names it.
    """
    file, expected = run / LOG, "lines that robust-zoo train wrote"
    try:
        *lines, last = read_text(file, _LARGEST).split("\n")
    except Malformed as error:
        raise cannot_read("the log of a run", file, expected, str(error)) from None
    with suppress(Malformed):
        read_json(last, finite=False)
        lines.append(last)  # whole, but for its end
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(_entry(line))
        except Malformed as error:
            next = f"take line {number} out of it:  sed -i {number}d {quote(str(file))}"
            raise cannot_read("the log of a run", file, expected, f"line {number}: {error}", next) from None
    return [entry for entry in entries if entry["kind"] == kind]


def _entry(line: str) -> dict[str, Any]:
    """One line, its fields checked. Malformed: what is wrong with it."""
    entry = read_json(line, finite=False)
    if entry.get("kind") not in [*_FIELDS]:  # a list: what is no text has no hash
        raise Malformed(f"kind is {printable(repr(entry.get('kind')), limit=80)}, not {' or '.join(_FIELDS)}")
    for name, rule in _FIELDS[entry["kind"]].items():
        if name not in entry:
            raise Malformed(f"{entry['kind']} without {name}")
        if not rule(entry[name]):
            raise Malformed(f"{name} is {printable(repr(entry[name]), limit=80)}")
    return entry


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
