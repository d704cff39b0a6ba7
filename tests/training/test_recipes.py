"""Every row's recipe, run; recipes from files; and what they cost."""

import json
import re
import tomllib
from dataclasses import MISSING, asdict, fields, replace

import pytest
import torch
from pages import tables
from safetensors import safe_open

from robust_zoo.cli.card import card_of as card
from robust_zoo.errors import UsageError
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import DATA
from robust_zoo.threat import ThreatModel
from robust_zoo.training.cost import cost
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.distributed import ALONE
from robust_zoo.training.export import as_trained, export, measure
from robust_zoo.training.recipes import Recipe, from_dict, load_overrides, recipe_for
from robust_zoo.training.run import untrained
from robust_zoo.training.steps.passes import TrainingLoss, optimizer_for
from robust_zoo.training.steps.step import make_step
from robust_zoo.weights.exported import checkpoint_of

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
BASE = recipe_for(get(NAME))
LARGE = ["densenet", "resnext50_32x4d", "vgg16_bn", "wide_resnet50_2", "wide_resnet50_4"]
KNOWN = [name for name in list_models() if get(name).recipe]
ARCHITECTURES = sorted({get(name).architecture for name in KNOWN})


def test_upstreams_recipe_is_the_one_handed_down():
    """upstream.md section 4; robustness' own defaults (200 epochs, batch 256, 7 steps) are not it."""
    recipe = recipe_for(get("resnet50_l2_eps3"))
    assert recipe == Recipe(
        architecture="resnet50",
        dataset="imagenet",
        threat=ThreatModel("l2", 3.0),
        epochs=90,
        batch_size=512,
        lr=0.1,
        schedule="step",
        augment="robustness",
        step_epochs=30,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        attack_steps=3,
        attack_step_size=2 / 3,
        random_start=False,
        seed=0,
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_row_of_an_architecture_trains_for_two_steps_and_its_card_says_the_same(architecture):
    """On two small images; one network goes through all its rows' recipes, for building it is the slow part.

    Of recipes that differ in a radius above 0 alone one makes its steps; all of them, and those of the largest
    networks, where a step is mostly memory, in `make test-peers`.
    """
    names = [name for name in KNOWN if get(name).architecture == architecture]
    if architecture not in LARGE:
        train(kinds(names))
    for name in names:
        compare_with_card(get(name), recipe_for(get(name)))


@pytest.mark.peers
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_row_trains_for_two_steps(architecture):
    train([name for name in KNOWN if get(name).architecture == architecture])


def kinds(names):
    """The first of the names of each recipe, radii above 0 being one."""
    found = {}
    for name in names:
        recipe = recipe_for(get(name))
        found.setdefault(replace(recipe, threat=replace(recipe.threat, eps=float(recipe.threat.eps > 0))), name)
    return list(found.values())


def train(names, steps=2):
    torch.manual_seed(0)
    side = 64 if names[0].startswith("densenet") else 48  # it rounds down: of 48, a single pixel is left
    images, labels = torch.rand(2, 3, side, side), torch.tensor([1, 2])
    model = untrained(get(names[0]), recipe_for(get(names[0])), ALONE, "fp32")[0].train()
    for name in names:
        row, recipe = get(name), recipe_for(get(name))
        assert (recipe.architecture, recipe.dataset, recipe.threat) == (row.architecture, row.dataset, row.threat)
        step = make_step(model, recipe, optimizer_for(model, replace(recipe, lr=1e-4)))
        before = next(model.parameters()).detach().clone()
        for _ in range(steps):
            assert step(images, labels).seen == 2
        assert not torch.equal(before, next(model.parameters()))
        assert (step.folded is None) == (recipe.threat.eps == 0)


def compare_with_card(row, recipe):
    """Every number of the card's training section is the recipe's."""
    text = card(row)[card(row).index("## Training") :].partition("## Weights")[0]
    found = {
        "momentum": float(re.search(r"momentum ([\d.]+),", text)[1]),
        "batch_size": int(re.search(r"batch (\d+),", text)[1]),
        "epochs": int(re.search(r"(\d+) epochs", text)[1]),
        "lr": float(re.search(r"learning rate (?:up to |from )?([\d.]+)", text)[1]),
        "weight_decay": float(re.search(r"weight decay ([\d.]+\d)", text)[1]),
        "nesterov": "Nesterov" in text,
        "schedule": "step" if "divided by 10" in text else "onecycle" if "one-cycle" in text else "cosine",
    }
    if "divided by 10" in text:
        found["step_epochs"] = int(re.search(r"divided by 10 every (\d+)", text)[1])
    if row.eps:
        attack = re.search(r"PGD with (\d+) steps of (\d+)/(\d+) eps from (the image itself|a random start)", text)
        found |= {"attack_steps": int(attack[1]), "attack_step_size": int(attack[2]) / int(attack[3])}
        found["random_start"] = attack[4] == "a random start"
        assert str(recipe.threat.norm) in card(row)
    else:
        assert "PGD" not in text
    assert {k: v for k, v in asdict(recipe).items() if k in found} == pytest.approx(found)


def test_every_named_recipe_is_used():
    assert set(load_registry().recipes) == {get(name).recipe for name in list_models()} - {""}


@pytest.mark.parametrize("name", ["", "salman202"])
def test_a_checkpoint_without_a_known_recipe_is_said(name):
    home = get("resnet50_l2_eps3")
    with pytest.raises(UsageError, match="resnet50_l2_eps3 was trained is not known") as error:
        recipe_for(replace(home, collection=replace(home.collection, recipe=name)))
    assert error.value.actual == f"recipe {name!r}" and "salman2020" in error.value.expected


def test_a_bundled_file_carries_the_recipe_that_made_it():
    for name in list_models(bundled=True):
        assert load_overrides(DATA / get(name).file, BASE) == recipe_for(get(name))


def test_overrides_from_toml(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'epochs = 30\nlr = 1\nschedule = "cosine"\nattack_step_size = "1/4"\nthreat = {norm = "linf", eps = "8/255"}\n'
    )
    recipe = load_overrides(file, BASE)
    expected = replace(
        BASE, epochs=30, lr=1.0, schedule="cosine", attack_step_size=0.25, threat=ThreatModel("linf", 8 / 255)
    )
    assert recipe == expected and recipe.sha256 == expected.sha256 != BASE.sha256
    file.write_text("threat = {eps = 0.25}\n")
    assert load_overrides(file, BASE) == replace(BASE, threat=ThreatModel("l2", 0.25))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "closest: epochs"),
        ("epochs = 2.5", "epochs: a value of type int"),
        ("epochs = true", "epochs: a value of type int"),
        ("epochs = 0", "epochs: a whole number >= 1"),
        ('lr = "fast"', "lr: a value of type float"),
        ("lr = -1.0", "lr: a number >= 0"),
        ("lr = nan", "lr: a number >= 0"),
        ("nesterov = 1", "nesterov: a value of type bool"),
        ('schedule = "linear"', "schedule: one of step, onecycle, cosine"),
        ('objective = "fgsm"', "objective: one of adversarial, trades"),
        ("ema_decay = 1.0", "ema_decay: a number in [0, 1)"),
        ("batch_size = 10\naccumulation = 3", "accumulation: a divisor of batch_size (10)"),
        ('threat = "l2"', "threat: a table such as"),
        ('threat = {norm = "l3", eps = 1}', "l2 or linf"),
        ('threat = {norm = "linf", eps = 8}', '"8/255"'),
        ('threat = {norm = ["l2"]}', "norm: a value of type str"),
        ("nesterov = true\nmomentum = 0", "nesterov: False with momentum = 0"),
        (f"seed = {1 << 32}", "seed: a whole number from 0 to 4294967295"),
        ("attack_steps = 0", "attack_steps: a whole number >= 1 with a radius above 0"),
        ("epochs = ", "a .toml file of recipe fields"),
    ],
)
def test_what_no_recipe_has_is_said(tmp_path, text, said):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        load_overrides(tmp_path / "mine.toml", BASE)
    assert said in error.value.expected


def test_an_exported_recipe_of_another_dataset_is_refused():
    with pytest.raises(UsageError, match="dataset = 'cifar10'") as error:
        load_overrides(DATA / get(NAME).file, recipe_for(get("resnet50_l2_eps3")))
    assert error.value.expected.startswith("dataset: imagenet") and error.value.source.endswith(get(NAME).file)


@pytest.mark.parametrize(("decay", "said"), [(0.0, "0"), (1e-7, "0.0000001"), (5e-4, "0.0005"), (2.0, "2")])
def test_a_card_says_the_weight_decay_as_it_is(decay, said):
    assert replace(BASE, weight_decay=decay).in_words.endswith(f", weight decay {said}.")


def test_a_card_says_where_the_attack_of_trades_begins():
    """Zhang et al. 2019 begin beside the image, where their divergence has a gradient."""
    assert " eps from the image itself, " in BASE.in_words
    assert " eps from a point beside the image, " in replace(BASE, objective="trades").in_words
    assert " eps from a random start, " in replace(BASE, objective="trades", random_start=True).in_words


def test_half_a_recipe_is_not_one():
    with pytest.raises(UsageError, match="incomplete"):
        from_dict({"architecture": "resnet18"})


def test_json_goes_round():
    assert from_dict(json.loads(BASE.to_json())) == BASE


@pytest.mark.parametrize(
    ("name", "macs"), [("resnet50_l2_eps3", 4.09e9), ("resnet18_l2_eps3", 1.81e9), ("vgg16_bn_l2_eps3", 15.5e9)]
)
def test_cost_is_the_published_one(name, macs):
    """Multiply-adds of one forward pass as torchvision's documentation gives them (GFLOPS column)."""
    c = cost(get(name), recipe_for(get(name)))
    assert c.forward_flops == pytest.approx(2 * macs, rel=0.02)
    assert c.images == 1_281_167 // 512 * 512 * 90 and c.passes == 9
    assert c.flops == pytest.approx(c.images * 9 * c.forward_flops)


def test_export_carries_its_provenance_and_the_row_reads_back(tmp_path):
    row, data = get(NAME), cifar10_sample(2)
    model, _ = untrained(row, BASE, ALONE, "fp32")
    measured = measure(model, row, data)
    path = export(model.model, as_trained(row, BASE), BASE, data, measured, tmp_path, how="a test", hours=0.0)
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    assert from_dict(json.loads(header["recipe"])) == BASE == load_overrides(path, replace(BASE, epochs=99))
    assert (header["recipe_sha256"], header["training_data_sha256"]) == (BASE.sha256, data.sha256)
    assert header["seed"] == "0" and json.loads(header["metrics"])[1]["attack"] == "pgd-20"
    (written,) = tomllib.loads((tmp_path / "row.toml").read_text())["checkpoint"]
    assert written["name"] == NAME and written["collection"] == "robust_zoo_cifar10" and written["bundled"] is True
    assert [m["correct"] for m in written["measured"]] == [m["correct"] for m in measured]
    text = (tmp_path / "card.md").read_text()
    assert "batch 128" in text and "](card.svg)" in text
    table = next(table for table in tables(text) if table.section == "Measured here")
    lines = [[cell.text.split(" %")[0] for cell in row] for row in table.rows]
    whole = [f"{5 * m['correct']:.2f}" for m in measured[:2]]  # of 20 images: clean, at the trained radius
    assert any(line[:3] == ["PGD-20", "20 cifar10 test", whole[0]] and whole[1] in line[3:] for line in lines)
    assert (tmp_path / "card.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("changed", [{}, {"epochs": 13}, {"threat": ThreatModel("l2", 0.75)}])
def test_nothing_that_is_known_of_other_weights_is_said_of_those_that_a_run_makes(changed):
    row = get(NAME)
    assert row.corruptions and row.measured and row.fingerprint  # or this proves nothing
    made = as_trained(row, replace(BASE, **changed))
    told = {field.name for field in fields(made) if getattr(made, field.name) != field.default}
    bundled = set() if "epochs" in changed else {"bundled", "licence_from"}
    assert told - {"variant"} == bundled | {field.name for field in fields(made) if field.default is MISSING}
    assert "orruptions" not in card(made)


def test_the_card_of_a_run_and_that_of_its_file_say_what_works(tmp_path, monkeypatch):
    recipe, data = replace(BASE, epochs=13), cifar10_sample(1)
    row = as_trained(get(NAME), recipe)
    model, _ = untrained(row, recipe, ALONE, "fp32")
    path = export(model.model, row, recipe, data, [], tmp_path, how="a test", hours=0.0)
    monkeypatch.chdir(tmp_path)
    of_file = card(checkpoint_of(path.name))
    for text in ((tmp_path / "card.md").read_text(), of_file):
        assert row.name not in load_registry().checkpoints
        assert f"recipe {row.name}" not in text and f'timm.create_model("{row.name}"' not in text
        assert "13 epochs" in text and "`robust-zoo train NAME --recipe FILE` repeats it" in text
        loaded = re.search(r'robust_zoo\.create_model\("(.*)"\)', text)[1]
        assert checkpoint_of(loaded).sha256 == checkpoint_of(path).sha256


def test_what_is_trained_here_does_not_pass_for_what_others_published():
    row = get("resnet50_l2_eps3")
    again = as_trained(row, recipe_for(row))
    assert (again.name, again.collection.name, again.reported_by, again.hub) == (
        "resnet50_l2_eps3",
        "robust_zoo_imagenet",
        "",
        None,
    )
    changed = as_trained(get(NAME), replace(BASE, architecture="resnet10_x0_5", threat=ThreatModel("linf", 4 / 255)))
    assert (changed.name, changed.network.timm) == ("resnet10_x0_5_cifar10_linf_eps4", "resnet10_x0_5")
    assert changed.collection == get(NAME).collection  # its recipe, at another radius
    changed = as_trained(get(NAME), replace(BASE, epochs=13))
    assert (changed.name, changed.collection.name, changed.bundled) == (
        "resnet18_x0_25_cifar10_custom_l2_eps0_5",
        "custom_cifar10",
        False,
    )


def test_objective_of_eps_zero_is_standard_training():
    recipe = replace(BASE, threat=ThreatModel("l2", 0.0), objective="trades")
    model, _ = untrained(get(NAME), recipe, ALONE, "fp32")
    images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
    loss, _ = TrainingLoss(model, recipe)(images, images, labels)
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(model(images), labels).item())
