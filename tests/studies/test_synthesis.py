"""What studies/synthesis/README.md says is what its cells say; and it holds of what is drawn today."""

from pathlib import Path

import torch

from robust_zoo import create_model, list_models, pixel_model, visualization
from studies.synthesis import synthesis

README = Path(__file__).parents[2] / "studies" / "synthesis" / "README.md"
STANDARD = "resnet18_x0_25_cifar10_l2_eps0"
SMALLEST, NEAR = f"{STANDARD}_1", "resnet18_x0_25_cifar10_linf_eps2"
CELLS = synthesis.read()


def test_the_table_and_the_claims_are_the_cells():
    models = list_models(bundled=True)
    assert len(CELLS) == len(models) ** 2 * 3 and synthesis.table(CELLS) in README.read_text(encoding="utf-8")
    judged = [cell for cell in CELLS if cell["judge"] not in (cell["drawn by"], STANDARD)]

    def named(drawers, judges):
        return [cell["named"] for cell in judged if cell["drawn by"] in drawers and cell["judge"] in judges]

    others = {*models} - {STANDARD, SMALLEST}
    assert min(named(others, models)) == 44 and max(named({STANDARD}, others)) == 7  # as README says, of 50
    shares = [synthesis.share(CELLS, drawer, judge) for drawer in others for judge in others | {SMALLEST}]
    assert (round(min(shares)), round(synthesis.share(CELLS, STANDARD, SMALLEST))) == (91, 22)
    largest = {f"{STANDARD.rpartition('_')[0]}_eps1", "resnet18_x0_25_cifar10_linf_eps8"}
    assert {round(synthesis.share(CELLS, SMALLEST, judge)) for judge in largest} == {57}
    assert {synthesis.share(CELLS, SMALLEST, f"{STANDARD}_25"), synthesis.share(CELLS, SMALLEST, NEAR)} == {100}
    assert all(cell["cpu seconds"] < 30 for cell in CELLS)  # two models in a minute, on one core


def test_a_judge_names_what_is_drawn_today():
    """Ten images, in a third of the steps."""
    robust, judge = f"{STANDARD}_5", "resnet18_x0_25_cifar10_linf_eps8"
    labels = torch.arange(10)
    drawn = visualization.synthesise(robust, labels, search=visualization.Search(30.0, 0.5, 20))
    with torch.no_grad():
        named = int((pixel_model(create_model(judge)).eval()(drawn).argmax(1) == labels).sum())
    assert named >= 6
