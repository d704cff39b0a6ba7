"""What studies/finetune/README.md says is what its cells say."""

import json
from pathlib import Path

from robust_zoo.training.transfer.tuning.modes import MODES
from studies.finetune import finetune

STUDY = Path(__file__).parents[2] / "studies" / "finetune"


def test_the_studys_table_is_its_cells():
    lines = (STUDY / "cells.jsonl").read_text("utf-8").splitlines()
    cells = [json.loads(line) for line in lines]
    assert {(c["recipe"]["mode"], c["seed"]) for c in cells} == {(mode, seed) for mode in MODES for seed in range(3)}
    assert finetune.table(cells) in (STUDY / "README.md").read_text("utf-8")
    for cell in cells:
        assert cell["recipe"]["epochs"] == finetune.EPOCHS and cell["after"][1]["eps"] == finetune.THREAT.eps
        assert [m["n"] for m in cell["after"]] == [finetune.TEST] * 2


def test_the_studys_claims_are_its_cells():
    cells = [json.loads(line) for line in (STUDY / "cells.jsonl").read_text("utf-8").splitlines()]
    robust = {(c["recipe"]["mode"], c["seed"]): c["after"][1]["correct"] for c in cells}
    assert all(robust["adversarial", seed] > robust["all", seed] for seed in range(3))
    means = {mode: sum(robust[mode, seed] for seed in range(3)) for mode in MODES}
    assert abs(means["lwf"] - means["all"]) < 9  # a point of 900 images
    assert min(means.values()) > sum(c["before"][1]["correct"] for c in cells if c["recipe"]["mode"] == "all")


def test_the_longer_runs_are_what_is_said_of_them():
    """600 images in each mean."""
    text = " ".join((STUDY / "README.md").read_text("utf-8").split())
    cells = [json.loads(line) for line in (STUDY / "longer.jsonl").read_text("utf-8").splitlines()]
    found = {}
    for cell in cells:
        assert cell["recipe"]["epochs"] == 50
        right = [m["correct"] for m in (*cell["after"], cell["before"][1])]
        found.setdefault(cell["recipe"]["mode"], []).append(right)
    assert all(one[1] > other[1] for one, other in zip(found["lwf"], found["all"], strict=True))
    for mode, draws in found.items():
        clean, robust, before = (f"{sum(column) / 6:.1f}" for column in zip(*draws, strict=True))
        assert f"`{mode}` reaches {clean} %" in text and robust in text and f"the source's {before}" in text
