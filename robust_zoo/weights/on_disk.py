"""Where files of ours lie on this disk already, and under which names: ours, upstream's and RobustBench's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from robust_zoo.errors import UnknownCheckpoint
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS
from robust_zoo.weights import cache

_SUFFIXES = (".ckpt", ".pth", ".pt", ".safetensors")
# What browsers, torch.hub and people add to a name: " (1)", "-0123abcd", dashes for underscores.
_ADDED = re.compile(r"( ?\(\d+\)|-[0-9a-f]{8,})$")


def converted_name(checkpoint: Checkpoint) -> str:
    """What a file that a checkpoint's was converted to is called: here, in caches, at mirrors."""
    return f"{checkpoint.name}.safetensors"


def local_paths(checkpoint: Checkpoint, directory: Path) -> tuple[Path, ...]:
    """Where a directory may have a checkpoint's file.

    Args:
        checkpoint: Whose file.
        directory: One of ROBUST_ZOO_PATH, say.

    Returns:
        The name of what it converts to, where the hash of that is known; the file's own name in it; and RobustBench's:
        beside it, and where `robustbench.load_model(model_dir=)` puts it.
    """
    names = [Path(converted_name(checkpoint))] if checkpoint.converted_sha256 else []
    names.append(Path(checkpoint.file))
    if checkpoint.robustbench:
        name = f"{checkpoint.robustbench}.pt"
        names += [Path(name), Path(checkpoint.dataset, NORMS[checkpoint.norm].label, name)]
    return tuple(directory / name for name in names)


def directory_of(path: Path, checkpoint: Checkpoint) -> Path | None:
    """The directory of ROBUST_ZOO_PATH with which a file is found under its name.

    Args:
        path: The file.
        checkpoint: Whose it is.

    Returns:
        The directory, the highest where several would do, as it may have more of them; None where its name does not.
    """
    return next((d for d in (*path.parents[2:0:-1], path.parent) if path in local_paths(checkpoint, d)), None)


def is_robustbenchs(path: Path, checkpoint: Checkpoint) -> bool:
    """Whether a file has RobustBench's name, whose copy may be another file than the authors'."""
    return path.stem == checkpoint.robustbench


def places() -> tuple[Path, ...]:
    """Where torch.hub, huggingface_hub (timm too), RobustBench (./models) and ROBUST_ZOO_PATH keep their files."""

    def variable(name: str, otherwise: Path) -> Path:
        return Path(os.environ.get(name) or otherwise).expanduser()

    try:
        home = Path.home()
    except RuntimeError:  # no home: no caches in it
        home = Path(os.devnull)
    user = variable("XDG_CACHE_HOME", home / ".cache")
    torch = variable("TORCH_HOME", user / "torch") / "hub" / "checkpoints"
    hugging_face = variable("HF_HUB_CACHE", variable("HF_HOME", user / "huggingface") / "hub")
    robustbench = [Path("models", dataset) for dataset in load_registry().datasets]
    return (torch, hugging_face, *robustbench, *cache.local_directories())


def candidates(roots: Sequence[Path], given: Sequence[Path] = ()) -> list[Path]:
    """Files to examine.

    Args:
        roots: Folders, of which those files that are named like a checkpoint.
        given: Files, and folders of which all weights.

    Returns:
        Files, each once.
    """
    found = [path for root in roots for path in _files(root) if named(path)]
    for path in given:
        inside = [path] if path.is_file() else _files(path)
        found += [file for file in inside if file == path or file.suffix in _SUFFIXES or named(file)]
    return list(dict.fromkeys(found))


def _files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):  # follows no links to directories; those to files are what hubs keep
        yield from (Path(directory, name) for name in sorted(names) if Path(directory, name).is_file())


def named(path: Path) -> Checkpoint | None:
    """The checkpoint that a file's name says it is: a name in any spelling, or that of the file at its source."""
    owners = [row for row in load_registry().checkpoints.values() if row.file == path.name]
    if len(owners) == 1:
        return owners[0]
    stem = _ADDED.sub("", path.stem if path.suffix in _SUFFIXES else path.name)
    for spelling in dict.fromkeys((stem, stem.replace("-", "_"))):
        try:
            return get(spelling)
        except UnknownCheckpoint:
            continue
    return None
