"""Points within an attack's path: where they lie, how they are distributed."""

import pytest
import torch
from torch import nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.attacks.pgd import pgd
from robust_zoo.training.attacks.region import point_within, uniform_weights


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(216, 5)).double()


def path_of(threat, n=64, **how):
    """A saturated batch, so that the box binds too; and the points that PGD went through."""
    torch.manual_seed(1)
    images = (1.6 * torch.rand(n, 3, 8, 8, dtype=torch.float64) - 0.3).clamp(0, 1)
    labels, path = torch.randint(0, 5, (n,)), []
    how = {"steps": 3, "step_size": 0.7 * threat.eps} | how
    found = pgd(model(), images, labels, threat, visit=lambda point: path.append(point.detach()), **how)
    return images, found, path


@pytest.mark.parametrize("threat", [ThreatModel("l2", 0.5), ThreatModel("linf", 8 / 255)], ids=str)
@pytest.mark.parametrize("random_start", [False, True])
def test_points_are_in_the_ball_and_the_box(threat, random_start):
    images, found, path = path_of(threat, random_start=random_start)
    assert len(path) == 4 and torch.equal(path[-1], found) and torch.equal(path[0], images) != random_start
    point = point_within(path, uniform_weights(4, images))
    sizes = rules(threat.norm).size(point - images)
    assert sizes.max() <= threat.eps * (1 + 1e-12) and sizes.min() > 0
    assert point.min() >= 0 and point.max() <= 1


def test_each_step_of_a_path_is_visited_once_a_run():
    threat = ThreatModel("linf", 0.03)
    _, _, path = path_of(threat, random_start=True, restarts=2)
    assert len(path) == 8 and not torch.equal(path[0], path[4])
    assert not any(point.requires_grad for point in path) and path_of(threat, steps=0)[2] == []


def test_the_last_points_weight_alone_is_the_attack_bit_for_bit():
    images, found, path = path_of(ThreatModel("l2", 0.5))
    last = torch.zeros(len(images), 4, dtype=images.dtype)
    last[:, -1] = 1
    assert torch.equal(point_within(path, last), found)


def test_weights_are_uniform_over_the_simplex():
    """Dirichlet(1, 1, 1, 1): mean 1/4, variance 3/80, covariance -1/80, P(w > t) = (1 - t)^3; sums of one."""
    torch.manual_seed(2)
    n = 100_000
    w = uniform_weights(4, torch.empty(n, 1, dtype=torch.float64))
    assert w.min() >= 0 and torch.allclose(w.sum(1), torch.ones(n, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.allclose(w.mean(0), torch.full((4,), 0.25).double(), rtol=0, atol=4 * (3 / 80 / n) ** 0.5)
    expected = (torch.eye(4).double() * 4 - 1) / 80
    assert torch.allclose(w.T.cov(), expected, rtol=0, atol=5e-4)
    for t in (0.1, 0.5, 0.8):
        p = (1 - t) ** 3
        assert abs((w[:, 2] > t).double().mean() - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_the_mean_of_points_is_the_mean_of_the_path():
    images, _, path = path_of(ThreatModel("l2", 0.5), n=4)
    torch.manual_seed(3)
    n = 4_000
    points = torch.stack([point_within(path, uniform_weights(4, images)) for _ in range(n)])
    middle, error = torch.stack(path).mean(0), points.std(0) / n**0.5
    assert ((points.mean(0) - middle).abs() <= 5 * error + 1e-12).all()
    assert (points[0] - middle).abs().max() > 0.01  # one point is not
