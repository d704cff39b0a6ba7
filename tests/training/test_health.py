"""Alarms: on planted catastrophic overfitting, and on nothing else."""

import pytest
import torch
from torch import nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.steps.health import ALL_FINITE, Health, count_hits, find_nonfinite, overfitting


def history(*points, n=512):
    return [Health(clean, single, multi, n) for clean, single, multi in points]


SOUND = [
    history((40, 30, 28), (55, 38, 36), (62, 45, 41), (78, 66, 59)),
    history((35, 25, 22), (50, 31, 26), (80, 55, 45)),
    history((20, 11, 10), (25, 9, 4)),  # few points of few
    history((40, 30, 28), (42, 25, 22), (52, 36, 34)),  # a bad epoch
    history((90, 60, 50), n=32),
]
OVERFIT = [
    history((60, 45, 40), (80, 95, 2)),  # Wong et al. 2020, figure 3: within an epoch
    history((60, 45, 40), (70, 60, 30)),
    history((60, 45, 40), (85, 12, 4)),
]


@pytest.mark.parametrize("run", SOUND)
def test_no_alarm_on_sound_curves(run):
    assert all(not overfitting(run[: i + 1]) for i in range(len(run)))


@pytest.mark.parametrize("run", OVERFIT)
def test_alarm_when_several_steps_do_what_one_can_not(run):
    assert overfitting(run) and not overfitting(run[:-1])


def test_no_history_is_no_alarm():
    assert overfitting([]) == ""


class MaskedGradient(nn.Module):
    """Right on images of 0.5 +- noise; its gradient at any pixel above 0.5 points the wrong way for one big step."""

    def forward(self, images):
        mean = images.mean((1, 2, 3))
        # one class until the mean moves by 0.02, where the other wins, until 0.06, where the first is back
        hill = ((mean - 0.5) * 157).sin() - 0.5
        return torch.stack([torch.zeros_like(hill), hill * 10], 1)


def test_hits_see_a_masked_gradient():
    """One step of full size jumps over the valley that small steps fall into."""
    images, labels = torch.full((16, 3, 8, 8), 0.5), torch.zeros(16, dtype=torch.long)
    clean, single, multi = count_hits(MaskedGradient(), images, labels, ThreatModel("linf", 0.024))
    assert (clean, single, multi) == (16, 16, 0)
    assert "catastrophic overfitting" in overfitting([Health(100, 100, 0, 16)])


def test_the_first_layer_that_is_not_finite_is_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3)))
    assert find_nonfinite(model, torch.rand(2, 3, 8, 8)) == ALL_FINITE
    model[2][1].weight.grad = torch.full_like(model[2][1].weight, float("inf"))
    assert find_nonfinite(model, torch.rand(2, 3, 8, 8)) == "the gradient of 2.1.weight"
    with torch.no_grad():
        model[2][1].weight[0, 0, 0, 0] = float("nan")
    assert find_nonfinite(model, torch.rand(2, 3, 8, 8)) == "the output of 2.1 (Conv2d)"
    assert model.training
