"""The typed filters of list_models, a row each. A value that means nothing, or two things, is refused. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from robust_zoo.errors import UsageError, unknown
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.robustness import SAME, best_robust, parse_under
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS, is_fraction, parse_eps

Keeps = Callable[[Checkpoint], bool]
_COUNT = re.compile(r"(\d+(?:\.\d*)?(?:e\+?\d+)?)([kmb]?)", re.IGNORECASE)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}
_FEWEST = 10_000  # parameters; no network of ImageNet's or CIFAR's classes has fewer, and 90 may mean millions


def in_collection(wanted: str | Iterable[str]) -> Keeps:
    """Of one of these collections. Raises UsageError for one that is none."""
    names = _known("collection", wanted, load_registry().collections)
    return lambda checkpoint: checkpoint.collection.name in names


def with_licence(wanted: str | Iterable[str]) -> Keeps:
    """Under one of these licences, as rows write them. Raises UsageError for one that no row has."""
    names = _known("licence", wanted, sorted({row.licence for row in load_registry().checkpoints.values()}))
    return lambda checkpoint: checkpoint.licence in names


def _known(kind: str, wanted: str | Iterable[str], choices: Iterable[str]) -> set[str]:
    names, choices = {wanted} if isinstance(wanted, str) else set(wanted), list(choices)
    for name in sorted(names - set(choices)):
        raise unknown(kind, name, choices, next=f"robust-zoo list --{kind} {{closest}}")
    return names


def clean_at_least(wanted: float) -> Keeps:
    """With a known clean accuracy of so many percent. Raises UsageError for what is no percentage."""
    least = _percent(wanted, "min_clean", "--min-clean 70")
    return lambda checkpoint: (accuracy := checkpoint.clean_accuracy) is not None and accuracy >= least


def robust_at_least(wanted: tuple[str, float | str] | tuple[str, float | str, float]) -> Keeps:
    """With a known robust accuracy: (norm, eps), or (norm, eps, percent) for at least that much. Raises UsageError."""
    if not isinstance(wanted, (tuple, list)) or len(wanted) not in (2, 3):
        raise UsageError(
            "min_robust is a threat model, and the least robust accuracy under it",
            expected='("linf", "4/255", 40): at least 40 %; or ("linf", "4/255"): any figure that is known',
            actual=repr(wanted),
            next="robust-zoo list --under linf:4/255 --min-robust 40",
        )
    norm, eps, *rest = wanted
    under = parse_under(norm, eps)
    least = _percent(rest[0], "min_robust", "--under linf:4/255 --min-robust 40") if rest else 0.0
    return lambda checkpoint: (figure := best_robust(checkpoint, under)) is not None and figure.value >= least


def _percent(value: Any, name: str, example: str) -> float:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else float("nan")
    if not (number == 0 or 1 <= number <= 100):  # 0.4 may be meant as 40 %
        raise UsageError(
            f"{name} is an accuracy in percent",
            expected="0, or a number from 1 to 100 (40, not 0.4)",
            actual=repr(value),
            next=f"robust-zoo list {example}",
        )
    return float(number)


def parameters_at_most(wanted: float | str) -> Keeps:
    """Of a network of at most so many parameters: a count (90e6) or a text ("90M"). Raises UsageError."""
    most = _parameters(wanted)
    return lambda checkpoint: checkpoint.network.parameters <= most


def _parameters(value: float | str) -> float:
    match = _COUNT.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    count = float(match[1]) * _UNITS[match[2].lower()] if match else float("nan")
    if not count >= _FEWEST:
        raise UsageError(
            f"max_params {value!r} is no number of parameters",
            expected=f'a count of at least {_FEWEST:,} (90e6), or with its unit: "90M", "1.1B"',
            actual=repr(value),
            next="robust-zoo list --max-params 90M",
        )
    return count


# The arguments of list_models that are filters of one value each.
FILTERS: Mapping[str, Callable[[Any], Keeps]] = {
    "collection": in_collection,
    "licence": with_licence,
    "min_clean": clean_at_least,
    "min_robust": robust_at_least,
    "max_params": parameters_at_most,
}


def with_eps(checkpoints: list[Checkpoint], eps: Any, norm: str | None) -> list[Checkpoint]:
    """Those of a radius, or of a range of radii.

    Args:
        checkpoints: Out of which.
        eps: One radius, or (low, high), as a user gives them.
        norm: A name of NORMS, or None when it is not known.

    Returns:
        Those within.

    Raises:
        UsageError: No radius, or one that can be read two ways and would mean different checkpoints.
    """
    bounds = tuple(eps) if isinstance(eps, (tuple, list)) else (eps, eps)
    low, high = (parse_eps(bound, norm) for bound in bounds)

    def within(value: float) -> bool:
        return low - SAME <= value <= high + SAME

    if norm is None and not any(is_fraction(bound) for bound in bounds):
        also = [c for c in checkpoints if c.eps and within(c.eps * NORMS[c.norm].unit) > within(c.eps)]
        if also:
            raise UsageError(
                f"eps {eps} can be read two ways: as a radius, or as a count of 1/255 for {also[0].name}",
                expected="a norm beside it, and a fraction for Linf: norm='l2', eps=3, or norm='linf', eps='4/255'",
                actual=f"eps={eps} without a norm",
                next="robust-zoo list --norm l2 --eps 3   or   robust-zoo list --norm linf --eps 4/255",
            )
    return [checkpoint for checkpoint in checkpoints if within(checkpoint.eps)]
