"""The loop, its data and its schedule, on tiny real runs."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry import get, list_models
from robust_zoo.threat import ThreatModel
from robust_zoo.training import samples
from robust_zoo.training.data import Images, load_npz, train_batches
from robust_zoo.training.evaluate import Accuracy, pgd_accuracy
from robust_zoo.training.loop import train
from robust_zoo.training.recipes import BASES, recipe_for
from robust_zoo.training.schedule import learning_rate

TINY = replace(
    BASES["cifar10_short"], architecture="tiny", threat=ThreatModel("l2", 0.5), epochs=4, batch_size=40, lr=0.05
)


def tiny_model():
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*first, nn.Conv2d(8, 8, 3, stride=2), nn.Flatten(), nn.Linear(392, 10))


def final_weights(out, recipe=TINY, **kwargs):
    model = tiny_model()
    train(model, recipe, samples.cifar10_sample(20), out, **kwargs)
    return model.state_dict()


def test_training_learns(tmp_path):
    data = samples.cifar10_sample(20)
    model = tiny_model()
    before = pgd_accuracy(model, data, TINY.threat, steps=0).correct
    train(model, replace(TINY, epochs=15), data, tmp_path)
    after = pgd_accuracy(model, data, TINY.threat, steps=0).correct
    attacked = pgd_accuracy(model, data, TINY.threat, steps=5).correct
    assert after > before + 30
    assert attacked <= after
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == list(range(1, 16))
    assert log[-1]["loss"] < log[0]["loss"]


def test_a_cut_run_ends_as_the_uninterrupted_one(tmp_path, monkeypatch):
    whole = final_weights(tmp_path / "whole")
    import robust_zoo.training.loop as loop

    real, calls = loop._step, 0

    def cut(*args):
        nonlocal calls
        calls += 1
        if calls == 13:  # in the third of four epochs of five steps
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(loop, "_step", cut)
    with pytest.raises(KeyboardInterrupt):
        final_weights(tmp_path / "cut")
    monkeypatch.setattr(loop, "_step", real)
    resumed = final_weights(tmp_path / "cut")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_another_recipe_does_not_continue_a_run(tmp_path):
    final_weights(tmp_path, replace(TINY, epochs=1))
    with pytest.raises(UsageError, match="another recipe"):
        final_weights(tmp_path, replace(TINY, epochs=2))


def test_nan_stops_and_keeps_the_last_epoch(tmp_path):
    final_weights(tmp_path, replace(TINY, epochs=1))
    kept = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(VerificationFailed, match="loss is"):
        train(nn.Sequential(tiny_model(), NaN()), TINY, samples.cifar10_sample(20), tmp_path / "nan")
    assert not (tmp_path / "nan" / "state.pt").exists()
    assert (tmp_path / "state.pt").read_bytes() == kept


class NaN(nn.Module):
    def forward(self, logits):
        return logits * float("nan")


def test_augmentation_belongs_to_the_image_not_to_the_batch():
    data = Images(torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 3, 8, 8).clone(), torch.arange(12))
    data.images[:, :, :, 0] += 100

    def by_label(size):
        pairs = [
            (int(label), image)
            for batch, labels in train_batches(data, size, seed=1, epoch=2)
            for image, label in zip(batch, labels, strict=True)
        ]
        return dict(pairs)

    one, four = by_label(1), by_label(4)
    assert set(one) == set(four) == set(range(12))
    assert all(torch.equal(one[k], four[k]) for k in one)
    other = dict((int(y), x) for b, ys in train_batches(data, 4, seed=1, epoch=3) for x, y in zip(b, ys, strict=True))
    assert any(not torch.equal(other[k], four[k]) for k in four)


def test_crops_are_windows_of_the_reflected_image():
    torch.manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    padded = np.pad(image[0].numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
    windows = [padded[:, i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
    windows += [w[:, :, ::-1] for w in windows]
    for epoch in range(20):
        ((batch, _),) = train_batches(Images(image, torch.zeros(1).long()), 1, seed=0, epoch=epoch)
        found = (batch[0] * 255).round().numpy().astype(np.uint8)
        assert any(np.array_equal(found, w) for w in windows)


def test_schedules():
    step, cycle = BASES["salman2020"], BASES["cifar10_short"]
    assert [learning_rate(step, e) for e in (0, 29.99, 30, 60, 89)] == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])
    assert [learning_rate(cycle, e) for e in (0, 1.5, 3, 7.5, 12)] == pytest.approx([0, 0.125, 0.25, 0.125, 0])


def test_every_row_has_a_recipe_that_agrees_with_it():
    for name in list_models():
        row, recipe = get(name), recipe_for(get(name))
        assert (recipe.architecture, recipe.dataset, recipe.threat) == (row.architecture, row.dataset, row.threat)
        assert (recipe.attack_steps, recipe.attack_step_size) == (3, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"), [(8, 10, 49.02, 94.33), (0, 20, 0, 16.11), (20, 20, 83.89, 100)]
)
def test_wilson_interval(correct, n, low, high):
    """Values computed with scipy.stats.binomtest(...).proportion_ci(method="wilson")."""
    assert Accuracy(correct, n).interval == pytest.approx((low, high), abs=0.01)


def test_npz_errors_name_the_file_and_what_is_missing(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 8, 8, 3), np.uint8), y_train=np.zeros(2, int))
    assert len(load_npz(tmp_path / "a.npz", "train")) == 2
    with pytest.raises(UsageError, match="x_test"):
        load_npz(tmp_path / "a.npz", "test")
    with pytest.raises(UsageError, match="cannot read"):
        load_npz(tmp_path / "missing.npz", "train")
    np.savez(tmp_path / "b.npz", x_train=np.zeros((2, 8, 8, 3), np.float32), y_train=np.zeros(2, int))
    with pytest.raises(UsageError, match="float32"):
        load_npz(tmp_path / "b.npz", "train")


def test_sample_is_balanced_and_verified(tmp_path, monkeypatch):
    data = samples.cifar10_sample()
    assert data.images.shape == (1000, 3, 32, 32) and data.images.dtype == torch.uint8
    assert data.labels.bincount().tolist() == [100] * 10
    assert not math.isclose(float(data.images.float().std()), 0)
    damaged = tmp_path / "sheet.png"
    content = bytearray(samples._SHEET.read_bytes())
    content[5000] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(samples, "_SHEET", damaged)
    with pytest.raises(VerificationFailed, match="damaged"):
        samples.cifar10_sample()
