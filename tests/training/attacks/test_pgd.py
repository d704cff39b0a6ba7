"""PGD against models whose best perturbation is known in closed form, and its promises on random input."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robust_zoo.errors import UsageError
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.pgd import LOSSES, pgd


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


@settings(max_examples=400, deadline=None)
@given(
    norm=st.sampled_from(["l2", "linf"]),
    eps=st.floats(0, 1),
    steps=st.integers(0, 4),
    random_start=st.booleans(),
    seed=st.integers(0, 2**16),
    saturated=st.booleans(),
    restarts=st.integers(1, 2),
    loss=st.sampled_from(["ce", "margin"]),
    targeted=st.booleans(),
    keep_best=st.booleans(),
)
def test_stays_in_the_ball_and_the_box_and_touches_nothing(
    norm, eps, steps, random_start, seed, saturated, restarts, loss, targeted, keep_best
):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).train()
    model[1].eval()  # a frozen BatchNorm in a model that trains
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.rand(3, 3, 8, 8)
    images = images.round() if saturated else images
    kept, labels = images.clone(), torch.randint(0, 5, (3,))
    adv_images = pgd(
        model, images, labels, ThreatModel(norm, eps), steps=steps, step_size=eps / 2, random_start=random_start,
        restarts=restarts if random_start else 1, loss=loss, targeted=targeted, keep_best=keep_best,
    )  # fmt: skip
    delta = (adv_images - images).flatten(1)
    size = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    assert (size <= eps * (1 + 1e-6) + 1e-7).all()
    assert adv_images.isfinite().all() and adv_images.min() >= 0 and adv_images.max() <= 1
    assert torch.equal(images, kept) and not adv_images.requires_grad
    assert [m.training for m in model] == [True, False, True, True, True] and model.training
    assert all(p.grad is None for p in model.parameters())
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


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, 5)).eval()


def batch(n=32):
    torch.manual_seed(1)
    return torch.rand(n, 3, 8, 8), torch.randint(0, 5, (n,))


def losses(model, images, labels, loss="ce"):
    with torch.no_grad():
        return LOSSES[loss](model(images), labels)


THREATS = [ThreatModel("l2", 1.0), ThreatModel("linf", 0.1)]


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_keep_best_is_the_best_iterate(threat):
    """Steps so large that the last iterate is often not the best; iterates are watched by hand."""
    model, (images, labels) = small_model(), batch()
    with torch.no_grad():
        model[0].weight.mul_(20)  # far into tanh's bends
    seen = []
    arguments = {"steps": 6, "step_size": 3 * threat.eps}
    best = pgd(model, images, labels, threat, keep_best=True, watch=lambda _, z: seen.append(z), **arguments)
    last = pgd(model, images, labels, threat, **arguments)
    every = [F.cross_entropy(z, labels, reduction="none") for z in seen] + [losses(model, last, labels)]
    assert len(seen) == 6
    assert torch.allclose(losses(model, best, labels), torch.stack(every).amax(0), atol=1e-5)
    assert (losses(model, best, labels) > losses(model, last, labels) + 1e-3).any()


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_restarts_keep_the_best_of_single_runs(threat):
    model, (images, labels) = small_model(), batch()
    arguments = {"steps": 1, "step_size": threat.eps / 8, "random_start": True}
    torch.manual_seed(5)
    singles = [pgd(model, images, labels, threat, **arguments) for _ in range(4)]
    torch.manual_seed(5)
    together = pgd(model, images, labels, threat, restarts=4, **arguments)
    best = torch.stack([losses(model, adv, labels) for adv in singles]).amax(0)
    assert torch.allclose(losses(model, together, labels), best, atol=1e-6)
    with pytest.raises(UsageError, match="all be the same"):
        pgd(model, images, labels, threat, steps=1, step_size=0.1, restarts=2)


def test_targeted_attacks_reach_their_target():
    model, (images, _) = small_model(), batch()
    targets = (model(images).argmax(1) + 1) % 5
    for loss in ("ce", "margin"):
        adv_images = pgd(
            model, images, targets, ThreatModel("linf", 0.3), steps=20, step_size=0.05, targeted=True, loss=loss
        )
        assert (model(adv_images).argmax(1) == targets).all()


def test_margin_is_positive_exactly_when_fooled():
    model, (images, labels) = small_model(), batch(200)
    fooled = model(images).argmax(1) != labels
    assert torch.equal(losses(model, images, labels, "margin") > 0, fooled) and 0 < fooled.sum() < 200


def test_start_is_where_it_begins_and_is_brought_into_the_ball():
    model, (images, labels) = small_model(), batch()
    threat = ThreatModel("linf", 0.1)
    start = (images + 0.05).clamp(0, 1)
    seen = []
    pgd(model, images, labels, threat, steps=1, step_size=0.0, start=start, watch=lambda _, z: seen.append(z))
    assert torch.allclose(seen[0], model(start), atol=1e-6)
    far = pgd(model, images, labels, threat, steps=1, step_size=0.0, start=torch.ones_like(images))
    assert torch.allclose(far, (images + 0.1).clamp(0, 1))


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_random_starts_are_uniform_in_the_ball(threat):
    """In two dimensions half the points of the L2 disc lie beyond 1/sqrt(2) of its radius; of the square beyond 3/4
    of its half side lie 7/16."""
    images = torch.full((20_000, 2, 1, 1), 0.5)

    class Flat(nn.Module):
        def forward(self, x):
            return x.flatten(1) * 0

    small = ThreatModel(threat.norm, 0.1)
    points = pgd(Flat(), images, torch.zeros(20_000).long(), small, steps=1, step_size=0.0, random_start=True) - 0.5
    flat = points.flatten(1) / 0.1
    size, beyond, share = (
        (flat.norm(dim=1), 0.5**0.5, 0.5) if threat.norm == "l2" else (flat.abs().amax(1), 0.75, 7 / 16)
    )
    assert size.max() <= 1 + 1e-5 and abs((size > beyond).float().mean() - share) < 0.015
    assert flat.mean(0).abs().max() < 0.02


def test_what_comes_from_the_watch_ends_the_attack():
    class Enough(Exception):
        pass

    def watch(step, logits):
        assert logits.shape == (32, 5) and not logits.requires_grad
        if step == 2:
            raise Enough

    model, (images, labels) = small_model().train(), batch()
    with pytest.raises(Enough):
        pgd(model, images, labels, ThreatModel("l2", 1.0), steps=5, step_size=0.1, watch=watch)
    assert model.training


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), "torch.uint8"),
        (torch.full((2, 3, 8, 8), 255.0), torch.zeros(2).long(), "[255, 255]"),
        (torch.full((2, 3, 8, 8), -2.1), torch.zeros(2).long(), "[-2.1, -2.1]"),
        (torch.full((2, 3, 8, 8), float("nan")), torch.zeros(2).long(), "[nan, nan]"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(3).long(), "(3,)"),
    ],
)
def test_images_that_are_not_images_are_refused(images, labels, said):
    with pytest.raises(UsageError) as error:
        pgd(small_model(), images, labels, ThreatModel("l2", 1.0), steps=1, step_size=0.1)
    assert said in error.value.actual


def test_unknown_losses_are_refused():
    with pytest.raises(UsageError, match="unknown loss 'dlr'"):
        pgd(small_model(), *batch(), ThreatModel("l2", 1.0), steps=1, step_size=0.1, loss="dlr")
