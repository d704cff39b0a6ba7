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

from robust_zoo.registry import get, natural_key
from robust_zoo.rows import Checkpoint
from robust_zoo.stats import wilson_interval
from robust_zoo.training.transfer.published import beside


@dataclass(frozen=True)
class Figure:
    """One model on one dataset under one protocol, over its seeds.

    value: mean over the seeds of `metric`, in percent. error: its standard error over them, None for one seed.
    interval: 95 % Wilson, of the counts of all seeds together (they share test images: read it as one seed's).
    robust: PGD accuracy after the transfer, percent, None where it was not measured.
    """

    row: Checkpoint
    dataset: str
    protocol: str
    metric: str
    value: float
    error: float | None
    interval: tuple[float, float]
    seeds: int
    n: int
    robust: float | None
    note: str
    mode: str = ""


def protocol_name(entry: dict[str, Any]) -> str:
    """The protocol with the settings that are not its defaults' spelling: entries of equal names may share a table."""
    settings = ", ".join(f"{k} {_short(v)}" for k, v in sorted(entry["settings"].items()) if k != "robust")
    return f"{entry['protocol']} ({settings})" if settings else entry["protocol"]


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def figures(entries: Iterable[dict[str, Any]]) -> list[Figure]:
    """Entries of one model, dataset (its very images), protocol and settings become one figure."""

    def group(entry: dict[str, Any]) -> tuple:
        return (
            entry["protocol"], json.dumps(entry["settings"], sort_keys=True), entry["dataset"], entry["data_sha256"],
            natural_key(entry["model"]),
        )  # fmt: skip

    return [_figure(list(members)) for _, members in groupby(sorted(entries, key=group), key=group)]


def _figure(entries: Sequence[dict[str, Any]]) -> Figure:
    first = entries[0]
    values = [e["mean_per_class"] if first["metric"] == "mean per-class" else e["accuracy"] for e in entries]
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    mean = statistics.fmean(values)
    correct = statistics.fmean(e["correct"] for e in entries)
    robust = [100 * r["correct"] / r["n"] for e in entries if (r := e["details"].get("robust"))]
    return Figure(
        get(first["model"]), first["dataset"], protocol_name(first), first["metric"], mean, error,
        wilson_interval(round(correct), first["n"]), len(entries), first["n"],
        statistics.fmean(robust) if robust else None, first["note"], first["settings"].get("mode", ""),
    )  # fmt: skip


def by_protocol(found: Iterable[Figure]) -> list[tuple[str, list[Figure]]]:
    return [(name, list(members)) for name, members in groupby(found, key=lambda f: f.protocol)]


def best(found: Sequence[Figure]) -> list[Figure]:
    """For each dataset and architecture the figure of the highest value."""

    def group(f: Figure) -> tuple[str, str]:
        return f.dataset, f.row.architecture

    ordered = sorted(found, key=group)
    return [max(members, key=lambda f: f.value) for _, members in groupby(ordered, key=group)]


def value_text(figure: Figure) -> str:
    if figure.error is not None:
        return f"{figure.value:.1f} ± {figure.error:.1f} %"
    return f"{figure.value:.1f} % ({figure.interval[0]:.1f}-{figure.interval[1]:.1f})"


def markdown(entries: Iterable[dict[str, Any]]) -> str:
    """A table for each protocol: the figures, then the best eps of each dataset and architecture."""
    parts = []
    for protocol, found in by_protocol(figures(entries)):
        seeds = {f.seeds for f in found}
        spread = "± standard error over seeds" if max(seeds) > 1 else "with 95 % interval"
        robust = any(f.robust is not None for f in found)
        head = f"| dataset | model | accuracy, {spread} | metric | seeds | test images |" + (
            " PGD-20 |" if robust else ""
        )
        lines = [f"### {protocol}", "", head, "|---|---|---|---|---|---|" + ("---|" if robust else "")]
        winners = best(found)
        for f in found:
            text = f"**{value_text(f)}**" if f in winners else value_text(f)
            under = f" {'-' if f.robust is None else f'{f.robust:.1f} %'} |" if robust else ""
            lines.append(f"| {f.dataset} | {f.row.name} | {text} | {f.metric} | {f.seeds} | {f.n:,} |{under}")
        lines += ["", "Bold: the best of its dataset and architecture."]
        lines += [f"{name}: {note}" for name, note in sorted({(f.dataset, f.note) for f in found if f.note})]
        parts.append("\n".join(lines + _reported(found)))
    return "\n\n".join(parts) + "\n"


def _reported(found: Sequence[Figure]) -> list[str]:
    """What others published for the same cells, under their names, with our difference in points."""
    lines = [
        f"| {f.dataset} | {f.row.name} | {p.accuracy:.2f} % | {p.source} | {f.value - p.accuracy:+.2f} |"
        for f in found
        if f.mode
        for p in beside(f.row.name, f.dataset, f.mode)
    ]
    return ["", "| dataset | model | reported | by | ours - theirs |", "|---|---|---|---|---|", *lines] if lines else []


_COLUMNS = ("dataset", "model", "architecture", "norm", "eps", "protocol", "metric", "value", "error", "low", "high",
            "seeds", "n", "robust", "source_accuracy")  # fmt: skip


def as_csv(entries: Iterable[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for f in figures(entries):
        row = f.row
        writer.writerow([
            f.dataset, row.name, row.architecture, row.norm, row.eps, f.protocol, f.metric, f.value, f.error,
            *f.interval, f.seeds, f.n, f.robust, row.clean_accuracy,
        ])  # fmt: skip
    return out.getvalue()
