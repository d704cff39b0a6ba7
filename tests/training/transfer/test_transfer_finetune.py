"""Whole-network protocols: what is trained, what is frozen, what chooses, and losses against plain loops."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robust_zoo import create_model
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.transfer import cells
from robust_zoo.training.transfer.features import Backbone, as_files, features
from robust_zoo.training.transfer.network import choose_trainable, in_pixels, order, rate, with_new_head
from robust_zoo.training.transfer.protocols import finetune as protocol
from robust_zoo.training.transfer.protocols.finetune import Finetune, finetune
from robust_zoo.training.transfer.protocols.salman2020 import QUIRKS, Salman2020, fit, salman2020, variants
from robust_zoo.training.transfer.protocols.work import Workspace
from robust_zoo.training.transfer.splits import stratified_split
from robust_zoo.training.transfer.sweep import TransferPlan, transfer
from robust_zoo.training.transfer.task import Target, joined
from robust_zoo.views import View

ROW = get("resnet18_x0_25_cifar10_l2_eps0_5")
CPU = torch.device("cpu")


def make(per_class=8, classes=4):
    data = cifar10_sample(per_class + 6)
    data = data.subset((data.labels < classes).nonzero().flatten())
    train, test = stratified_split(data.labels, per_class, 0)
    return Target("sample", tuple("abcd"[:classes]), data.subset(train), None, data.subset(test))


TARGET = make()
QUICK = Finetune(lrs=(0.01,), weight_decays=(0.0,), epochs=2, batch_size=16)


def test_a_damaged_image_is_said_before_the_training(tmp_path, monkeypatch):
    """Also one that is looked at last: with a sound one in its place the cell would be another."""
    monkeypatch.setattr(protocol, "train_epoch", lambda *_, **__: pytest.fail("it is trained"))
    files = as_files(TARGET.test, View(32, 32))
    read = files.source.read
    cut = replace(files, source=replace(files.source, read=lambda index: read(index)[: 99 if index == 3 else None]))
    sound = replace(TARGET, train=as_files(TARGET.train, View(32, 32)))
    for target in (replace(sound, test=cut), replace(sound, val=cut)):
        with pytest.raises(VerificationFailed, match="cannot decode"):
            finetune(ROW, target, QUICK, cache=tmp_path, device=CPU)


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def state(model, part=""):
    return {name: value.clone() for name, value in model.state_dict().items() if part in name}


def test_any_dataset_as_files():
    files = as_files(TARGET.train, View(32, 32))
    ours, theirs = next(files.batches(40)), next(TARGET.train.batches(40))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_splits_are_joined_in_order(tmp_path):
    a, b = TARGET.train.subset(torch.arange(3)), TARGET.train.subset(torch.arange(3, 8))
    both = next(joined(a, b).batches(8))
    files = next(
        joined(as_files(a, View(32, 32)), as_files(TARGET.train, View(32, 32)).subset(torch.arange(3, 8))).batches(8)
    )
    for images, labels in (both, files):
        assert torch.equal(images, TARGET.train.images[:8].float() / 255) and torch.equal(
            labels, TARGET.train.labels[:8]
        )


def test_the_head_starts_as_a_function_of_the_seed():
    before = torch.random.get_rng_state()
    models = [with_new_head(ROW, 4, seed, CPU) for seed in (0, 0, 1)]
    heads = [m.get_classifier().weight for m in models]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert torch.equal(before, torch.random.get_rng_state())
    source = create_model(ROW.name)
    assert torch.equal(models[0].conv1.weight, source.conv1.weight)


@pytest.mark.parametrize("part, trained", [("head", {"fc"}), ("last-1", {"fc", "layer4"}), ("all", None)])
def test_what_is_trained(part, trained):
    model = with_new_head(ROW, 4, 0, CPU)
    chosen = choose_trainable(model, part)
    names = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    everything = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == (trained or everything) and len(chosen) == sum(p.requires_grad for p in model.parameters())
    for wrong in ("last-0", "last-99", "tail"):
        with pytest.raises(UsageError, match="cannot train"):
            choose_trainable(model, wrong)


def test_every_architecture_has_a_head_to_train():
    """Upstream's rule refuses all but ResNets, and trains most of a DenseNet."""
    for name in ("densenet_l2_eps3", "mnasnet_l2_eps3", "mobilenet_l2_eps3", "shufflenet_l2_eps3", "vgg16_bn_l2_eps3"):
        row = get(name)
        from robust_zoo.architectures.build import build

        model = build(row.network.timm, num_classes=5)
        chosen = choose_trainable(model, "head")
        assert {tuple(p.shape) for p in chosen} == {(5, model.get_classifier().in_features), (5,)}


def test_finetune_is_a_plain_loop(tmp_path):
    """The same losses as ten lines of torch."""
    settings = replace(QUICK, weight_decays=(1e-3,), augment=False, label_smoothing=0.1, warmup=0.25)
    outcome, model = finetune(ROW, TARGET, settings, cache=tmp_path, seed=1, device=CPU)
    plain = with_new_head(ROW, 4, 1, CPU)
    network = in_pixels(plain, ROW)
    solver = torch.optim.SGD(plain.parameters(), lr=0, momentum=0.9, weight_decay=1e-3)
    images, labels, losses, step = TARGET.train.images.float() / 255, TARGET.train.labels, [], 0
    for epoch in range(2):
        network.train()
        total = 0.0
        for index in order(32, 16, 1, epoch):
            solver.param_groups[0]["lr"] = rate(0.01, step / 4, 0.25)
            loss = F.cross_entropy(network(images[index]), labels[index], label_smoothing=0.1)
            solver.zero_grad()
            loss.backward()
            solver.step()
            total, step = total + loss.item() * len(index), step + 1
        losses.append(total / 32)
    assert outcome.details["losses"] == pytest.approx(losses, abs=1e-5)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_rates():
    assert [rate(1.0, d, 0.2) for d in (0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_the_grid_is_chosen_on_validation_images(tmp_path):
    settings = replace(QUICK, lrs=(1e-9, 0.02), epochs=6, batch_size=8)
    outcome, model = finetune(ROW, TARGET, settings, cache=tmp_path, device=CPU)
    assert outcome.chosen["lr"] == 0.02 and len(outcome.tried) == 2 and outcome.accuracy > 50
    assert outcome.details["n_train"] == 32
    lies = replace(TARGET, test=Images(TARGET.test.images, TARGET.test.labels.flip(0)))
    blind, same = finetune(ROW, lies, settings, cache=tmp_path, device=CPU)
    assert blind.tried == outcome.tried and blind.accuracy < outcome.accuracy
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


@pytest.mark.parametrize("settings", [replace(QUICK, part="head"), replace(QUICK, bn="frozen")], ids=["head", "frozen"])
def test_what_is_frozen_stays(settings, tmp_path):
    source = create_model(ROW.name)
    _, model = finetune(ROW, TARGET, settings, cache=tmp_path, device=CPU)
    before, after = state(source, "running"), state(model, "running")
    assert all(torch.equal(before[name], after[name]) for name in before)
    moved = not torch.equal(source.conv1.weight, model.conv1.weight)
    assert moved == (settings.part != "head")
    _, trained = finetune(ROW, TARGET, QUICK, cache=tmp_path, device=CPU)
    assert any(not torch.equal(value, before[name]) for name, value in state(trained, "running").items())


def test_learning_without_forgetting(tmp_path):
    """As the released recipe written out: a head first, then everything, near the source."""
    settings = replace(QUICK, augment=False, bn="frozen", epochs=4, lwf=0.05)
    outcome, model = finetune(ROW, TARGET, settings, cache=tmp_path, device=CPU)
    source = torch.tensor(features(Backbone(ROW), TARGET.train, tmp_path))
    plain = with_new_head(ROW, 4, 0, CPU).eval()
    parameters = list(plain.parameters())
    solver = torch.optim.SGD(parameters, lr=0, momentum=0.9)
    losses, step = [], 0
    for epoch in range(4):
        total = 0.0
        for index in order(32, 16, 0, epoch):
            solver.param_groups[0]["lr"] = rate(0.01, step / 8, 0.1)
            z = plain.forward_features(_normal(TARGET.train)[index]).mean((2, 3))
            distance = (z - source[index]).abs().sum(1).mean()
            loss = F.cross_entropy(plain.fc(z), TARGET.train.labels[index]) + 0.05 * distance
            solver.zero_grad()
            loss.backward()
            for name, parameter in plain.named_parameters():
                if step < 4 and not name.startswith("fc."):
                    parameter.grad = None
            solver.step()
            total, step = total + loss.item() * 16, step + 1
        losses.append(total / 32)
    assert outcome.details["losses"] == pytest.approx(losses, abs=1e-3)
    assert outcome.details["losses"][3] > 0.05 * 0.1  # the features did move
    for ours, theirs in zip(model.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)
    with pytest.raises(UsageError, match="very images"):
        Finetune(lwf=0.1)


def _normal(data):
    p = ROW.preprocessing
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (p.mean, p.std))
    return (data.images.float() / 255 - mean) / std


def test_the_first_half_of_lwf_trains_the_head_alone(tmp_path):
    """No feature has moved after it: the loss is the cross-entropy of a head on fixed features."""
    settings = replace(QUICK, augment=False, bn="frozen", epochs=2, lwf=100.0, warmup=0.0)
    outcome, _ = finetune(ROW, TARGET, settings, cache=tmp_path, device=CPU)
    plain, _ = finetune(ROW, TARGET, replace(settings, lwf=0.0, part="head"), cache=tmp_path, device=CPU)
    assert outcome.details["losses"][0] == pytest.approx(plain.details["losses"][0], rel=1e-3)


SALMAN = Salman2020(epochs=3, step=2, batch_size=16)


def test_fixed_features_are_not_fixed(tmp_path):
    """BatchNorm's statistics move though no weight of the backbone does; with the quirk off they stay."""
    source = create_model(ROW.name)
    for settings in (SALMAN, replace(SALMAN, moving_bn=False)):
        outcome, model = salman2020(ROW, TARGET, settings, device=CPU)
        assert torch.equal(model.conv1.weight, source.conv1.weight)
        still = torch.equal(model.bn1.running_mean, source.bn1.running_mean)
        assert still == (not settings.moving_bn)
        assert len(outcome.details["losses"]) == 3 and len(outcome.details["quirks"]) == len(QUIRKS)
    _, full = salman2020(ROW, TARGET, replace(SALMAN, mode="full-network"), device=CPU)
    assert not torch.equal(full.conv1.weight, source.conv1.weight)


def test_the_test_images_choose_the_epoch():
    """Upstream's figure is the best of all epochs on the test images: above the last, and moved by their labels."""
    outcome, _ = salman2020(ROW, TARGET, SALMAN, device=CPU)
    accuracies = outcome.details["accuracies"]
    assert outcome.accuracy == max(accuracies) and outcome.details["last_epoch_accuracy"] == accuracies[-1]
    assert outcome.chosen["epoch"] == accuracies.index(max(accuracies))
    honest = replace(SALMAN, choose_on_test=False)
    clean, _ = salman2020(ROW, TARGET, honest, device=CPU)
    lies = replace(TARGET, test=Images(TARGET.test.images, TARGET.test.labels.flip(0)))
    blind, _ = salman2020(ROW, lies, honest, device=CPU)
    assert clean.details["losses"] == blind.details["losses"] and clean.chosen == blind.chosen
    assert clean.n == len(TARGET.test)


def test_dtd_has_ten_outputs_too_many():
    for settings, outputs in ((SALMAN, 57), (replace(SALMAN, extra_outputs=False), 4)):
        _, model = salman2020(ROW, replace(TARGET, name="dtd"), replace(settings, epochs=1), device=CPU)
        assert model.get_classifier().out_features == outputs


def test_inputs_are_normalised_as_the_target_was(monkeypatch):
    seen = {}

    def spy(network, *arguments):
        seen[name, switch] = (network.mean.flatten().tolist(), network.std.flatten().tolist())
        return fit(network, *arguments)

    monkeypatch.setattr("robust_zoo.training.transfer.protocols.salman2020.fit", spy)
    for name in ("cifar10", "pets"):
        for switch in (True, False):
            settings = replace(SALMAN, epochs=1, target_statistics=switch)
            salman2020(ROW, replace(TARGET, name=name), settings, device=CPU)
    p = ROW.preprocessing
    assert seen["pets", True] == ([0.0] * 3, [1.0] * 3)
    assert seen["cifar10", True][0] == pytest.approx([0.4914, 0.4822, 0.4465])
    assert seen["pets", False][0] == pytest.approx(list(p.mean)) and seen["pets", False][1] == pytest.approx(
        list(p.std)
    )


@pytest.mark.parametrize("mode, dataset, expected", [
    ("fixed-feature", "pets", ["target_statistics", "moving_bn", "choose_on_test"]),
    ("full-network", "pets", ["target_statistics", "choose_on_test"]),
    ("full-network", "dtd", ["target_statistics", "choose_on_test", "extra_outputs"]),
])  # fmt: skip
def test_each_quirk_that_matters_is_left_out_once(mode, dataset, expected):
    whole = replace(SALMAN, mode=mode)
    first, *others = variants(whole, [dataset])
    assert first == whole and others == [replace(whole, **{quirk: False}) for quirk in expected]


def test_wrong_settings_are_refused():
    with pytest.raises(UsageError, match="mode: one of fixed-feature, full-network"):
        Salman2020(mode="fixed")
    with pytest.raises(UsageError, match="optimizer: one of sgd, adamw"):
        Finetune(optimizer="adam")
    with pytest.raises(UsageError, match="the very images that are trained on"):
        Finetune(lwf=0.1)


def test_a_rate_too_high_is_said(tmp_path):
    with pytest.raises(UsageError, match="not finite"):
        finetune(ROW, TARGET, replace(QUICK, lrs=(1e30,), epochs=5), cache=tmp_path, device=CPU)


def few():
    return TARGET


def test_protocols_as_cells(tmp_path):
    """Each protocol through the sweep, robust accuracy included; read back as they were written."""
    workspace = Workspace(tmp_path / "cells", tmp_path / "cache", progress=False)
    threat = ThreatModel("l2", 0.25)
    plans = [
        TransferPlan("finetune", replace(QUICK, part="head"), threat),
        TransferPlan("salman2020", replace(SALMAN, target_statistics=False), threat),
        TransferPlan("salman2020", SALMAN),
    ]
    for plan in plans:
        (entry,) = transfer([ROW.name], (few,), plan, workspace)
        (again,) = transfer([ROW.name], (few,), plan, workspace)
        assert entry == again and ("robust" in entry["details"]) == (plan.threat is not None)
    assert len(cells.read_cells(tmp_path / "cells")) == 3
    with pytest.raises(UsageError, match="behind the source's statistics"):
        transfer([ROW.name], (few,), TransferPlan("salman2020", SALMAN, threat), workspace)
