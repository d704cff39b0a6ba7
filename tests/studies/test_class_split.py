"""What studies/class_split/README.md says is what its cells say."""

from pathlib import Path

from robust_zoo.training.transfer import cells
from studies.class_split import class_split

STUDY = Path(__file__).parents[2] / "studies" / "class_split"


def test_the_studys_table_and_claims_are_its_cells():
    """150 cells, and what is said of them."""
    found = cells.read_lines(STUDY / "cells.jsonl")
    text = (STUDY / "README.md").read_text(encoding="utf-8")
    assert len(found) == 150 and class_split.table(found) in text
    means = {key: [values.mean for values in radii.values()] for key, radii in class_split.by_radius(found).items()}
    near = [values for (dataset, *_), values in means.items() if dataset != "digits"]
    far = [values for (dataset, *_), values in means.items() if dataset == "digits"]
    assert (len(near), len(far)) == (6, 4)
    assert all(max(values) == values[0] for values in near)
    assert all(max(values) > values[0] + 2 for values in far)
