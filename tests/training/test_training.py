"""The loop, its data, its schedules and what it writes, on tiny real runs."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from robust_zoo.counts import Count
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.accuracy import pgd_accuracy
from robust_zoo.training.data import cifar10_sample
from robust_zoo.training.data.dataset import Images, epoch_order, load_npz, seed_of, spread
from robust_zoo.training.distributed import ALONE
from robust_zoo.training.log import read_log
from robust_zoo.training.loop import Settings, train_model
from robust_zoo.training.recipes import recipe_for
from robust_zoo.training.signals import Interrupt

SHORT = recipe_for(get("resnet18_x0_25_cifar10_l2_eps0_5"))
TINY = replace(SHORT, architecture="tiny", epochs=4, batch_size=40, lr=0.05)
DATA = cifar10_sample.cifar10_sample(20)


def tiny_model():
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*first, nn.Conv2d(8, 8, 3, stride=2), nn.Flatten(), nn.Linear(392, 10))


def trained(out, recipe=TINY, data=DATA, model=None):
    out.mkdir(exist_ok=True)
    with Interrupt() as interrupt:
        quiet = Settings(log_steps=1, progress=False)
        model = model or tiny_model()
        return train_model(model, recipe, data, DATA, out, world=ALONE, interrupt=interrupt, settings=quiet)


def test_training_learns(tmp_path):
    before = pgd_accuracy(tiny_model(), DATA, TINY.threat, steps=0).correct
    model = trained(tmp_path, replace(TINY, epochs=15))
    after = pgd_accuracy(model, DATA, TINY.threat, steps=0).correct
    assert after > before + 30
    assert pgd_accuracy(model, DATA, TINY.threat, steps=5).correct <= after
    steps, epochs = read_log(tmp_path, "step"), read_log(tmp_path, "epoch")
    assert [e["step"] for e in steps] == list(range(1, 76)) and [e["epoch"] for e in epochs] == list(range(1, 16))
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert epochs[-1]["clean"] == 100 * after / len(DATA)  # held-out images were the training images here
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["step"], status["epoch"], status["alarm"]) == ("trained", 75, 15, "")


def test_standard_training_logs_clean_accuracy_and_makes_no_attack(tmp_path):
    trained(tmp_path, replace(TINY, threat=ThreatModel("l2", 0.0), epochs=1))
    (entry, *_) = read_log(tmp_path, "step")
    assert "clean_accuracy" in entry and "adv_accuracy" not in entry
    (epoch,) = read_log(tmp_path, "epoch")
    assert epoch["clean"] == epoch["pgd10"]


def test_a_moving_average_is_what_comes_back(tmp_path):
    averaged = trained(tmp_path / "a", replace(TINY, ema_decay=0.9))
    plain = trained(tmp_path / "b")
    assert not torch.equal(averaged[0].weight, plain[0].weight)
    # the same run again, its weights averaged by hand
    model, weights = tiny_model(), []
    remember = register_optimizer_step_post_hook(lambda *_: weights.append(model[0].weight.detach().clone()))
    trained(tmp_path / "c", model=model)
    remember.remove()
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.9 * expected + 0.1 * weight
    assert len(weights) == 20 and torch.allclose(averaged[0].weight, expected, atol=1e-6)


def test_another_recipe_does_not_continue_a_run(tmp_path):
    trained(tmp_path, replace(TINY, epochs=1))
    with pytest.raises(UsageError, match="another recipe") as error:
        trained(tmp_path, replace(TINY, epochs=2))
    assert error.value.expected == "recipe: {'epochs': 1}, as the run was begun with"


def test_nan_stops_names_the_layer_and_keeps_the_last_checkpoint(tmp_path):
    trained(tmp_path, replace(TINY, epochs=1))
    kept = {p.name: p.read_bytes() for p in tmp_path.glob("checkpoint*")}
    model = tiny_model()
    with torch.no_grad():
        model[3].bias[2] = float("nan")
    (tmp_path / "nan").mkdir()
    with pytest.raises(VerificationFailed, match="diverged") as error:
        trained(tmp_path / "nan", model=model)
    assert "the output of 3 (Conv2d)" in error.value.actual
    assert not list((tmp_path / "nan").glob("checkpoint*"))
    assert {p.name: p.read_bytes() for p in tmp_path.glob("checkpoint*")} == kept


def test_sizes_that_can_not_be_trained_are_said(tmp_path):
    with pytest.raises(UsageError, match="less than one batch"):
        trained(tmp_path, replace(TINY, batch_size=1000))


def test_augmentation_belongs_to_the_image_not_to_the_batch():
    data = Images(torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 3, 8, 8).clone(), torch.arange(12))
    data.images[:, :, :, 0] += 100

    def by_label(size, epoch, rank=0, ranks=1):
        order = epoch_order(12, size, seed=1, epoch=epoch, rank=rank, ranks=ranks)
        batches = data.train_batches(order, seed=1, epoch=epoch)
        return {int(y): x for xs, ys in batches for x, y in zip(xs, ys, strict=True)}

    one, four = by_label(1, 2), by_label(4, 2)
    assert set(one) == set(four) == set(range(12))
    assert all(torch.equal(one[k], four[k]) for k in one)
    ranks = by_label(4, 2, 0, 2) | by_label(4, 2, 1, 2)
    assert set(ranks) == set(range(12)) and all(torch.equal(one[k], ranks[k]) for k in one)
    other = by_label(4, 3)
    assert any(not torch.equal(other[k], four[k]) for k in four)


def test_ranks_share_out_each_batch_of_one_process():
    whole = epoch_order(22, 8, seed=3, epoch=1)
    parts = [epoch_order(22, 8, seed=3, epoch=1, rank=r, ranks=4) for r in range(4)]
    assert len(whole) == 2  # the short last batch is dropped
    for i, batch in enumerate(whole):
        assert torch.equal(torch.cat([p[i] for p in parts]), batch)


def test_crops_are_windows_of_the_reflected_image():
    torch.manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    padded = np.pad(image[0].numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
    windows = [padded[:, i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
    windows += [w[:, :, ::-1] for w in windows]
    data = Images(image, torch.zeros(1).long())
    for epoch in range(20):
        ((batch, _),) = data.train_batches([torch.zeros(1).long()], seed=0, epoch=epoch)
        found = (batch[0] * 255).round().numpy().astype(np.uint8)
        assert any(np.array_equal(found, w) for w in windows)


def test_seeds_differ_in_what_the_generator_looks_at():
    """torch's CPU generator drops all but the low 32 bits of a seed."""
    torch.manual_seed(5)
    first = torch.rand(1)
    assert torch.equal(first, torch.rand(1, generator=torch.Generator().manual_seed((1 << 32) + 5)))
    seeds = {seed_of(seed, epoch, index) for seed in range(3) for epoch in range(10) for index in range(100)}
    assert len(seeds) == 3000 and max(seeds) < 1 << 32


def test_spread_takes_every_class_of_a_sorted_dataset():
    assert spread(DATA, 10).labels.tolist() == list(range(10))
    assert len(spread(DATA, 10_000)) == len(DATA)


def test_schedules():
    step, cycle = recipe_for(get("resnet50_l2_eps3")), SHORT
    assert [step.learning_rate(e) for e in (0, 29.99, 30, 60, 89)] == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])
    assert [cycle.learning_rate(e) for e in (0, 1.5, 3, 7.5, 12)] == pytest.approx([0, 0.125, 0.25, 0.125, 0])
    cosine = replace(cycle, schedule="cosine")
    assert [cosine.learning_rate(e) for e in (0, 4, 6, 12)] == pytest.approx([0.25, 0.1875, 0.125, 0], abs=1e-9)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"), [(8, 10, 49.02, 94.33), (0, 20, 0, 16.11), (20, 20, 83.89, 100)]
)
def test_wilson_interval(correct, n, low, high):
    """Values computed with scipy.stats.binomtest(...).proportion_ci(method="wilson")."""
    assert Count(correct, n).interval == pytest.approx((low, high), abs=0.01)


def test_npz_errors_name_the_file_and_what_is_missing(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.arange(384).reshape(2, 8, 8, 3).astype(np.uint8), y_train=np.zeros(2, int))
    assert len(load_npz(tmp_path / "a.npz", "train")) == 2
    with pytest.raises(UsageError, match="x_test"):
        load_npz(tmp_path / "a.npz", "test")
    with pytest.raises(UsageError, match="cannot read"):
        load_npz(tmp_path / "missing.npz", "train")
    np.savez(tmp_path / "b.npz", x_train=np.zeros((2, 8, 8, 3), np.float32), y_train=np.zeros(2, int))
    with pytest.raises(UsageError, match="float32"):
        load_npz(tmp_path / "b.npz", "train")


def test_sample_is_balanced_and_verified(tmp_path, monkeypatch):
    data = cifar10_sample.cifar10_sample()
    assert data.images.shape == (1000, 3, 32, 32) and data.images.dtype == torch.uint8
    assert data.labels.bincount().tolist() == [100] * 10
    assert not math.isclose(float(data.images.float().std()), 0)
    damaged = tmp_path / "sheet.png"
    content = bytearray(cifar10_sample._SHEET.read_bytes())
    content[5000] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(cifar10_sample, "_SHEET", damaged)
    with pytest.raises(VerificationFailed, match="damaged"):
        cifar10_sample.cifar10_sample()
