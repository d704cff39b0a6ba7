"""What can go wrong with weights, a row each: the failure, what is promised, the exit code.

`@fault(key)` marks a test as a case of a row (several keys: as a case of each); docs/faults.md is made of the table and
the cases, by `make faults`, when all of them have passed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import verbs

DOCS = Path(__file__).parents[2] / "docs" / "faults.md"


@dataclass(frozen=True)
class Row:
    """exit: of `robust-zoo` when no source is left; "0" where the right weights are there in the end."""

    failure: str
    promise: str
    exit: str


ROWS = {
    "dead": Row("dead link: 403, 404, 409, 410", "next source at once; the error lists every source and status", "3"),
    "busy": Row("429, 408", "waits once, if Retry-After is 30 s or less; else next source", "3"),
    "5xx": Row("5xx", "two more tries with jitter, then next source", "3"),
    "redirect": Row("redirect loop, https to http, other schemes, injected headers",
                    "5 hops at most, no downgrade, then next source", "3"),
    "unreachable": Row("unknown host, refused, TLS error, broken proxy",
                       "next source within 5 s; the cause and the proxy variable are named; "
                       "what did not answer is tried last for the rest of the run", "3"),
    "black hole": Row("a server that accepts and never answers", "next source within 15 s", "3"),
    "stall": Row("a body that stops moving", "the next source goes on from the byte; else this one, later", "3"),
    "drip": Row("a server that drips, or whose head, chunk sizes, trailers or redirects never end",
                "left like a stall: a head in one timeout, 10 kB/s on average over one, lines bounded by content; "
                "the next source has its turn", "3"),
    "malformed": Row("answers that are none, contradict each other, were not asked for, or hold escape sequences",
                     "next source; the cause is shown in printable text", "1 or 3"),
    "html": Row("a login page or HTML instead of the file",
                "refused by type, content or hash; what was fetched before is kept; Drive's quota is named", "3"),
    "cut": Row("a body that is cut or reset", "goes on from the byte; hashed as a whole", "3"),
    "length": Row("ignored or refused range, longer body, no length, a length that lies or is no number",
                  "starts over, or next source; never more is read than the file has", "3"),
    "corrupted": Row("flipped bits, another file", "refused by sha256; once more from the next source; "
                                                   "then an error with both hashes", "1"),
    "changed": Row("a file that changed under a resume", "the whole is hashed; once more from the start", "0"),
    "hub": Row("a hub that answers for another revision, without a hash, or with a wrong one",
               "the row's hash decides; without one, the hub's answer must be whole", "1 or 3"),
    "token": Row("401, 403: a token that is refused, missing or malformed",
                 "one try without it; which token it was, or how to give one, is said, and never the token", "3"),
    "secret": Row("tokens and passwords: over plain http, after redirects, through proxies, in addresses",
                  "said to their origin only, over https or on this machine; never printed or stored", "3"),
    "overheard": Row("plain http", "only with a hash: without one it is not asked, nor with --allow-unverified", "3"),
    "other model": Row("another model's weights, whole and with a hash that fits",
                       "a hash belongs to a name, and the file must say itself what it is", "1"),
    "race": Row("four processes at once; locks that lie", "one transfer; without working locks more, and right", "0"),
    "stale lock": Row("a lock that is never freed", "says that it waits; goes on after a minute without growth", "0"),
    "kill": Row("kill -9, power cut, at any moment", "resumes: at most 1.1 x the bytes over 20 kills; what is half "
                                                     "written is never believed; leftovers are swept", "0"),
    "disk": Row("a full disk", "room is checked before; what arrived is kept to resume", "5"),
    "read-only": Row("a cache that cannot be written", "sound weights in it are used; else names the path "
                                                        "and the variable to set", "5"),
    "no home": Row("no HOME, empty variables", "empty is unset; a private temporary directory, and it says so", "0"),
    "cache": Row("a cached file that was damaged later", "hashed before every use; online it heals, offline it is "
                                                         "refused", "1"),
    "receipt": Row("a receipt that says more than is known, a cache that others may write",
                   "states are derived, not read; what others may write is vouched for, with a warning", "1"),
    "first seen": Row("another file than the one that was seen first, where there is no public hash",
                      "an alarm with both hashes, days and addresses; nothing is taken, asked for or not", "1"),
    "links": Row("symbolic links in place of files", "replaced, never written through; what they show is hashed", "1"),
    "names": Row("paths, drives, addresses as names", "not a name: the three closest are told", "4"),
    "archive": Row("an archive that would unpack elsewhere (zip slip)", "no archive is ever unpacked", "6"),
    "file system": Row("file systems without case, reserved names", "all names differ, and none is reserved", "-"),
    "pickle": Row("a pickle that runs code", "not run: read with weights_only in a contained process; "
                                             "what it would import is told", "6"),
    "bomb": Row("zip bombs, tensors larger than their file", "sizes before contents; memory and time are bounded", "6"),
    "safetensors": Row("malformed safetensors", "refused, with the file and the cause", "6"),
    "tensors": Row("NaN, missing or extra tensors, other shapes or types, another normaliser",
                   "refused; the first three are named", "1"),
    "classes": Row("another number of classes", "a warning: the head is random, robustness figures do not apply", "0"),
    "offline": Row("offline and not cached", "no socket is opened; says the file, its size and the command", "3"),
    "clock": Row("a clock that is wrong", "nothing depends on it", "0"),
}  # fmt: skip

fault = pytest.mark.fault


def keys(item: pytest.Item) -> list[str]:
    """The rows that a test is of, one for each case."""
    return [key for mark in item.iter_markers("fault") for key in mark.args]


def command(*arguments: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """`robust-zoo` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "robust_zoo", *map(str, arguments)], capture_output=True, text=True, **kwargs
    )


def command_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """As `command`, in this process: for what converts, which takes seconds in another."""
    result = verbs.run(*arguments)
    return subprocess.CompletedProcess([], result.exit_code, result.stdout, result.stderr)


def refused(code: int, *arguments: object, fields: int = 5, run: Any = command, **kwargs: Any) -> str:
    """It ends with that exit code and an error of five fields, never a traceback; returns stderr."""
    result = run(*arguments, **kwargs)
    assert "Traceback" not in result.stderr and result.returncode == code, result.stderr
    found = re.findall(r"^  (model|source|expected|actual|next): +\S", result.stderr, re.MULTILINE)
    assert len(set(found)) >= fields, result.stderr
    return result.stderr


def table(counts: Counter[str]) -> str:
    """docs/faults.md, of the rows and the number of their cases."""
    lines = [
        "# What can go wrong with weights, and what happens then",
        "",
        "Made by `make faults` from tests/support/fault_table.py and the tests that passed, not by hand. Every failure",
        "is planted, most of them over real HTTP against a stand-in hub, and ends in the right bytes or in an error",
        "that names the model and file, the sources tried, what was expected, what was found, and the next command.",
        "Nothing lies under its final name before it is verified.",
        "",
        "| what goes wrong | what happens | exit code when nothing helps | cases tested |",
        "|---|---|---|---|",
    ]
    lines += [f"| {row.failure} | {row.promise} | {row.exit} | {counts[key]} |" for key, row in ROWS.items()]
    lines += ["", f"{counts.total()} cases in {len(ROWS)} rows."]
    return "\n".join(lines) + "\n"
