"""Tables of a ledger in Markdown, and as rows may claim them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from robust_zoo.text import markdown as cell
from robust_zoo.training.choices import CORRUPTIONS, CUES, IMAGE_SETS
from robust_zoo.training.corruptions.kinds import GROUPS, KINDS, SEVERITIES, mean_corruption_error
from robust_zoo.training.evaluation.tables import CLEAN, SHAPE, TEXTURE, TableKey
from robust_zoo.training.evaluation.told_apart import told_apart

Table = Mapping[str, Any]


def markdown(tables: Iterable[Table]) -> str:
    """Writes a table for each kind of entry that is there.

    Args:
        tables: Of the ledger.

    Returns:
        Markdown, in percent with 95 % intervals: under corruptions the means over severities, by group; shape bias.
    """
    by_table: dict[str, list[Table]] = {CORRUPTIONS: [], CUES: []}
    for entry in told_apart(tables):
        by_table[entry["table"]].append(entry)
    return "\n".join(_WRITTEN[name](found) for name, found in by_table.items() if found)


def _corruptions(entries: list[Table]) -> str:
    head = ["model", "data", "clean", "under corruptions", *GROUPS, "mCE"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for entry in entries:
        of, n = by_kind(entry), entry["n"]
        clean = f"{100 * entry['correct'][CLEAN] / n:.1f} %" if CLEAN in entry["correct"] else "-"
        groups = [[of[kind] for kind in kinds if kind in of] for kinds in GROUPS.values()]
        means = [f"{sum(values) / len(values):.1f} %" for values in groups]
        mce = corruption_error(entry)
        data = f"{cell(entry['dataset'])} (n = {n:,})"
        cells = [cell(entry["model"]), data, clean, _with_interval(entry, "mean", "mean_accuracy"), *means]
        lines.append("| " + " | ".join([*cells, "-" if mce is None else f"{mce:.1f} %"]) + " |")
    return "\n".join(lines) + "\n"


def _cues(entries: list[Table]) -> str:
    lines = ["| model | data | shape bias | by shape | by texture |", "|---|---|---|---|---|"]
    for entry in entries:
        by = [f"{100 * entry['correct'][condition] / entry['n']:.1f} %" for condition in (SHAPE, TEXTURE)]
        data, bias = f"{cell(entry['dataset'])} (n = {entry['n']:,})", _with_interval(entry, "shape_bias", "shape_bias")
        lines.append(f"| {cell(entry['model'])} | {data} | {bias} | {' | '.join(by)} |")
    return "\n".join(lines) + "\n"


_WRITTEN = {CORRUPTIONS: _corruptions, CUES: _cues}


def _with_interval(entry: Table, interval: str, value: str) -> str:
    low, high = entry[f"{interval}_interval_95"]
    return f"{entry[value]:.2f} % ({low:.1f}-{high:.1f})"


def by_kind(entry: Table) -> dict[str, float]:
    """The mean accuracy over severities of each of the fifteen corruptions that an entry has, in percent."""
    correct = entry["correct"]
    return {
        kind: sum(100 * correct[f"{kind} {severity}"] / entry["n"] for severity in SEVERITIES) / len(SEVERITIES)
        for kind in KINDS if f"{kind} 1" in correct
    }  # fmt: skip


def corruption_error(entry: Table) -> float | None:
    """mCE of an entry of ImageNet-C; None of other images, for which AlexNet's errors are not known."""
    return (
        mean_corruption_error(by_kind(entry)) if entry["dataset"].startswith(IMAGE_SETS["imagenet-c"].title) else None
    )


def claim(entry: Table) -> dict[str, Any] | None:
    """Reads off what a checkpoint may claim.

    Args:
        entry: Of the ledger.

    Returns:
        A row of measured.json, as `registry.corruptions.Corruptions.parse` takes it; None of other tables.
    """
    if entry["table"] != CORRUPTIONS:
        return None
    correct = entry["correct"]
    kinds = {kind: [correct[f"{kind} {severity}"] for severity in SEVERITIES] for kind in by_kind(entry)}
    about = {name: entry[name] for name in TableKey.__dataclass_fields__ if name != "conditions"}
    return {
        "table": CORRUPTIONS, "data": entry["dataset"], "n": entry["n"], "correct": kinds,
        "interval": [round(end, 4) for end in entry["mean_interval_95"]], "weights_sha256": entry["weights_sha256"],
        "code": entry["code"], "entry": TableKey(conditions=tuple(sorted(correct)), **about).stem.name,
    } | {
        name: value
        for name, value in (("clean", correct.get(CLEAN)), ("mce", corruption_error(entry))) if value is not None
    }  # fmt: skip
