"""PGD against models whose best perturbation is known in closed form, and its promises on random input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks import pgd


class Linear(nn.Module):
    """Two classes, logits (0, w.x + b): the loss of label 0 grows with w.x, so the best attack is known."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        score = (images * self.weight).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def best_in_box(images, weight, threat):
    """The maximiser of w.x over the ball and the box [0, 1]; for L2 by bisection on the multiplier (KKT)."""
    if threat.norm == "linf":
        return (images + threat.eps * weight.sign()).clamp(0, 1)
    low, high = torch.zeros(len(images), dtype=images.dtype), torch.full((len(images),), 1e6, dtype=images.dtype)
    for _ in range(200):
        middle = (low + high) / 2
        delta = (images + middle.view(-1, 1, 1, 1) * weight).clamp(0, 1) - images
        too_long = delta.flatten(1).norm(dim=1) > threat.eps
        low, high = torch.where(too_long, low, middle), torch.where(too_long, middle, high)
    return (images + low.view(-1, 1, 1, 1) * weight).clamp(0, 1)


@pytest.mark.parametrize("box_active", [False, True])
@pytest.mark.parametrize(
    "threat", [ThreatModel("l2", 0.5), ThreatModel("l2", 2.0), ThreatModel("linf", 8 / 255)], ids=str
)
def test_reaches_the_closed_form_optimum_on_a_linear_model(threat, box_active):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    images = torch.rand(16, 3, 8, 8, generator=generator, dtype=torch.float64)
    if not box_active:
        images = 0.3 + 0.4 * images
    if box_active:
        images = images.round()  # every pixel saturated: the gradient must pass there (no clamp in the graph)
    # Small steps: PGD projects onto the ball and then the box, which falls short of the best corner by about a step.
    adv_images = pgd(
        Linear(weight), images, torch.zeros(16, dtype=torch.long), threat, steps=100, step_size=threat.eps / 20
    )
    best = best_in_box(images, weight, threat)
    gained = ((adv_images - images) * weight).flatten(1).sum(1)
    possible = ((best - images) * weight).flatten(1).sum(1)
    assert (gained >= 0.99 * possible).all()
    assert (gained <= possible * (1 + 1e-6)).all()


@settings(max_examples=60, deadline=None)
@given(
    norm=st.sampled_from(["l2", "linf"]),
    eps=st.floats(0, 1),
    steps=st.integers(0, 4),
    random_start=st.booleans(),
    seed=st.integers(0, 2**16),
    saturated=st.booleans(),
)
def test_stays_in_the_ball_and_the_box_and_touches_nothing(norm, eps, steps, random_start, seed, saturated):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.rand(3, 3, 8, 8)
    images = images.round() if saturated else images
    kept, labels = images.clone(), torch.randint(0, 5, (3,))
    adv_images = pgd(
        model, images, labels, ThreatModel(norm, eps), steps=steps, step_size=eps / 2, random_start=random_start
    )
    delta = (adv_images - images).flatten(1)
    size = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    assert (size <= eps * (1 + 1e-6) + 1e-7).all()
    assert adv_images.isfinite().all() and adv_images.min() >= 0 and adv_images.max() <= 1
    assert torch.equal(images, kept) and not adv_images.requires_grad
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    if eps == 0 or steps == 0:
        assert torch.equal(adv_images, images)


def test_zero_gradient_moves_nothing_and_makes_no_nan():
    images = torch.rand(2, 3, 4, 4)
    for norm in ("l2", "linf"):
        adv_images = pgd(
            Linear(torch.zeros(3, 4, 4)), images, torch.zeros(2).long(), ThreatModel(norm, 0.1), steps=3, step_size=0.05
        )
        assert torch.equal(adv_images, images)


def test_mode_is_restored_when_the_model_fails():
    class Broken(nn.Module):
        def forward(self, images):
            raise ValueError("broken")

    model = Broken().train()
    with pytest.raises(ValueError, match="broken"):
        pgd(model, torch.rand(1, 3, 4, 4), torch.zeros(1).long(), ThreatModel("l2", 1.0), steps=1, step_size=0.5)
    assert model.training
