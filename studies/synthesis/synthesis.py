"""The synthesis study: does a model that had no part in it name what another one drew for a class?

    python studies/synthesis/synthesis.py

Each bundled model draws 50 images, five of each class, out of grey noise, at the defaults of
`visualization.synthesise`; then all of them say what each is. Three seeds. Ends with a line for each drawer, judge and
seed in cells.jsonl beside this file, and the table of README.md there. Some minutes on two cores.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from robust_zoo import create_model, get, list_models, pixel_model, visualization
from robust_zoo.registry.reported import threat_title

HERE = Path(__file__).parent
CELLS = HERE / "cells.jsonl"
IMAGES, SEEDS = 50, range(3)  # images of each drawer and seed
Cell = Mapping[str, Any]


def title(name: str) -> str:
    """A bundled model as the table has it: "standard", "L2 0.5"."""
    row = get(name)
    return threat_title(row.norm, row.eps)


def draw() -> Iterable[Cell]:
    """Draws and judges.

    Yields:
        For each drawer, seed and judge how many images the judge names as asked for, and the CPU's seconds of drawing.
    """
    names = list_models(bundled=True)
    models = {name: pixel_model(create_model(name)).eval() for name in names}
    labels = torch.arange(IMAGES) % 10
    for drawer, model in models.items():
        for seed in SEEDS:
            started = time.process_time()
            images = visualization.synthesise(model, labels, seed=seed)
            seconds = round(time.process_time() - started, 1)
            for judge, other in models.items():
                with torch.no_grad():
                    named = int((other(images).argmax(1) == labels).sum())
                yield {"drawn by": drawer, "judge": judge, "seed": seed, "named": named, "cpu seconds": seconds}


def share(cells: Iterable[Cell], drawer: str, judge: str) -> float:
    """How many of a drawer's images a judge names, in percent, all seeds together."""
    counts = [cell["named"] for cell in cells if (cell["drawn by"], cell["judge"]) == (drawer, judge)]
    return 100 * sum(counts) / (IMAGES * len(counts))


def table(cells: Iterable[Cell]) -> str:
    """Drawers by judges, in Markdown; what a model says of its own images is in italics.

    Args:
        cells: As `draw` gives them.

    Returns:
        Lines of the table.
    """
    cells = list(cells)
    names = list(dict.fromkeys(cell["judge"] for cell in cells))
    lines = ["| drawn by | " + " | ".join(f"named by {title(name)}" for name in names) + " |"]
    lines.append("|---|" + "---:|" * len(names))
    for drawer in names:
        said = [f"{share(cells, drawer, judge):.0f}" for judge in names]
        said = [f"*{text}*" if judge == drawer else text for text, judge in zip(said, names, strict=True)]
        lines.append(f"| {title(drawer)} | " + " | ".join(said) + " |")
    return "\n".join(lines) + "\n"


def read() -> list[Cell]:
    """The cells that lie beside this file."""
    return [json.loads(line) for line in CELLS.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    CELLS.write_text("".join(json.dumps(cell) + "\n" for cell in draw()), encoding="utf-8")
    print(table(read()))
