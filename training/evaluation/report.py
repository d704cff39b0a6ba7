"""A ledger as tables and a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from robust_zoo.errors import UsageError
from robust_zoo.threat import ThreatModel, written_eps
from robust_zoo.training.attacks.suites import in_words
from robust_zoo.training.plotting import figure

_COLUMNS = ("model", "dataset", "attack", "norm", "eps", "n", "clean_accuracy", "robust_accuracy", "flags")


def markdown(entries: Iterable[dict[str, Any]]) -> str:
    """One row an entry: accuracies in percent with their 95 % interval, and the checks that spoke up."""
    lines = ["| model | data | attack | clean | robust | flags |", "|---|---|---|---|---|---|"]
    for e in entries:
        attack = "none" if e["norm"] is None else f"{e['attack']}, {ThreatModel(e['norm'], e['eps'])}"
        robust = "-" if e["norm"] is None else _with_interval(e, "robust")
        data = f"{e['dataset']} (n = {e['n']:,})"
        flags = "not checked" if e["flags"] is None else ", ".join(e["flags"]) or "none"
        lines.append(f"| {e['model']} | {data} | {attack} | {_with_interval(e, 'clean')} | {robust} | {flags} |")
    return "\n".join(lines) + "\n"


def _with_interval(entry: dict[str, Any], kind: str) -> str:
    low, high = entry[f"{kind}_interval_95"]
    return f"{entry[f'{kind}_accuracy']:.2f} % ({low:.1f}-{high:.1f})"


def as_csv(entries: Iterable[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for e in entries:
        writer.writerow(["" if e[c] is None else ";".join(e[c]) if c == "flags" else e[c] for c in _COLUMNS])
    return out.getvalue()


def rows_toml(entries: Iterable[dict[str, Any]]) -> str:
    """The entries as `[[checkpoint.measured]]` tables of checkpoints.toml, under a comment for each checkpoint.

    Raises UsageError for an entry that a check speaks against, or that was not checked.
    """
    lines: list[str] = []
    for e in entries:
        if e["norm"] is not None and e["flags"] != []:
            raise UsageError(
                f"a figure of {e['model']} is not fit for a row",
                model=e["model"],
                expected="checked, and no flag",
                actual="not checked" if e["flags"] is None else ", ".join(e["flags"]),
                next="robust-zoo evaluate --help",
            )
        if f"# {e['model']}" not in lines:
            lines += [f"# {e['model']}", ""]
        lines += ["[[checkpoint.measured]]", *(f"{k} = {json.dumps(v)}" for k, v in measurement(e).items()), ""]
    return "\n".join(lines)


def measurement(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `Measurement` that an entry is the evidence of, as checkpoints.toml spells them."""
    attacked = entry["norm"] is not None
    fields = {
        "attack": entry["attack"],
        "correct": entry["robust_correct"],
        "n": entry["n"],
        "data": entry["dataset"],
        "weights_sha256": entry["weights_sha256"],
        "code": entry["code"],
    }
    if not attacked:
        return fields
    eps = written_eps(entry["norm"], entry["eps"])
    spelled = f"{eps}/255" if entry["norm"] == "linf" else float(eps)
    return fields | {"norm": entry["norm"], "eps": spelled, "settings": in_words(entry["attack"])}


def plot(entries: Sequence[dict[str, Any]], out: Path) -> None:
    """Accuracy against eps, a panel for each norm and a line for each model and attack, with 95 % intervals.

    Raises UsageError without attacked entries or without matplotlib.
    """
    norms = sorted({e["norm"] for e in entries if e["norm"]})
    if not norms:
        raise UsageError("nothing to draw", expected="an attacked entry", actual=f"{len(entries)} without an attack")
    canvas = figure(6.5 * len(norms), 4.5)
    for axes, norm in zip(canvas.subplots(1, len(norms), squeeze=False)[0], norms, strict=True):
        unit = 255 if norm == "linf" else 1
        for colour, (model, attack) in enumerate(
            sorted({(e["model"], e["attack"]) for e in entries if e["norm"] == norm})
        ):
            line = [e for e in entries if (e["model"], e["attack"], e["norm"]) == (model, attack, norm)]
            clean = {"eps": 0.0, "robust_accuracy": line[0]["clean_accuracy"]}
            clean["robust_interval_95"] = line[0]["clean_interval_95"]
            points = [clean, *sorted(line, key=lambda e: e["eps"])]
            y = [p["robust_accuracy"] for p in points]
            spread = [[y[i] - p["robust_interval_95"][0] for i, p in enumerate(points)],
                      [p["robust_interval_95"][1] - y[i] for i, p in enumerate(points)]]  # fmt: skip
            x = [p["eps"] * unit for p in points]
            axes.errorbar(
                x, y, yerr=spread, marker="o", ms=3, capsize=2, color=f"C{colour}", label=f"{model}, {attack}"
            )
        axes.set(xlabel=f"{norm} eps" + (" (1/255)" if unit == 255 else ""), ylabel="accuracy, %", ylim=(0, 100))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    canvas.savefig(out, dpi=130)
