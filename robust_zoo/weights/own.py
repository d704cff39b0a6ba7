"""A user's own checkpoint file -> safetensors with timm's keys, by the same contained conversion as the zoo's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robust_zoo.errors import Refused, VerificationFailed, cannot_read, damaged, missing_file
from robust_zoo.files import Buffer, read_hashed, sha256_of, storage
from robust_zoo.readers import read_json
from robust_zoo.registry.formats import Architecture
from robust_zoo.weights.cache import cache_root
from robust_zoo.weights.convert import convert
from robust_zoo.weights.exported import preprocessing_of
from robust_zoo.weights.safetensors_file import header_of, read_header


class OwnFileWarning(UserWarning):
    """What was chosen, converted or left out when a file of one's own was read."""


def load(
    path: Path,
    network: Architecture,
    cache_dir: str | Path | None = None,
    *,
    ema: bool | None = None,
    needs_head: bool = True,
) -> tuple[Buffer, dict[str, Any]]:
    """The file's tensors as the content of a safetensors file (converted once, cached), and what it says of itself.

    Args:
        path: Any usual checkpoint of this architecture, in any layout that weights/layouts.py reads, or safetensors.
        network: What the weights are of.
        cache_dir: Instead of ROBUST_ZOO_CACHE or the platform's user cache.
        ema: Which of two sets of weights in the file: the averaged ones, or not; None takes them and warns.
        needs_head: Refuse a file without a classification head.

    Returns:
        The converted file's bytes, and the entries of pretrained_cfg that the file fixes: num_classes, mean and std
        when it carries a normaliser, and the whole preprocessing when it was trained or converted here.

    Raises:
        UsageError: There is no such file, or it has no weights of the kind that `ema` asks for.
        Refused: The file is unsafe or malformed.
        VerificationFailed: The weights are not this architecture's, or not finite, or have no head.
        StorageError: The disk refused.
    """
    path = path.expanduser()
    if not path.is_file():
        expected, next = "a checkpoint file", "give checkpoint_path= a .ckpt, .pth, .pt or .safetensors file"
        raise missing_file(path, expected, next, model=network.name)
    source_sha256 = sha256_of(path)
    which = {None: "any", True: "ema", False: "raw"}[ema]
    target = cache_root(cache_dir) / "private" / f"{source_sha256}-{network.name}-{which}.safetensors"
    content = _kept(target)
    if content is None:
        with storage(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            header = provenance(path, source_sha256, network)
            answer = convert(path, target, network, header, sha256=source_sha256, ema=ema)
            _proof(target).write_text(answer["sha256"])
        content = _kept(target)
    if content is None:
        raise damaged(
            "the converted file is",
            target,
            "the bytes that were converted a moment ago",
            "others",
            next=f'robust_zoo.create_model("{network.name}", checkpoint_path="{path}")   converts it again',
        )
    header = header_of(content, target)
    for note in read_json(header.get("notes", "[]"), list):
        warnings.warn(f"{path.name}: {note}", OwnFileWarning, stacklevel=3)
    if needs_head and header["num_classes"] == "0":
        raise VerificationFailed(
            f"{path.name}: the network in the file has no classification head",
            model=network.name,
            source=str(path),
            expected="a last layer",
            actual="every layer but that",
            next=f'robust_zoo.create_model("{network.name}", checkpoint_path="{path}", num_classes=0)   for features, '
            "or another number for a new head",
        )
    found: dict[str, Any] = {key: tuple(read_json(header[key], list)) for key in ("mean", "std") if key in header}
    try:
        found = asdict(preprocessing_of(header))  # of a file that was trained or converted here
    except KeyError:
        pass
    except (ValueError, TypeError) as error:
        raise cannot_read(
            f"how images for {path.name} are prepared", path, "its header's preprocessing", error
        ) from None
    return content, found | {"num_classes": int(header["num_classes"])}


def _kept(target: Path) -> Buffer | None:
    """The bytes of an earlier conversion, if they are the ones that were written."""
    proof = _proof(target)
    if not (target.is_file() and proof.is_file()):
        return None
    content, sha256 = read_hashed(target)
    return content if proof.read_text() == sha256 else None


def _proof(target: Path) -> Path:
    return target.with_suffix(".sha256")


def provenance(path: Path, source_sha256: str, network: Architecture) -> Mapping[str, str]:
    """What the header of a converted private file says."""
    return {"architecture": network.name, "source_file": path.name, "source_sha256": source_sha256}


def own_files(root: Path) -> list[tuple[str, str, Path]]:
    """The files that `load` keeps in a cache.

    Args:
        root: The cache.

    Returns:
        (the file's own name, its architecture, the converted file) of each.
    """
    found = []
    for path in sorted((root / "private").glob("[!.]*.safetensors")):
        try:
            header = read_header(path)
        except Refused:  # damaged: the next load converts it again
            header = {}
        found.append((header.get("source_file", path.name), header.get("architecture", "damaged"), path))
    return found
