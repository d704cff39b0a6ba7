"""What detectors found, as COCO's twelve figures: cells of the protocol `detection` as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from robust_zoo.registry.lookup import natural_key
from robust_zoo.text import markdown as cell

COLUMNS = {
    "ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "small", "ap_medium": "medium", "ap_large": "large",
    "ar1": "AR1", "ar10": "AR10", "ar100": "AR100",
}  # fmt: skip


def coco_table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """All figures of detectors.

    Args:
        entries: Of cells, of any protocols.

    Returns:
        One text in Markdown, of percents: means over seeds; [] without cells of `detection`.
    """

    def group(entry: dict[str, Any]) -> tuple:
        return entry["dataset"], str(sorted(entry["settings"].items())), natural_key(entry["model"])

    of = sorted((e for e in entries if e["protocol"] == "detection" and "ap" in e["details"]), key=group)
    if not of:
        return []
    lines = [
        f"| dataset | model | part | of | {' | '.join(COLUMNS.values())} |",
        "|---|---|---|---|" + "---:|" * len(COLUMNS),
    ]
    for _, members in groupby(of, key=group):
        cells = list(members)
        first = cells[0]
        for kind in first["details"]["ap"]:
            found = [_percent([c["details"]["ap"][kind][name] for c in cells]) for name in COLUMNS]
            name = f"{cell(first['dataset'])} | {cell(first['model'])} | {cell(first['settings']['part'])}"
            lines.append(f"| {name} | {cell(kind)} | {' | '.join(found)} |")
    return ["\n".join(["### COCO's figures of detectors, percent", "", *lines])]


def _percent(values: Sequence[float | None]) -> str:
    """The mean of what there is; "-" where there was nothing to find."""
    there = [100 * value for value in values if value is not None]
    return f"{statistics.fmean(there):.1f}" if there else "-"
