"""The registry: checkpoints looked up by any spelling of their name, and filtered by typed values. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache

from robust_zoo.errors import UnknownCheckpoint, unknown
from robust_zoo.registry.families import SourceDataset
from robust_zoo.registry.finding import FILTERS, with_eps
from robust_zoo.registry.formats import Architecture
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS, eps_from_tag, norm_of, written_eps

# What a name may look like before it is looked up: never a path, a drive, a NUL or a URL.
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*(/255)?")
_THREAT_TAG = r"(?P<stem>.+)_(?P<norm>{norms})_eps(?P<eps>\d+(?:[._]\d+)?)(?:/255)?"


def natural_key(name: str) -> list[tuple[int, float, str]]:
    """Sort key that orders the numbers inside names by value: eps0_5 before eps3 before eps10."""
    parts = re.split(r"(\d+(?:_\d+)?)", name)
    return [(1, float(p.replace("_", ".", 1)), "") if p[:1].isdigit() else (0, 0.0, p) for p in parts if p]


def canonical_name(name: str) -> str:
    """Any accepted spelling -> the identifier: `resnet50_l2_eps0.5.ckpt` -> `resnet50_l2_eps0_5`.

    Args:
        name: May be one of upstream's spellings (`resnet18_linf_eps4.0`), end in `_linf_eps4/255`, be a file's name,
            have timm's or torchvision's name for the architecture (`densenet161_l2_eps3`), a dot as timm writes
            before a tag (`swin_base_patch4_window7_224.liu2023_linf_eps4`), or be RobustBench's id.

    Returns:
        The identifier; whether the checkpoint exists is not checked.
    """
    registry = load_registry()
    stem = re.sub(r"\.(ckpt|pth|pt|safetensors)$", "", name.strip().lower())
    if stem in registry.checkpoints:
        return stem
    if stem in (ids := _robustbench_ids()):
        return ids[stem]
    match = re.fullmatch(_THREAT_TAG.format(norms="|".join(NORMS)), stem)
    if not match:
        return stem
    norm, prefix = match["norm"], match["stem"].replace(".", "_")
    tag = f"{norm}_eps{written_eps(norm, eps_from_tag(norm, match['eps'])).replace('.', '_')}"
    if f"{prefix}_{tag}" not in registry.checkpoints:
        prefix = next((arch.name for arch in registry.architectures.values() if prefix in arch.aliases), prefix)
    return f"{prefix}_{tag}"


@cache
def _robustbench_ids() -> Mapping[str, str]:
    """RobustBench's ids in lower case -> the names of the checkpoints."""
    rows = load_registry().checkpoints.values()
    return {row.robustbench.lower(): row.name for row in rows if row.robustbench}


def get(name: str | Checkpoint) -> Checkpoint:
    """A checkpoint, by any accepted spelling of its name.

    Args:
        name: A name, as list_models() has them or as `canonical_name` takes them; a checkpoint comes back as it is.

    Returns:
        The checkpoint.

    Raises:
        UnknownCheckpoint: No checkpoint of that name (exit code 4); the three closest names are in the error.

    Example:
        >>> get("resnet50_l2_eps3.0").name
        'resnet50_l2_eps3'
    """
    if isinstance(name, Checkpoint):
        return name
    checkpoints = load_registry().checkpoints
    if _NAME.fullmatch(name.strip().lower()) and (found := checkpoints.get(canonical_name(name))):
        return found
    raise unknown(
        "checkpoint",
        name,
        checkpoints,
        error=UnknownCheckpoint,
        next="robust-zoo list   (or robust_zoo.list_models()) shows every name",
        like=canonical_name(name),
        model=repr(name),
        source="the registry",
    )


def get_architecture(name: str) -> Architecture:
    """An architecture, by the zoo's, timm's or torchvision's name.

    Args:
        name: One of the three.

    Returns:
        The architecture.

    Raises:
        UnknownCheckpoint: No architecture of that name; the three closest are in the error.
    """
    architectures = load_registry().architectures
    if name in architectures:
        return architectures[name]
    for arch in architectures.values():
        if name in arch.aliases:
            return arch
    raise unknown(
        "architecture", name, architectures, error=UnknownCheckpoint, next="robust-zoo list   shows the architectures"
    )


def get_dataset(name: str) -> SourceDataset:
    """A dataset that checkpoints are trained on, by its name here.

    Args:
        name: As [dataset.X] of checkpoints.toml has it.

    Returns:
        The dataset.

    Raises:
        UsageError: No such dataset; the known ones are named.
    """
    datasets = load_registry().datasets
    if name not in datasets:
        raise unknown("source dataset", name, datasets)
    return datasets[name]


def list_models(
    pattern: str | Iterable[str] = "*",
    *,
    architecture: str | Iterable[str] | None = None,
    dataset: str | None = None,
    norm: str | None = None,
    eps: float | str | tuple[float | str, float | str] | None = None,
    bundled: bool | None = None,
    collection: str | Iterable[str] | None = None,
    min_clean: float | None = None,
    min_robust: tuple[str, float | str] | tuple[str, float | str, float] | None = None,
    max_params: float | str | None = None,
    licence: str | Iterable[str] | None = None,
) -> list[str]:
    """Names of checkpoints, naturally sorted. Each filter that is given narrows the list.

    Args:
        pattern: A shell wildcard (`resnet50_*`) or several, any of which may match; a name without wildcards may be
            spelled any way `get` accepts.
        architecture: Of this architecture, or of one of these.
        dataset: Trained on this dataset.
        norm: Of this norm, "l2" or "linf".
        eps: One radius, or (low, high) with both ends included, in [0, 1] image units; fractions are strings
            ("4/255"). A bare number that could also mean a count of 1/255 is refused.
        bundled: In the package (True), or not (False).
        collection: Of this collection, or of one of several.
        min_clean: With at least this clean accuracy, in percent.
        min_robust: (norm, eps, percent): with at least this robust accuracy at that threat model, by the figure that
            `registry.robustness.best_robust` calls the best known, whatever its attack; (norm, eps): with any figure.
        max_params: With at most this many parameters: a count (90e6), or a text with its unit ("90M").
        licence: Under this licence, or one of several, as rows write them ("mit", "unknown").

    Returns:
        The names; none when nothing matches. What a filter asks for and a row does not know does not match.

    Raises:
        UsageError: An unknown norm, collection or licence, an eps that is no radius or can be read two ways, no
            percentage, or no number of parameters.
        UnknownCheckpoint: An unknown architecture.

    Example:
        >>> list_models("resnet50_*", norm="l2", eps=(0.5, 1))
        ['resnet50_l2_eps0_5', 'resnet50_l2_eps1']
    """
    asked = {"collection": collection, "licence": licence, "min_clean": min_clean, "min_robust": min_robust,
             "max_params": max_params}  # fmt: skip
    filters = [FILTERS[name](value) for name, value in asked.items() if value is not None]
    checkpoints = sorted(load_registry().checkpoints.values(), key=lambda checkpoint: natural_key(checkpoint.name))
    if norm is not None:
        norm_of(norm)
    wanted = _patterns(pattern)
    kept = [checkpoint for checkpoint in checkpoints if any(fnmatchcase(checkpoint.name, p) for p in wanted)]
    if architecture is not None:
        names = [architecture] if isinstance(architecture, str) else list(architecture)
        kept = [
            checkpoint for checkpoint in kept if checkpoint.architecture in {get_architecture(n).name for n in names}
        ]
    kept = [
        checkpoint for checkpoint in kept if dataset in (None, checkpoint.dataset) and norm in (None, checkpoint.norm)
    ]
    kept = [checkpoint for checkpoint in kept if bundled in (None, checkpoint.bundled)]
    kept = [checkpoint for checkpoint in kept if all(keeps(checkpoint) for keeps in filters)]
    if eps is not None:
        kept = with_eps(kept, eps, norm)
    return [checkpoint.name for checkpoint in kept]


def _patterns(pattern: str | Iterable[str]) -> list[str]:
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    return [p.lower().replace(".", "_") if set(p) & set("*?[") else canonical_name(p) for p in patterns]
