"""From a row to a verified safetensors file: the cache, else fetch and convert. Torch runs only in the conversion's child."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from robust_zoo.cache import Receipt, cache_root, find, install, site_roots
from robust_zoo.convert import convert
from robust_zoo.download import Fetched, fetch, is_offline
from robust_zoo.errors import VerificationFailed
from robust_zoo.rows import Checkpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """A safetensors file whose bytes were verified a moment ago.

    sha256: of this file. source: where its bytes came from.
    state: how far its origin is proven. "pinned": the row's sha256. "hub-declared": the sha256 the hub
    declared at the pinned revision. "unverified": neither, and the caller asked for it.
    """

    path: Path
    sha256: str
    state: str
    source: str


def ensure(
    checkpoint: Checkpoint,
    *,
    cache_dir: str | Path | None = None,
    offline: bool | None = None,
    allow_unverified: bool = False,
    progress: bool = True,
) -> Weights:
    """The checkpoint's weights, verified: bundled, from a cache, or fetched and converted once.

    cache_dir: instead of ROBUST_ZOO_CACHE or the platform's user cache.
    offline: open no socket; None follows ROBUST_ZOO_OFFLINE and HF_HUB_OFFLINE.

    Raises VerificationFailed, Unavailable, StorageError or Refused.
    """
    root = cache_root(cache_dir)
    offline = is_offline() if offline is None else offline
    if not checkpoint.bundled and (cached := _cached(checkpoint, root, offline)):
        return cached
    fetched = fetch(
        checkpoint, root / "downloads", offline=offline, allow_unverified=allow_unverified, progress=progress
    )
    if checkpoint.bundled:
        return Weights(fetched.path, fetched.sha256, fetched.state, fetched.source)
    receipt = _convert_into(root, checkpoint, fetched)
