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
    """300 test images in each count, 900 in each mean."""
    text = " ".join((STUDY / "README.md").read_text("utf-8").split())
    cells = [json.loads(line) for line in (STUDY / "cells.jsonl").read_text("utf-8").splitlines()]
    robust = {(c["recipe"]["mode"], c["seed"]): c["after"][1]["correct"] for c in cells}
    mean = {mode: sum(robust[mode, seed] for seed in range(3)) / 9 for mode in MODES}
    before = sum(c["before"][1]["correct"] for c in cells if c["recipe"]["mode"] == "all") / 9
    claim = "{lwf:.1f} and {adversarial:.1f} against {all:.1f} %".format(**mean)
    assert claim in text and mean["lwf"] > mean["all"] < mean["adversarial"]
    below = []
    for mode in ("lwf", "adversarial"):
        lost = [robust["all", seed] - robust[mode, seed] for seed in range(3)]
        assert sum(n < 0 for n in lost) == 2
        below.append(f"{max(lost) / 3:.1f}")
    assert f"{below[0]} and {below[1]} points below it" in text
    assert [mode for mode in MODES if mean[mode] < before] == ["all"]
    (first,) = (c for c in cells if c["recipe"]["mode"] == "all" and c["seed"] == 0)
    assert first["recipe"]["lr"] == 0.03 and f"{robust['all', 0] / 3:.1f} % in the first draw" in text
    failed = [t for c in cells if c["recipe"]["mode"] == "lwf" for t in c["tried"] if t["clean"] is None]
    assert [t["lr"] for t in failed] == [0.01]
