"""Cells as tables: a figure for each model and dataset, its spread over seeds; protocols never in one table."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from robust_zoo.counts import Count
from robust_zoo.registry.lookup import natural_key
from robust_zoo.text import markdown as cell
from robust_zoo.threat import ThreatModel
from robust_zoo.training.transfer.cells import Model
from robust_zoo.training.transfer.detected import coco_table
from robust_zoo.training.transfer.protocols.salman2020 import QUIRKS
from robust_zoo.training.transfer.reported import beside


@dataclass(frozen=True)
class Figure:
    """One model on one dataset under one protocol, over its seeds.

    Attributes:
        model: What the cells say of the checkpoint.
        dataset: The target's name.
        protocol: With the settings, as `protocol_name` writes it.
        metric: One of `task.METRICS`.
        value: Mean over the seeds of `metric`, in percent.
        error: Its standard error over them, None for one seed.
        interval: 95 % Wilson, in percent, of the seeds' mean count (they share test images: read it as one seed's);
            None for AP, which is no count.
        seeds: How many.
        n: Test images; of AP the objects in them.
        robust: PGD-20 accuracy after the transfer, percent, None where it was not measured.
        threat: What that is under, None likewise.
        note: What differs from the official dataset.
        mode: Of salman2020, "" for other protocols.
    """

    model: Model
    dataset: str
    protocol: str
    metric: str
    value: float
    error: float | None
    interval: tuple[float, float] | None
    seeds: int
    n: int
    robust: float | None
    note: str
    mode: str = ""
    threat: ThreatModel | None = None


def protocol_name(entry: dict[str, Any]) -> str:
    """The protocol with its settings in words: entries of equal names may share a table."""
    settings = ", ".join(f"{k} {_short(v)}" for k, v in sorted(entry["settings"].items()) if k != "robust")
    return f"{entry['protocol']} ({settings})" if settings else entry["protocol"]


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def figures(entries: Iterable[dict[str, Any]]) -> list[Figure]:
    """Makes one figure of the entries of one model, dataset (its very images), protocol and settings.

    Args:
        entries: Of cells, in any order.

    Returns:
        Figures, sorted by protocol, settings, dataset and model.
    """

    def group(entry: dict[str, Any]) -> tuple:
        return (
            entry["protocol"],
            json.dumps(entry["settings"], sort_keys=True),
            entry["dataset"],
            entry["data_sha256"],
            natural_key(entry["model"]),
            entry["weights_sha256"],
        )

    return [_figure(list(members)) for _, members in groupby(sorted(entries, key=group), key=group)]


def _figure(entries: Sequence[dict[str, Any]]) -> Figure:
    first = entries[0]
    values = [_value(e) for e in entries]
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    mean = statistics.fmean(values)
    correct = statistics.fmean(e["correct"] for e in entries)
    robust = [Count(r["correct"], r["n"]).accuracy for e in entries if (r := e["details"].get("robust"))]
    under = first["settings"].get("robust")
    return Figure(
        Model(**first["checkpoint"]),
        first["dataset"],
        protocol_name(first),
        first["metric"],
        mean,
        error,
        None if first["metric"] == "AP" else Count(round(correct), first["n"]).interval,
        len(entries),
        first["n"],
        statistics.fmean(robust) if robust else None,
        first["note"],
        first["settings"].get("mode", ""),
        ThreatModel(under["norm"], under["eps"]) if robust and under else None,
    )


def _value(entry: dict[str, Any]) -> float:
    """What an entry's metric says, in percent."""
    value: float = entry["accuracy" if entry["metric"] == "top-1" else "mean_per_class"]
    return value


def by_protocol(found: Iterable[Figure]) -> list[tuple[str, list[Figure]]]:
    """Figures, sorted by protocol, as (protocol, its figures)."""
    return [(name, list(members)) for name, members in groupby(found, key=lambda f: f.protocol)]


def best(found: Sequence[Figure]) -> list[Figure]:
    """For each dataset and architecture the figure of the highest value."""

    def group(f: Figure) -> tuple[str, str]:
        return f.dataset, f.model.architecture

    ordered = sorted(found, key=group)
    return [max(members, key=lambda f: f.value) for _, members in groupby(ordered, key=group)]


def value_text(figure: Figure) -> str:
    """The value in percent, with its standard error or, of one seed, its interval."""
    if figure.error is not None:
        return f"{figure.value:.1f} ± {figure.error:.1f} %"
    if figure.interval is None:
        return f"{figure.value:.1f} %"
    return f"{figure.value:.1f} % ({figure.interval[0]:.1f}-{figure.interval[1]:.1f})"


def error_of(figure: Figure) -> float:
    """How far the value may be off, as bars show it: its standard error or, of one seed, half its interval;
    0 where it has none."""
    low, high = figure.interval or (0.0, 0.0)
    return figure.error if figure.error is not None else (high - low) / 2


def markdown(entries: Iterable[dict[str, Any]]) -> str:
    """Writes a table for each protocol, and what upstream's quirks change.

    Args:
        entries: Of cells, in any order.

    Returns:
        Markdown; the best of each dataset and architecture is bold.
    """
    entries, parts = list(entries), []
    for protocol, found in by_protocol(figures(entries)):
        seeds = {f.seeds for f in found}
        alone = "with 95 % interval" if found[0].interval else "one seed"
        spread = "± standard error over seeds" if max(seeds) > 1 else alone
        robust = any(f.robust is not None for f in found)
        value, of = ("AP", "objects") if found[0].metric == "AP" else ("accuracy", "images")
        head = f"| dataset | model | {value}, {spread} | metric | seeds | test {of} |" + (" PGD-20 |" if robust else "")
        lines = [f"### {cell(protocol)}", "", head, "|---|---|---|---|---|---|" + ("---|" if robust else "")]
        winners = best(found)
        for f in found:
            text = f"**{value_text(f)}**" if f in winners else value_text(f)
            under = f" {'-' if f.robust is None else f'{f.robust:.1f} % at {f.threat}'} |" if robust else ""
            dataset, model, metric = cell(f.dataset), cell(f.model.name), cell(f.metric)
            lines.append(f"| {dataset} | {model} | {text} | {metric} | {f.seeds} | {f.n:,} |{under}")
        lines += ["", "Bold: the best of its dataset and architecture."]
        lines += sorted({f"{cell(f.dataset)}: {cell(f.note)}" for f in found if f.note})
        parts.append("\n".join(lines + _reported(found)))
    return "\n\n".join(parts + _quirks(entries) + coco_table(entries)) + "\n"


def _reported(found: Sequence[Figure]) -> list[str]:
    """What others published for the same cells, under their names, with our difference in points."""
    lines = [
        f"| {cell(f.dataset)} | {cell(f.model.name)} | {p.accuracy:.2f} % | {p.source} | {f.value - p.accuracy:+.2f} |"
        for f in found
        if f.mode
        for p in beside(f.model.name, f.dataset, f.mode)
    ]
    return ["", "| dataset | model | reported | by | ours - theirs |", "|---|---|---|---|---|", *lines] if lines else []


def _quirks(entries: Sequence[dict[str, Any]]) -> list[str]:
    """What each quirk of salman2020 changes, where cells with it and without it are there (transfer --quirks)."""
    theirs = [e for e in entries if QUIRKS.keys() <= e["settings"].keys()]

    def setup(e: dict[str, Any]) -> str:
        rest = {name: value for name, value in e["settings"].items() if name not in QUIRKS}
        return json.dumps([e["dataset"], e["data_sha256"], e["model"], e["weights_sha256"], e["seed"], rest])

    def off(e: dict[str, Any]) -> list[str]:
        return [quirk for quirk in QUIRKS if not e["settings"][quirk]]

    whole = {setup(e): e for e in theirs if not off(e)}
    changes: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for e in theirs:
        if len(off(e)) == 1 and (base := whole.get(setup(e))):
            key = (cell(e["dataset"]), cell(e["model"]), cell(e["settings"]["mode"]), off(e)[0])
            changes.setdefault(key, []).append((_value(base), _value(e)))
    if not changes:
        return []
    lines = [
        "### what each quirk of salman2020 changes",
        "",
        "| dataset | model | mode | quirk | as upstream | without it | quirk adds, points | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (dataset, model, mode, quirk), pairs in sorted(changes.items()):
        there, gone = (statistics.fmean(side) for side in zip(*pairs, strict=True))
        lines.append(
            f"| {dataset} | {model} | {mode} | {quirk} | {there:.1f} % | {gone:.1f} % | {there - gone:+.1f} "
            f"| {len(pairs)} |"
        )
    lines += ["", *(f"{quirk}: {said}; without it, {instead}." for quirk, (said, instead) in QUIRKS.items())]
    return ["\n".join(lines)]


_COLUMNS = ("dataset", "model", "architecture", "norm", "eps", "protocol", "metric", "value", "error", "low", "high",
            "seeds", "n", "robust", "robust_norm", "robust_eps", "source_accuracy")  # fmt: skip


def as_csv(entries: Iterable[dict[str, Any]]) -> str:
    """A figure per line under a header; accuracies in percent."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for f in figures(entries):
        model = f.model
        writer.writerow([
            f.dataset, model.name, model.architecture, model.norm, model.eps, f.protocol, f.metric, f.value, f.error,
            *(f.interval or (None, None)), f.seeds, f.n, f.robust,
            f.threat and f.threat.norm, f.threat and f.threat.eps, model.clean_accuracy,
        ])  # fmt: skip
    return out.getvalue()
