"""What lies beside weights in a cache and says what they are: a receipt, written here, read with care. No torch."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path

from robust_zoo.readers import read_json
from robust_zoo.weights.addresses import shown

# How far the origin of weights is proven, the best first; robust_zoo.weights.verify.VerifiedFile says what each means.
STATES = ("pinned", "hub-declared", "vouched", "first-seen", "unverified")


@dataclass(frozen=True)
class Receipt:
    """What a cached file is.

    Attributes:
        name: The checkpoint's.
        sha256: Of the safetensors file.
        size: Its bytes.
        state: How far its origin was proven where it was written, a word of STATES; what that is worth elsewhere,
            robust_zoo.weights.verify.state_of says.
        source: Where the bytes came from.
        source_file: The name of the file they were made of.
        source_sha256: That file's sha256.
        revision: That file's commit on the hub.
        source_size: That file's bytes, 0 where it was not seen here.
        seen: The day (UTC) on which this user took it without a public hash, "" where there was one; see
            robust_zoo.weights.first_seen.
    """

    name: str
    sha256: str
    size: int
    state: str
    source: str
    source_file: str
    source_sha256: str
    revision: str
    source_size: int = 0
    seen: str = ""

    @classmethod
    def parse(cls, source: Path | bytes) -> Receipt:
        """Reads one, whatever else the JSON says. Raises OSError, ValueError or KeyError."""
        values = read_json(source)
        older = {field.name: field.default for field in fields(cls) if field.default is not MISSING}
        values = older | values  # earlier versions wrote less
        found = cls(**{field.name: values[field.name] for field in fields(cls)})
        for name, value in asdict(found).items():
            if type(value) is not (int if name in ("size", "source_size") else str):
                raise ValueError(f"a receipt whose {name} is of type {type(value).__name__}")
        if found.state not in STATES:
            raise ValueError(f"a receipt of state {found.state[:40]!r}")
        if found.seen or found.state == "first-seen":
            date.fromisoformat(found.seen)
        return replace(found, source=shown(found.source))  # earlier versions kept the address as it was given
