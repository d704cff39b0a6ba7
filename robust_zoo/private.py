"""A user's own checkpoint file -> safetensors with timm's keys, by the same contained conversion as the zoo's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robust_zoo.cache import cache_root, sha256_of, storage
from robust_zoo.convert import convert
from robust_zoo.rows import Architecture
from robust_zoo.safetensors_file import read_header


def load(path: Path, network: Architecture, cache_dir: str | Path | None = None) -> tuple[Path, dict[str, Any]]:
    """The file's tensors as safetensors (converted once, kept in the cache), and what it says of itself.

    path: a `.ckpt` of the robustness library, a torchvision or timm state dict, or safetensors.
    Returns the converted file, and the entries of pretrained_cfg that the file fixes: num_classes, and mean and std
    when it carries a normaliser.

    Raises Refused, VerificationFailed, UsageError or StorageError.
    """
    path = path.expanduser()
    directory = cache_root(cache_dir) / "private"
    key = f"{sha256_of(path)}-{network.name}" if path.is_file() else ""
    target = directory / f"{key}.safetensors"
    if not key or not target.is_file():
        with storage(target):
            directory.mkdir(parents=True, exist_ok=True)
        convert_file(path, target, network)
    return target, json.loads(read_header(target)["found"])
