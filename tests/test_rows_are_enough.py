"""What a third one of everything takes: a row. A toy of each kind walks from its recipe to an evaluated file."""

import subprocess
import sys
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import RECIPE, write_data
from shared_rows import added
from torch import nn

from robust_zoo import threat
from robust_zoo.cards.card import card
from robust_zoo.errors import Refused, UsageError, ZooError
from robust_zoo.registry import load
from robust_zoo.registry.load import load_registry, parse
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import checkpoint_name
from robust_zoo.threat import Norm, ThreatModel
from robust_zoo.training.attacks.apgd import apgd
from robust_zoo.training.attacks.fab import fab_targeted
from robust_zoo.training.attacks.pgd import pgd, pgd_until_wrong
from robust_zoo.training.attacks.square import square
from robust_zoo.training.data.dataset import load_npz
from robust_zoo.training.evaluation import datasets
from robust_zoo.training.evaluation.datasets import EvaluationSet
from robust_zoo.training.evaluation.run import EvaluationPlan, evaluate
from robust_zoo.training.objectives import OBJECTIVES, Objective, full
from robust_zoo.training.recipes import from_dict, recipe_for
from robust_zoo.training.run import Machine, train
from robust_zoo.training.schedules import SCHEDULES, Schedule
from robust_zoo.weights.exported import exported

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
MACHINE = Machine(device="cpu", precision="fp32", progress=False)
TOY = """
[dataset.toyset]
title = "Toy Set"
hub_id = "toys/toyset"
in_names = "toyset"
train_images = 24
split = "test"
class_names = ["ball", "car", "doll"]
timm_classes = ""
usual_eps = { l2 = 0.25, linf = "2/255" }
curve_eps = { l2 = [0.1], linf = ["1/255"] }

[architecture.toynet]
timm = "resnet10_x0_25_s2"
keys = "same"
parameters = 250000

[recipe.toys]
epochs = 1
batch_size = 12
lr = 0.1
schedule = "onecycle"
augment = "crop_flip"
note = ""

[collection.toys2026]
title = "Toys (Toymaker 2026)"
paper = ""
citation = "@misc{toys, title = {Toys}}"
dataset = "toyset"
in_names = ""
sources = []
format = "bare"
recipe = "toys"
licence = "mit"
licence_from = "the toymaker"
origin = "a test"

[reporter.toymaker]
title = "Toymaker 2026"

[collection.toys2026.preprocessing]
input_size = [3, 32, 32]
interpolation = "bilinear"
crop_pct = 1.0
crop_mode = "center"
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
num_classes = 3

[[checkpoint]]
name = "toynet_toyset_l2_eps0"
collection = "toys2026"
architecture = "toynet"
norm = "l2"
eps = 0
file = "toynet.pth"
reported = [{ value = 50.0, by = "toymaker" }]
"""


@pytest.fixture
def toys(tmp_path):
    """The registry with a row more of each kind."""
    with added(tmp_path, TOY):
        yield get("toynet_toyset_l2_eps0")


def test_a_dataset_an_architecture_and_a_collection_are_rows(toys, tmp_path, monkeypatch):
    recipe = recipe_for(toys)
    assert (recipe.dataset, recipe.architecture, recipe.epochs) == ("toyset", "toynet", 1)
    text = card(toys, recipe)
    assert "trained in the standard way on Toy Set. Toys (Toymaker 2026)" in text and "@misc{toys" in text
    assert "*reported by* Toymaker 2026" in text and '"name": "Toy Set"' in text

    whole = dict(np.load(write_data(tmp_path / "cifar.npz", 80, 40)))
    parts = {}
    for split in ("train", "test"):
        kept = whole[f"y_{split}"] < 3
        parts |= {f"{axis}_{split}": whole[f"{axis}_{split}"][kept] for axis in "xy"}
    np.savez(tmp_path / "toys.npz", **parts)
    file = train(toys.name, tmp_path / "toys.npz", tmp_path / "run", machine=MACHINE)
    assert file.name == "toynet_toyset_l2_eps0.safetensors" and "on Toy Set" in (file.parent / "card.md").read_text()

    mine = exported(file)
    assert {(m.norm, m.eps) for m in mine.measured if m.attack == "pgd-20"} == {("l2", 0.25), ("l2", 0.1)}
    row = EvaluationSet("toyset", "toyset test", "an .npz", lambda data, _: load_npz(tmp_path / "toys.npz", "test"))
    monkeypatch.setitem(datasets.DATASETS, "toyset", row)
    (entry,) = evaluate([mine], "toys.npz", "toyset", tmp_path / "ledger", EvaluationPlan("none"), device="cpu")
    assert (entry["clean_correct"], entry["n"]) == (mine.measured[0].correct, mine.measured[0].n)
    with pytest.raises(UsageError, match="does not know the classes"):
        evaluate([get(NAME)], "toys.npz", "toyset", tmp_path / "ledger", device="cpu")


def test_a_schedule_and_an_objective_are_rows(tmp_path, monkeypatch):
    def squared(model: nn.Module, images, adv_images, labels, knobs):
        logits = full(model(adv_images))
        target = nn.functional.one_hot(labels, logits.shape[1]).to(logits)
        return (logits - target).square().mean(), logits.detach()

    monkeypatch.setitem(SCHEDULES, "halving", Schedule(lambda done, drops: 0.5**drops, "halved from {lr:g}"))
    monkeypatch.setitem(OBJECTIVES, "squared", Objective(squared, words="squared error of {epochs} epochs, "))
    text = RECIPE.replace("epochs = 3", 'epochs = 1\nschedule = "halving"\nstep_epochs = 1\nobjective = "squared"')
    (tmp_path / "recipe.toml").write_text(text)
    write_data(tmp_path / "data.npz")
    file = train(NAME, tmp_path / "data.npz", tmp_path / "run", overrides=tmp_path / "recipe.toml", machine=MACHINE)
    said = (file.parent / "card.md").read_text()
    assert "squared error of 1 epochs, PGD with 2 steps" in said and "halved from 0.25" in said
    (entry,) = evaluate([exported(file)], "", "sample", tmp_path, EvaluationPlan("none", n=20), device="cpu")
    assert entry["n"] == 20
    recipe = replace(recipe_for(get(NAME)), schedule="halving", step_epochs=2, objective="squared")
    assert [recipe.learning_rate(e) for e in (0, 2, 4.5)] == [0.25, 0.125, 0.0625] and recipe.passes == 9


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('architecture = "toynet"', "toynet_toyset_l2_eps0 names the architecture 'toynat'"),
        ('collection = "toys2026"', "toynet_toyset_l2_eps0 names the collection 'toys2o26'"),
        ('dataset = "toyset"', "collection.toys2026 names the dataset 'toysat'"),
        ('recipe = "toys"', "collection.toys2026 names the recipe 'tays'"),
        ('keys = "same"', "keys 'sama' is not one of"),
        ('usual_eps = { l2 = 0.25, linf = "2/255" }', "has radii for"),
    ],
)
def test_a_row_that_names_what_has_no_row_fails_when_it_is_loaded(line, said):
    wrong = {"toynet": "toynat", "toys2026": "toys2o26", "toyset": "toysat", "toys": "tays", "same": "sama"}
    name = line.partition('"')[2].strip('"')
    changed = line.replace(name, wrong[name]) if name in wrong else "usual_eps = { l2 = 0.25 }"
    mutated = TOY.replace(line, changed, 1)
    with pytest.raises(Refused, match="registry cannot be read") as raised:
        parse(tomllib.loads(load.TOML.read_text(encoding="utf-8") + mutated))
    assert said in raised.value.actual


def test_names_are_a_function_of_the_row():
    for name, checkpoint in load_registry().checkpoints.items():
        threat_model, dataset = checkpoint.threat, checkpoint.collection.dataset
        whose = {"collection": checkpoint.collection.in_names, "variant": checkpoint.variant}
        assert name == checkpoint_name(checkpoint.network.label, dataset, threat_model, **whose)
        assert name.endswith(threat_model.tag) and get(f"{name}.pth") is checkpoint


def test_a_dataset_is_the_checkpoints_own():
    with pytest.raises(UsageError, match="dataset") as raised:
        from_dict({"dataset": "imagenet"}, recipe_for(get(NAME)))
    assert "cifar10" in raised.value.expected


def test_a_norm_without_rules_is_refused_by_every_attack(monkeypatch):
    monkeypatch.setitem(threat.NORMS, "l1", Norm("L1", "change pixels by {radius} in all"))
    model, images, labels = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(2, 3, 2, 2), torch.tensor([0, 1])
    threat_model = ThreatModel("l1", 1.0)
    for attack in (
        lambda *a: pgd(*a, steps=1, step_size=0.1),
        lambda *a: pgd_until_wrong(*a, steps=1),
        apgd,
        fab_targeted,
        lambda *a: square(*a, queries=1),
    ):
        with torch.no_grad():
            labels = model(images).argmax(1)
        with pytest.raises(ZooError, match="no rules to attack in l1"):
            attack(model, images, labels, threat_model)


def test_a_norm_without_rules_is_refused_when_attacks_are_loaded():
    code = (
        "from robust_zoo import threat; threat.NORMS['l1'] = threat.Norm('L1', '{radius}')\n"
        "import robust_zoo.training.attacks.pgd"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode and "no rules to attack in l1" in done.stderr


@pytest.mark.parametrize("make", [lambda: ThreatModel("l3", 1.0), lambda: ThreatModel.parse("l3", "1")])
def test_an_unknown_norm_raises(make):
    with pytest.raises(UsageError, match="unknown norm 'l3'"):
        make()
