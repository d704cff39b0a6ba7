"""How far an evaluation is: counted by hand for stages whose steps and victims are known."""

import itertools

import pytest
import torch
from torch import nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.suites import FORWARD, RUN, Stage
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.evaluation import engine, fates, ledger
from robust_zoo.training.evaluation.entries import EntryKey
from robust_zoo.training.evaluation.progress import Meter, Progress, bar, show
from robust_zoo.training.evaluation.series import Series


class ByBrightness(nn.Module):
    """Class 1 for bright images."""

    def forward(self, images):
        bright = images.flatten(1).mean(1)
        return torch.stack([1 - bright, bright], 1)


def stage(name, steps, cost, victims):
    """Polls so often, and darkens the first images of a batch."""

    def run(model, images, labels, threat, *, seed, poll):
        for _ in range(steps):
            poll()
        adv_images = images.clone()
        adv_images[:victims] = 0
        return adv_images

    return Stage(name, run, {}, steps, cost)


def test_every_step_is_told_with_the_work_that_is_left(tmp_path, monkeypatch):
    """10 bright images of class 1, 2 of which are said to be of class 0; chunks of 8, batches of 4."""
    monkeypatch.setattr(fates, "CHUNK", 8)
    data = Images(torch.full((10, 3, 2, 2), 255, dtype=torch.uint8), torch.tensor([1] * 8 + [0] * 2))
    stages = (stage("a", 3, 1.0, 1), stage("b", 2, 0.5, 0))
    evaluation = engine.Evaluation(ByBrightness(), ThreatModel("linf", 1.0), stages, 4)
    told = []
    key = EntryKey("m", "0" * 64, "d", data.sha256, "fgsm", ThreatModel("linf", 1.0))
    ledger.complete(tmp_path, key, evaluation, data, report=told.append)
    first = [p for p in told if p.images <= 8 and p.done <= 8 * FORWARD + 8 * 3 + 6]
    assert [(p.stage, p.batch, p.batches, p.robust) for p in first[:2]] == [("clean", 1, 2, 4), ("clean", 2, 2, 8)]
    assert [(p.stage, p.batch, p.batches) for p in first[2:12]] == [
        *[("a", 1, 2)] * 3, *[("a", 2, 2)] * 3, *[("b", 1, 2)] * 2, *[("b", 2, 2)] * 2
    ]  # fmt: skip
    assert [p.robust for p in first[2:12]] == [8] * 3 + [7] * 3 + [6] * 4
    done = 8 * FORWARD
    assert [p.done for p in first[2:12]] == pytest.approx(
        [done + x for x in (4, 8, 12, 16, 20, 24, 26, 28, 29, 30)]
    )  # a batch of 4, then of 2: half a pass a step
    own = [20 + 8, 16 + 8, 12 + 8, 8 + 7, 4 + 7, 7, 4, 2, 1, 0]  # of this chunk, when no further image falls
    ahead = [2 * (p.done + left) / 8 for p, left in zip(first[2:12], own, strict=True)]  # two images are yet to come
    assert [p.left for p in first[2:12]] == pytest.approx([a + b for a, b in zip(own, ahead, strict=True)])
    assert (told[-1].images, told[-1].robust, told[-1].left, told[-1].stage) == (10, 6, 0.0, "b")
    assert all(a.done <= b.done for a, b in itertools.pairwise(told))


def test_a_clean_pass_over_many_conditions_never_goes_back(tmp_path, monkeypatch):
    """Of three conditions with 30 images each, in chunks of 250 and of 40: batches of 8 end where a condition does."""
    images = Images(torch.full((30, 3, 2, 2), 255, dtype=torch.uint8), torch.ones(30, dtype=torch.int64))
    series = Series("corruptions", {f"fog {severity}": lambda: images for severity in (1, 2, 3)}, 30)
    evaluation, told = engine.Evaluation(ByBrightness(), ThreatModel("l2", 0.0), (), 8), []
    key = EntryKey("m", "0" * 64, "d", images.sha256, "none", ThreatModel("l2", 0.0))
    for where, size in (("one", 250), ("some", 40)):
        told.clear()
        monkeypatch.setattr(fates, "CHUNK", size)
        ledger.complete(tmp_path / where, key, evaluation, series, report=told.append)
        assert all(p.batch <= p.batches for p in told)
        assert [p.done + p.left for p in told] == pytest.approx(
            [90 * FORWARD] * len(told)
        )  # known from the first batch on
        assert [p.done for p in told] == sorted(p.done for p in told) and told[-1].left == 0


def test_batches_at_once_add_up():
    """Of batches of 4, 4 and 2 images, two at once, the second and third are done first; another stage comes."""
    start = Progress("a", 2, 4, 20, 12, 30.0, 0.0)  # one of four was done before
    meter = Meter(stage("a", 3, 0.5, 0), start, [4, 4, 2], later=5.0)
    told = []

    def tell(change, *of):
        change(*of)
        told.append((meter.progress.batch, meter.progress.robust, meter.progress.done, meter.progress.left))

    tell(meter.steps, 0, 1)
    tell(meter.steps, 1, 2)
    tell(meter.finished, 1, 3)
    tell(meter.steps, 2, 9)  # more than it has are its own
    tell(meter.finished, 2, 0)
    tell(meter.finished, 0, 4)
    assert told == [
        (2, 12, 32.0, 4 + 6 + 3 + 12 * 5), (2, 12, 36.0, 4 + 2 + 3 + 12 * 5), (3, 9, 36.0, 4 + 3 + 9 * 5),
        (3, 9, 39.0, 4 + 9 * 5), (4, 9, 39.0, 4 + 9 * 5), (4, 5, 39.0, 5 * 5),
    ]  # fmt: skip


SETTINGS = [
    ("pgd", {"steps": 3}), ("pgd", {"steps": 2, "restarts": 2}), ("apgd", {"loss": "ce", "steps": 4}),
    ("apgd", {"loss": "dlr-targeted", "targets": 2, "steps": 3}), ("fab", {"targets": 2, "steps": 3}),
    ("square", {"queries": 20}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_an_attack_on_what_nothing_breaks_takes_all_its_steps(name, settings):
    class Sure(nn.Module):
        def forward(self, images):
            return torch.cat([images.flatten(1).mean(1, keepdim=True) + 9, images.flatten(1)[:, :11]], 1)

    images, labels = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, dtype=torch.int64)
    row, polls = RUN[name], []
    row.run(Sure(), images, labels, ThreatModel("linf", 0.1), seed=0, poll=lambda *_: polls.append(1), **settings)
    assert len(polls) == row.steps(settings)
    assert {attack for attack, _ in SETTINGS} == {*RUN}


def test_a_bar_says_stage_batch_and_accuracy(capsys):
    with bar("m autoattack") as shown:
        show(shown, Progress("apgd-t", 2, 5, 40, 18, 30.0, 90.0))
        shown.refresh()
        said = capsys.readouterr().err.rpartition("\r")[2]
        assert (shown.n, shown.total) == (30.0, 120.0)
    assert "m autoattack:  25%" in said and "apgd-t 2 of 5, 45.0 % robust so far" in said
    assert str(Progress("clean", 1, 1, 40, 18, 1, 0)) == "clean, 45.0 % right so far"
