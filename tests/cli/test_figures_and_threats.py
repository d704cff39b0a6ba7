"""A figure is never shown without what it is an accuracy under, and no figure stands for another."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from pages import tables
from verbs import run_to as run

from robust_zoo import get
from robust_zoo.cards.card import card
from robust_zoo.errors import ZooError
from robust_zoo.registry.lookup import list_models
from robust_zoo.registry.measurement import Measurement
from robust_zoo.threat import NORMS, ThreatModel
from robust_zoo.training import cost
from robust_zoo.training.export import as_trained
from robust_zoo.training.figures.curves import plot
from robust_zoo.training.recipes import recipe_for
from robust_zoo.training.transfer import report

L2 = "resnet18_x0_25_cifar10_l2_eps0_5"
BUNDLED = list_models(bundled=True)
_LINE = re.compile(r"(\S+) accuracy(?: at (l2|linf) eps (\S+))?: ([\d.]+) %")


def figures_in(text):
    """(attack, threat as text, percent) of each line that shows an accuracy."""
    found = [_LINE.search(line) for line in text.splitlines() if re.search(r"accuracy.*: [\d.]+ %", line)]
    assert all(found), text
    return [(m[1], m[2] and f"{m[2]} eps {m[3]}", m[4]) for m in found]


@pytest.mark.parametrize("name", BUNDLED)
def test_recipe_shows_every_figure_with_its_threat(name):
    expected = [
        ("clean" if m.attack == "none" else m.attack, m.norm and str(ThreatModel(m.norm, m.eps)), f"{m.accuracy:.2f}")
        for m in get(name).measured
    ]
    assert len(expected) > 10 and figures_in(run("recipe", name).stdout) == expected
    listed = json.loads(run("recipe", name, "--json").stdout)["expected"]
    assert [(f["figure"], f["norm"], f["eps"], f["accuracy"]) for f in listed] == [
        (m.title, m.norm, m.eps, round(m.accuracy, 2)) for m in get(name).measured
    ]


def test_the_l2_models_autoattack_accuracy_is_not_its_linf_figure():
    """25.20 % was said of it; that is Linf 8/255."""
    found = [f for f in figures_in(run("recipe", L2).stdout) if f[0] == "autoattack"]
    assert found == [("autoattack", "l2 eps 0.5", "54.40"), ("autoattack", "linf eps 8/255", "25.20")]


@pytest.mark.parametrize("name", BUNDLED)
def test_info_names_every_threat(name):
    lines = [line for line in run("info", name).stdout.splitlines() if " %" in line]
    for m in (m for m in get(name).measured if m.threat):
        assert any(str(m.threat) in line and f"{m.accuracy:.2f} %" in line for line in lines), m


@pytest.mark.parametrize("name", BUNDLED)
def test_a_card_has_every_figure_in_the_column_of_its_threat(name):
    found = [
        (head, cell.text.split(" %")[0])
        for table in tables(card(get(name), recipe_for(get(name))))
        for row in table.rows
        for head, cell in zip(table.head, row, strict=True)
        if cell.text and head.startswith("L")
    ]
    threats = [
        (f"{NORMS[m.norm].label} {m.threat.radius}", f"{m.accuracy:.2f}") for m in get(name).measured if m.threat
    ]
    assert sorted(found) == sorted(threats)


ENCODER = "vit_base_patch32_clip_quickgelu_224_schlarmann2024_fare_linf_eps4"


@pytest.mark.parametrize("verb", [("evaluate", ENCODER), ("attack", ENCODER, "README.md")])
def test_an_encoder_is_never_right_or_wrong(verb):
    refused = run(*verb, code=2)
    assert "an encoder, 512 numbers for an image" in refused.stderr
    assert f"robust-zoo transfer {ENCODER}" in refused.stderr


def test_an_encoder_is_shown_as_one():
    assert "kind:           encoder: embeddings of 512 numbers\n" in run("info", ENCODER).stdout
    [row] = json.loads(run("list", ENCODER, "--json").stdout)
    assert (row["kind"], row["clean_accuracy"], row["robust"]) == ("encoder", None, None)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(cost, "_TRIAL_SECONDS", 0.0)


DRY = ("--dry-run", "--device", "cpu", "--precision", "fp32")


def test_a_dry_run_shows_the_same_figures(quick):
    assert figures_in(run("train", L2, *DRY).stdout) == figures_in(run("recipe", L2).stdout)


@pytest.mark.parametrize("change", ["epochs = 1", 'threat = {norm = "linf", eps = "4/255"}'])
def test_a_dry_run_of_another_recipe_borrows_no_figure(quick, tmp_path, change):
    (tmp_path / "mine.toml").write_text(change)
    said = run("train", L2, "--recipe", tmp_path / "mine.toml", *DRY).stdout
    assert figures_in(said) == [] and f"not known: {L2} was trained by another recipe" in said


def test_what_a_run_makes_has_no_figures_yet():
    home = get(L2)
    assert as_trained(home, replace(recipe_for(home), epochs=1)).measured == ()


@pytest.mark.parametrize("fields", [{}, {"norm": "l2"}, {"eps": 0.5}, {"norm": "l3", "eps": 0.5}])
def test_no_figure_of_an_attack_is_without_norm_and_radius(fields):
    """Such a one was shown as clean accuracy."""
    with pytest.raises((ValueError, ZooError)):
        Measurement("pgd-20", 1, 2, "images", "", "", **fields)
    with pytest.raises(ValueError):
        Measurement("none", 1, 2, "images", "", "", norm="l2", eps=0.5)


def entry(threat, correct):
    under = {"norm": threat.norm, "eps": threat.eps, "n": 10}
    model = {"name": L2, "architecture": "a", "norm": "l2", "eps": 0.5, "clean_accuracy": 77.0, "approximate_mb": 1.0}
    return {
        "checkpoint": model, "model": L2, "weights_sha256": "w", "protocol": "linear", "settings": {"robust": under},
        "dataset": "pets", "data_sha256": "d", "metric": "top-1", "accuracy": 90.0, "mean_per_class": 90.0,
        "correct": 9, "n": 10, "note": "", "seed": 0, "details": {"robust": {"correct": correct, "n": 10}},
    }  # fmt: skip


def test_robust_accuracies_after_a_transfer_name_their_radii():
    entries = [entry(ThreatModel("l2", 0.5), 7), entry(ThreatModel("linf", 4 / 255), 3)]
    text = report.markdown(entries)
    assert "70.0 % at l2 eps 0.5 |" in text and "30.0 % at linf eps 4/255 |" in text
    head, *rows = [line.split(",") for line in report.as_csv(entries).splitlines()]
    columns = [head.index(name) for name in ("robust", "robust_norm", "robust_eps")]
    assert sorted([row[i] for i in columns] for row in rows) == [["30.0", "linf", str(4 / 255)], ["70.0", "l2", "0.5"]]


def test_a_runs_curves_name_the_radius(tmp_path, monkeypatch):
    epoch = {"kind": "epoch", "step": 1, "epoch": 1, "clean": 50.0, "single_step": 40.0, "pgd10": 30.0}
    lines = [{"kind": "step", "step": 1, "loss": 1.0}, epoch | {"threat": "l2 eps 0.5"}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    labels = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, out, **_: labels.extend(self.axes[1].get_legend_handles_labels()[1])
    )
    plot([tmp_path], Path("unused.png"))
    assert labels == ["clean", "one step at l2 eps 0.5", "PGD-10 at l2 eps 0.5"]
