"""Objectives in training: their formulas, their words, and runs of them that are cut, shared, exported."""

import copy
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from reads import Reads
from runs import EXPORTED, NAME, RECIPE, command, losses, status, until, weights_sha256
from torch import nn
from verbs import run_to

from robust_zoo.cards.card import card
from robust_zoo.cli.card import card_of
from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks import region
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.attacks.pgd import eval_mode
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.distributed import ALONE
from robust_zoo.training.evaluation.run import EvaluationPlan, evaluate
from robust_zoo.training.export import as_trained
from robust_zoo.training.log import read_log
from robust_zoo.training.loop import train_model
from robust_zoo.training.machine import Settings
from robust_zoo.training.objectives import OBJECTIVES
from robust_zoo.training.recipes import from_dict, recipe_for
from robust_zoo.training.signals import Interrupt, Stopped
from robust_zoo.training.steps.passes import TrainingLoss, attack, optimizer_for
from robust_zoo.training.steps.step import make_step
from robust_zoo.weights.exported import exported
from robust_zoo.weights.safetensors_file import read_header

BASE = replace(recipe_for(get(NAME)), architecture="tiny", epochs=2, batch_size=8, lr=0.002)
ARKS = replace(BASE, objective="arks")
REGIONAL = replace(BASE, objective="regional")
DATA = cifar10_sample(2)
ROWS = pytest.mark.parametrize("recipe", [ARKS, REGIONAL], ids=["arks", "regional"])


def tiny_model(dtype=torch.float64):
    """As steep as a trained network, so that ARKS moves its images."""
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()]
    model = nn.Sequential(*first, nn.Conv2d(8, 8, 3, stride=2), nn.Flatten(), nn.Linear(392, 10))
    with torch.no_grad():
        model[1].running_mean.normal_(0, 0.1)
        model[1].running_var.uniform_(0.05, 0.2)
        for layer in (model[3], model[5]):
            layer.weight.mul_(4)
    return model.to(dtype).train()


def batch(dtype=torch.float64):
    ((images, labels),) = DATA.subset(torch.arange(8)).batches(8)
    return images.to(dtype), labels


def gradients(model, recipe, adv_images):
    """The loss, and the gradient in all parameters, flat."""
    images, labels = batch(adv_images.dtype)
    model.zero_grad()
    loss, logits = TrainingLoss(model, recipe)(images, adv_images, labels)
    loss.backward()
    return loss.detach(), logits, torch.cat([p.grad.flatten() for p in model.parameters()])


def test_arks_weighs_each_images_loss_by_its_kernel_and_the_weight_has_no_gradient():
    model, (images, labels) = tiny_model().eval(), batch()
    adv_images = attack(model, images, labels, ARKS)
    loss, logits, found = gradients(model, ARKS, adv_images)
    assert torch.equal(logits, model(adv_images).detach())
    weights = (-((adv_images - images).flatten(1).norm(dim=1) ** 2) / (2 * ARKS.arks_sigma**2)).exp()
    expected, total = torch.zeros_like(found), 0.0
    for i in range(8):
        model.zero_grad()
        one = F.cross_entropy(model(adv_images[i : i + 1]), labels[i : i + 1])
        one.backward()
        expected += weights[i] / 8 * torch.cat([p.grad.flatten() for p in model.parameters()])
        total += weights[i].item() / 8 * one.item()
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-14) and loss.item() == pytest.approx(total, rel=1e-12)
    assert 0.9 < weights.min() < weights.max() - 0.03 < 0.96


def test_arks_without_width_is_standard_training_bit_for_bit():
    recipe, plain = replace(ARKS, arks_sigma=1e-6), replace(BASE, threat=ThreatModel("l2", 0.0))
    images, labels = batch(torch.float32)
    weights = []
    for each in (recipe, plain):
        model = tiny_model(torch.float32)
        counts = make_step(model, each, optimizer_for(model, each))(images, labels)
        weights.append((float(counts.loss), int(counts.adv), model[0].weight.detach()))
    assert weights[0][:2] == weights[1][:2] and torch.equal(weights[0][2], weights[1][2])


@ROWS
def test_the_folded_models_points_are_the_models_own(recipe):
    model, (images, labels) = tiny_model(), batch()
    folded = folded_model(model, images)
    assert folded.pairs
    torch.manual_seed(1)
    by_folded = attack(folded.model, images, labels, recipe)
    torch.manual_seed(1)
    with eval_mode(model):
        own = attack(model, images, labels, recipe)
    assert torch.allclose(by_folded, own, rtol=0, atol=1e-10) and not torch.equal(own, images)


def test_regional_smooths_a_label_in_proportion_to_the_distance():
    recipe = replace(REGIONAL, regional_smoothing=0.3)
    model, (images, labels) = tiny_model().eval(), batch()
    torch.manual_seed(1)
    adv_images = attack(model, images, labels, recipe)
    loss, logits, found = gradients(model, recipe, adv_images)
    d = (adv_images - images).flatten(1).norm(dim=1) / recipe.threat.eps
    assert 0 < d.min() < 0.9 * d.max() and d.max() <= 1 + 1e-9
    target = F.one_hot(labels, 10) * (1 - 0.3 * d[:, None]) + 0.3 * d[:, None] / 10
    assert torch.allclose(target.sum(1), torch.ones(8).double())
    model.zero_grad()
    expected = F.cross_entropy(model(adv_images), target)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12) and torch.equal(logits, model(adv_images).detach())
    assert torch.allclose(found, torch.cat([p.grad.flatten() for p in model.parameters()]), rtol=1e-9, atol=1e-13)
    plain = F.cross_entropy(model(adv_images), labels)
    assert gradients(model, replace(recipe, regional_smoothing=0.0), adv_images)[0] == plain.detach()


@pytest.mark.parametrize("random_start", [False, True])
def test_regional_at_the_paths_end_without_smoothing_is_adversarial_bit_for_bit(monkeypatch, random_start):
    def last(points, like):
        return F.one_hot(torch.full((len(like),), points - 1), points).to(like)

    monkeypatch.setattr(region, "uniform_weights", last)
    recipes = [replace(REGIONAL, regional_smoothing=0.0, random_start=random_start), BASE]
    images, labels = batch(torch.float32)
    found = []
    for recipe in recipes:
        recipe = replace(recipe, random_start=random_start)
        model = tiny_model(torch.float32)
        step = make_step(model, recipe, optimizer_for(model, recipe))
        torch.manual_seed(7)
        sums = [step(images, labels).read() for _ in range(3)]
        found.append((sums, *(p.detach() for p in model.parameters())))
    assert found[0][0] == found[1][0] and all(map(torch.equal, found[0][1:], found[1][1:]))


@ROWS
def test_a_step_loses_nothing_in_bf16_and_waits_for_no_device(recipe):
    found = []
    for bf16 in (False, True):
        model, (images, labels) = tiny_model(torch.float32), batch(torch.float32)
        step = make_step(model, recipe, optimizer_for(model, recipe), bf16=bf16, check_every=9)
        torch.manual_seed(0)
        step(images, labels)  # the first makes the folded model, and compares it
        with Reads() as reads:
            counts = step(images, labels)
        assert not reads.seen
        found.append(counts.read()[1] / 8)
        step.check()
    assert found[1] == pytest.approx(found[0], rel=0.02) and found[0] != found[1]


@ROWS
def test_what_is_seen_first_is_clean_accuracy(recipe):
    model, (images, labels) = tiny_model(), batch()
    clean = int((copy.deepcopy(model).eval()(images).argmax(1) == labels).sum())
    counts = make_step(model, recipe, optimizer_for(model, recipe))(images, labels)
    assert counts.read()[3] == clean


def trained(out, recipe, stop_after=None):
    """A run in `out`, which `stop_after` polls is told to stop; random numbers before it are of no account."""
    out.mkdir(exist_ok=True)
    model, polls = tiny_model(torch.float32), iter([""] * (stop_after or 10_000) + ["a test"])
    torch.manual_seed(stop_after or 1)

    def poll(self, *_):
        if reason := next(polls, ""):
            raise Stopped(reason)

    with pytest.MonkeyPatch.context() as patched, Interrupt() as interrupt:
        patched.setattr(Interrupt, "poll", poll)
        quiet = Settings(log_steps=1, progress=False)
        return train_model(model, recipe, DATA, DATA, out, world=ALONE, interrupt=interrupt, settings=quiet)


@ROWS
def test_a_run_that_is_cut_ends_as_if_it_had_not_been(recipe, tmp_path):
    whole = trained(tmp_path / "whole", recipe)
    for polls in (7, 13):
        with pytest.raises(Stopped):
            trained(tmp_path / "cut", recipe, polls)
    went_on = trained(tmp_path / "cut", recipe)
    assert all(map(torch.equal, whole.state_dict().values(), went_on.state_dict().values()))
    logs = [[{**e, "seconds": 0, "waited": 0} for e in read_log(tmp_path / o, "step")] for o in ("whole", "cut")]
    assert logs[0] == logs[1] and len(logs[0]) == 4
    assert {"adv_accuracy", "clean_accuracy", "loss"} <= logs[0][0].keys()
    other = trained(tmp_path / "other", replace(recipe, seed=1))
    assert not torch.equal(whole[0].weight, other[0].weight)


def test_arks_of_the_parts_of_a_batch_adds_up():
    """As do the shares of processes, whose gradients are averaged."""
    images, labels = batch()
    weights = []
    for parts in (1, 2, 4):
        model, recipe = tiny_model(), replace(ARKS, accumulation=parts)
        model[1] = nn.Identity()
        make_step(model, recipe, optimizer_for(model, recipe))(images, labels)
        weights.append(model[0].weight.detach())
    assert all(torch.allclose(weights[0], each, rtol=1e-9) for each in weights[1:])


def test_an_arks_file_says_that_it_has_no_radius_and_is_measured_at_any(tmp_path):
    """`robust-zoo train NAME --recipe arks.toml`, and what knows the file."""
    recipe = RECIPE.replace("epochs = 3", "epochs = 1") + 'objective = "arks"\narks_sigma = 0.25\n'
    shown = run_to(*command(tmp_path, tmp_path / "run", recipe=recipe)).stdout
    file = Path(shown.strip())
    assert file.name == EXPORTED and status(tmp_path / "run")["state"] == "finished"
    checkpoint, written = exported(file), (file.parent / "card.md").read_text("utf-8")
    assert checkpoint.threat == ThreatModel("l2", 0.5) and read_recipe(file) == ("arks", 0.25)
    for text in (written, card_of(checkpoint), run_to("info", file).stdout):
        assert "which has no radius: its kernel's width is an L2 distance of 0.25, and l2 eps 0.5 is what" in text
    said = "ARKS (sigma 0.25), 2 steps of 0.5 sigma^2 up log loss - distance^2 / (2 sigma^2) from the image itself"
    assert said in written and "PGD with" not in written
    plan = EvaluationPlan("pgd-2", [ThreatModel("l2", 0.1), ThreatModel("linf", 2 / 255)], n=10)
    entries = evaluate([checkpoint], "", "sample", tmp_path / "ledger", plan, device="cpu")
    assert [(e["norm"], round(e["eps"], 4), e["n"]) for e in entries] == [("l2", 0.1, 10), ("linf", 0.0078, 10)]
    cost = run_to("recipe", NAME).stdout
    assert re.search(r"arks_sigma +0\.3\n", cost) and re.search(r"regional_smoothing +0\.2\n", cost)


def read_recipe(file):
    recipe = json.loads(read_header(file)["recipe"])
    return recipe["objective"], recipe["arks_sigma"]


def test_a_regional_card_claims_nothing_of_the_papers():
    recipe = replace(REGIONAL, architecture=get(NAME).architecture)
    made = as_trained(get(NAME), recipe)
    text = card(replace(made, training="a test"), recipe)
    assert "no figure of the paper is claimed" in text and "judge it by AutoAttack" in text
    assert (
        "regional (smoothing 0.2), a random point of the region spanned by the path of PGD with 3 steps of 2/3" in text
    )
    assert as_trained(get(NAME), recipe_for(get(NAME))).note == ""


def test_what_a_file_says_in_its_note_is_text():
    made = replace(as_trained(get(NAME), REGIONAL), note="<script>x</script> [a](b)")
    assert "<script>" not in card(made, REGIONAL) and "[a](b)" not in card(made, None)


@pytest.mark.peers
def test_two_ranks_train_arks_as_one_does(apart_from_one):
    """With SyncBN in float64: the same losses but for rounding."""
    assert apart_from_one(RECIPE.replace("epochs = 3", "epochs = 2") + 'sync_bn = true\nobjective = "arks"\n') < 1e-9


@pytest.mark.peers
@pytest.mark.parametrize("objective", ["arks", "regional"])
def test_two_ranks_that_are_stopped_go_on_to_the_same_end(zygote, two_ranks, tmp_path, objective):
    recipe = RECIPE + f'objective = "{objective}"\n'
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert [zygote.wait(pid) for pid in two_ranks(whole, recipe=recipe)] == [0, 0]
    pids = two_ranks(cut, recipe=recipe)
    until(lambda: (cut / "log.jsonl").exists() and len(losses(cut)) >= 3)
    os.kill(pids[1], signal.SIGTERM)
    assert [zygote.wait(pid) for pid in pids] == [75, 75] and len(losses(cut)) < 15
    assert [zygote.wait(pid) for pid in two_ranks(cut, recipe=recipe)] == [0, 0]
    assert losses(cut) == losses(whole) and weights_sha256(cut) == weights_sha256(whole)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"objective": "arks", "label_smoothing": 0.1}, "label_smoothing: 0.0 with objective = 'arks': the search"),
        ({"objective": "arks", "random_start": True}, "random_start: False with objective = 'arks': the search"),
        ({"objective": "arks", "threat": {"eps": 0}}, "threat: with objective = 'arks' a radius above 0"),
        ({"objective": "regional", "label_smoothing": 0.1}, "label_smoothing: 0.0 with objective = 'regional'"),
        ({"arks_sigma": 0}, "arks_sigma: a number >= 0.000001"),
        ({"arks_step": -1}, "arks_step: a number >= 0.000001"),
        ({"regional_smoothing": 1}, "regional_smoothing: a number in [0, 1)"),
        ({"objective": "ark"}, "objective: one of adversarial, trades, arks, regional"),
    ],
)
def test_what_does_not_go_together_is_refused(values, said):
    with pytest.raises(UsageError) as error:
        from_dict(values, BASE)
    assert said in error.value.expected and error.value.actual and error.value.next


@pytest.mark.parametrize(("objective", "expected"), [("adversarial", 9), ("trades", 13), ("arks", 10), ("regional", 9)])
def test_passes_are_what_the_network_is_asked(objective, expected):
    """Of the attack a forward, and one back to the image; of the update a forward, and back, which counts as two."""
    recipe, passes = replace(BASE, objective=objective), 0
    model, (images, labels) = tiny_model(torch.float32), batch(torch.float32)
    step = make_step(model, recipe, optimizer_for(model, recipe))
    step(images, labels)

    def count(module, args, output):
        nonlocal passes
        passes += 3 if module is model else 1 + output.requires_grad

    for network in (model, step.folded.model):
        network.register_forward_hook(count)
    step(images, labels)
    assert passes == recipe.passes == expected


def test_help_and_docs_name_every_objective_and_its_fields():
    docs = Path(__file__).parents[2] / "docs" / "training.md"
    for text in (run_to("recipe", "--help").stdout, docs.read_text("utf-8")):
        for word in [*OBJECTIVES, "trades_beta", "arks_sigma", "arks_step", "regional_smoothing"]:
            assert word in text
