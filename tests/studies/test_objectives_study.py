"""The objectives study: what is trained and judged in which order, what is done again, and its table."""

import json
import statistics
import sys
from pathlib import Path

import pytest
import torch
from runs import write_data

from robust_zoo.threat import ThreatModel
from robust_zoo.training.jobs.commands import Commands
from robust_zoo.training.signals import EXIT_STOPPED
from robust_zoo.weights.safetensors_file import write_safetensors
from studies.objectives import objectives

RESULTS = Path(__file__).parents[2] / "results"
ENTRIES = "cifar10-test-250-evenly-spread"  # of a bundled model, as the figures of every stand-in


class StandIns(Commands):
    """Writes what `robust-zoo` would: weights with nothing in them but a recipe, figures of results/."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.told, self.fails_at = [], fails_at

    def robust_zoo(self, arguments, output):
        words = [str(word) for word in arguments]
        self.told.append(words)
        if len(self.told) == self.fails_at:
            return EXIT_STOPPED
        where = Path(words[words.index("--out") + 1])
        if words[0] == "train":
            recipe = objectives.load_overrides(where / "recipe.toml", objectives.recipe_for(objectives.get(words[1])))
            write_safetensors(where / "resnet.safetensors", {"x": torch.zeros(1)}, {"recipe": recipe.to_json()})
        else:
            entries = where / objectives.BASE
            entries.mkdir(parents=True, exist_ok=True)
            for source in (RESULTS / objectives.BASE).glob(f"{ENTRIES}__{words[words.index('-a') + 1]}_*"):
                (entries / source.name).write_bytes(source.read_bytes())
        return 0


def study_in(folder, commands, epochs=4):
    data = folder / "data.npz"
    return objectives.Study(
        data if data.exists() else write_data(data),
        folder / "runs",
        epochs,
        250,
        folder / "cells.jsonl",
        "cpu",
        commands,
    )


def test_objectives_have_as_many_passes_as_whole_epochs_allow():
    for epochs, passes in ((10, 90), (4, 36)):
        for training in objectives.TRAININGS:
            recipe = objectives.recipe_of(training, 2, epochs)
            assert abs(recipe.epochs * recipe.passes - passes) <= (0 if epochs == 10 else recipe.passes / 2)
            assert recipe.seed == 2 and recipe.objective == training.split(",")[0]
    sigmas = {objectives.recipe_of(t, 0, 4).arks_sigma for t in objectives.TRAININGS if "arks" in t}
    assert sigmas == {0.1, 0.3, 0.6}


def test_a_model_is_trained_once_and_judged_by_both_attacks(tmp_path):
    commands = StandIns()
    study = study_in(tmp_path, commands)
    assert study.one("arks, sigma 0.6", 1) == 0
    train, *judged = commands.told
    assert train[:2] == ["train", objectives.BASE]
    assert (tmp_path / "runs" / "arks_sigma0.6_seed1" / "recipe.toml").read_text() == (
        'objective = "arks"\narks_sigma = 0.6\nseed = 1\nepochs = 4\n'
    )
    assert "--norm" not in judged[0] and "--n" not in judged[0] and judged[0][judged[0].index("-a") + 1] == "none"
    found = [(w[w.index("-a") + 1], w[w.index("--norm") + 1], w[w.index("--eps") + 1]) for w in judged[1:]]
    assert found == [(attack, "l2", "0.5") for attack in ("pgd-20", "autoattack")]
    cells = objectives.read(study.cells)
    assert {(c["attack"], c["norm"], round(c["eps"], 3)) for c in cells} == {
        (attack, *radius) for attack in ("pgd-20", "autoattack") for radius in (("l2", 0.5), ("linf", 0.031))
    }
    assert {(c["training"], c["seed"], c["passes"], c["n"]) for c in cells} == {("arks, sigma 0.6", 1, 40, 250)}
    before = len(commands.told)
    assert objectives.percent(cells, "autoattack") == [54.4]
    assert study.one("arks, sigma 0.6", 1) == 0
    assert [words[0] for words in commands.told[before:]] == ["evaluate"] * 3  # which look what is there
    with pytest.raises(SystemExit, match="other settings"):
        study_in(tmp_path, commands, epochs=10).one("arks, sigma 0.6", 1)


def test_what_is_stopped_goes_no_further(tmp_path):
    commands = StandIns(fails_at=3)
    assert study_in(tmp_path, commands).one("regional, L2 0.5", 0) == EXIT_STOPPED
    assert len(commands.told) == 3 and not (tmp_path / "cells.jsonl").exists()


def test_seed_0_of_all_comes_first_and_the_table_is_printed(tmp_path, monkeypatch, capsys):
    commands, few = StandIns(), dict(list(objectives.TRAININGS.items())[:3])
    monkeypatch.setattr(objectives, "TRAININGS", few)
    monkeypatch.setattr(commands, "stop_on_signals", lambda: None)
    monkeypatch.setattr(objectives, "Commands", lambda: commands)
    made = objectives.Study
    monkeypatch.setattr(objectives, "Study", lambda *a: made(*a, commands))
    arguments = [
        write_data(tmp_path / "data.npz"),
        tmp_path / "runs",
        "--cells",
        tmp_path / "cells.jsonl",
        "--seeds",
        2,
    ]
    monkeypatch.setattr(sys, "argv", ["objectives.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        objectives.main()
    trained = [Path(w[w.index("--out") + 1]).name for w in commands.told if w[0] == "train"]
    assert end.value.code == 0 and len(trained) == 6
    assert all(name.endswith(f"_seed{i // 3}") for i, name in enumerate(trained))
    assert [name.split("_")[0] for name in trained[:3]] == ["adversarial", "arks", "regional"]
    printed = capsys.readouterr().out
    assert printed == objectives.table(objectives.read(tmp_path / "cells.jsonl")) and len(printed.splitlines()) == 5


def cell(training, seed, attack, robust, flags=(), threat=objectives.JUDGE):
    about = {"training": training, "seed": seed, "passes": 36, "n": 200, "flags": list(flags)}
    norm, eps = (threat.norm, threat.eps) if threat else (None, None)
    return about | {"attack": attack, "norm": norm, "eps": eps, "robust_correct": robust}


def test_the_table_is_worked_by_hand():
    """Three seeds of one training, one of another; PGD-20 leaves 10 of 200 more than AutoAttack in each seed."""
    cells = []
    for seed, robust in enumerate((100, 110, 120)):
        cells.append(cell("arks, sigma 0.3", seed, "none", 160, threat=None))
        cells.append(cell("arks, sigma 0.3", seed, "autoattack", robust))
        cells.append(cell("arks, sigma 0.3", seed, "pgd-20", robust + 10))
        cells.append(cell("arks, sigma 0.3", seed, "autoattack", 1, threat=ThreatModel("l2", 1)))
    cells.append(cell("adversarial, L2 0.5", 0, "autoattack", 90, ["zero-gradients"]))
    lines = objectives.table(cells).splitlines()
    assert lines[0] == ("| training | passes | seeds | clean | AutoAttack, L2 0.5 | PGD-20 above it | flagged |")
    assert lines[2:] == [
        "| adversarial, L2 0.5 | 36 | 1 |  | 45.0 |  | 1 |",
        "| arks, sigma 0.3 | 36 | 3 | 80.0 ± 0.0 | 55.0 ± 2.9 | 5.0 ± 0.0 | 0 |",
    ]


def test_readme_says_what_its_cells_say():
    """The table; differences to `adversarial`, seed by seed; what a narrower kernel wins and loses; no check failed."""
    text = " ".join((Path(objectives.__file__).parent / "README.md").read_text("utf-8").split())
    cells = objectives.read()
    assert " ".join(objectives.table(cells).split()) in text
    base, narrow, regional, wide, narrowest = objectives.TRAININGS

    def percent(training, attack):
        return objectives.percent([c for c in cells if c["training"] == training], attack)

    def apart(training, attack, sign):
        pairs = zip(percent(training, attack), percent(base, attack), strict=True)
        found = [sign * (a - b) for a, b in pairs]
        return f"{statistics.fmean(found):.1f} ± {statistics.stdev(found) / len(found) ** 0.5:.1f}"

    for training, words in ((regional, "points cleaner"), (wide, "cleaner")):
        said = f"{apart(training, 'none', 1)} {words} and {apart(training, 'autoattack', -1)} less robust"
        assert said in text
    clean, robust = ({t: statistics.fmean(percent(t, a)) for t in objectives.TRAININGS} for a in ("none", "autoattack"))
    first = f"{clean[narrow] - clean[wide]:.1f} points of clean accuracy for {robust[wide] - robust[narrow]:.1f}"
    second = f"{clean[narrowest] - clean[narrow]:.1f} for {robust[narrow] - robust[narrowest]:.1f}"
    assert f"from 0.6 to 0.3 {first} of robust, from 0.3 to 0.1 {second}." in text
    gap = {t: statistics.fmean(percent(t, "pgd-20")) - robust[t] for t in (base, regional)}
    assert f"leaves {gap[regional]:.1f} points more of `regional` than AutoAttack does, {gap[base]:.1f} of" in text
    assert not any(c["flags"] for c in cells)
    assert not any(c["broken_by"]["fab-t"] or c["broken_by"]["square"] for c in cells if c["attack"] == "autoattack")


def test_few_test_images_and_all_training_images_are_trained_with(tmp_path):
    study = study_in(tmp_path, StandIns())
    with objectives.np.load(study.training_data()) as found, objectives.np.load(study.data) as whole:
        assert (found["x_train"] == whole["x_train"]).all() and (found["y_test"] == whole["y_test"]).all()
    assert json.dumps(sorted(p.name for p in study.runs.iterdir())) == '["data.npz"]'
