"""APGD, FAB and Square against known answers, and the promises every attack of a suite makes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robust_zoo import create_model, pixel_model
from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import list_models
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.apgd import apgd
from robust_zoo.training.attacks.fab import fab_targeted, project
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.attacks.pgd import pgd, pgd_until_wrong
from robust_zoo.training.attacks.settings import in_words
from robust_zoo.training.attacks.settings import settings as settings_of
from robust_zoo.training.attacks.square import square
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.cifar10_sample import cifar10_sample

THREATS = [ThreatModel("l2", 0.5), ThreatModel("linf", 4 / 255)]
QUICK = {
    "apgd-ce": lambda *a, **k: apgd(*a, loss="ce", steps=10, **k),
    "apgd-t": lambda *a, **k: apgd(*a, loss="dlr-targeted", targets=2, steps=8, **k),
    "fab-t": lambda *a, seed=0, **k: fab_targeted(*a, targets=2, steps=8, **k),
    "square": lambda *a, **k: square(*a, queries=100, **k),
    "pgd": lambda *a, **k: pgd_until_wrong(*a, steps=8, **k),
    "pgd, restarts": lambda *a, **k: pgd_until_wrong(*a, steps=4, restarts=2, **k),
}


class Linear(nn.Module):
    """Logits 0, w.x + b, -5, -6: classes 0 and 1 meet at a hyperplane."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, images):
        score = (images * self.weight).flatten(1).sum(1) + self.bias
        zero = torch.zeros_like(score)
        return torch.stack([zero, score, zero - 5, zero - 6], dim=1)


@pytest.fixture(scope="module")
def small():
    """A network of two layers, trained for a second on noisy images, and images of which it gets most right.

    It is fifty times as fast as the smallest bundled one, and every attack of QUICK breaks some of them.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 5, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 10))
    data, solver = cifar10_sample(20), torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(30):
        solver.zero_grad()
        noisy = data.images / 255 + 0.1 * torch.randn(data.images.shape)
        F.cross_entropy(model(noisy), data.labels).backward()
        solver.step()
    solver.zero_grad()
    data = cifar10_sample(40)
    return model.eval(), data.images[::20] / 255, data.labels[::20]  # half of them it has not seen


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("name", QUICK)
def test_every_attack_keeps_its_promises(small, threat, name):
    model, images, labels = small
    kept = images.clone()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(7)
    adv_images = QUICK[name](model, images, labels, threat, seed=3)
    again = QUICK[name](model, images, labels, threat, seed=3)
    assert torch.equal(adv_images, again)  # whatever the global generator's state
    assert (rules(threat.norm).size(adv_images - images) <= threat.eps * (1 + 1e-6) + 1e-7).all()
    assert adv_images.min() >= 0 and adv_images.max() <= 1 and adv_images.isfinite().all()
    moved = (adv_images != images).flatten(1).any(1)
    wrong = model(adv_images).argmax(1) != labels
    assert moved.any() and wrong[moved].all()  # what is not adversarial is the image itself
    assert torch.equal(images, kept) and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t"])
def test_leaving_early_changes_no_flag(small, threat, name):
    model, images, labels = small
    flags = [model(QUICK[name](model, images, labels, threat, stop=stop)).argmax(1) == labels for stop in (True, False)]
    assert torch.equal(*flags) and 0 < flags[0].sum() < len(labels)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("attack", ["apgd-ce", "fab-t"])
def test_images_on_either_side_of_a_known_boundary(norm, attack):
    """On a linear model the distance to the boundary is known: just above it an image falls, just below it does not."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    images = 0.4 + 0.2 * torch.rand(4, 3, 8, 8, generator=generator, dtype=torch.float64)  # the box stays away
    score = (images * weight).flatten(1).sum(1)
    bias = -score.max() - 0.2
    distance = -(score + bias) / (weight.norm() if norm == "l2" else weight.abs().sum())
    labels = torch.zeros(4, dtype=torch.long)
    for i in range(4):
        for factor, falls in ((1.02, True), (0.98, False)):
            threat = ThreatModel(norm, distance[i].item() * factor)
            run = {
                "apgd-ce": lambda threat=threat, i=i: apgd(
                    Linear(weight, bias), images[i : i + 1], labels[:1], threat, steps=100
                ),
                "fab-t": lambda threat=threat, i=i: fab_targeted(
                    Linear(weight, bias), images[i : i + 1], labels[:1], threat, steps=30
                ),
            }[attack]
            assert bool(Linear(weight, bias)(run()).argmax(1) != 0) == falls


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**20), norm=st.sampled_from(["l2", "linf"]), saturated=st.booleans(), sparse=st.booleans())
def test_projection_is_the_smallest_step_onto_the_hyperplane(seed, norm, saturated, sparse):
    """Against bisection on the multiplier: on the plane and in the box, or as near as the box lets."""
    torch.manual_seed(seed)
    points = torch.rand(12, 30, dtype=torch.float64)
    points = points.round() if saturated else points
    w = torch.randn(12, 30, dtype=torch.float64)
    w = w * (torch.rand(12, 30) < 0.3) if sparse else w
    b = (w * torch.rand(12, 30, dtype=torch.float64)).sum(1) * 1.5  # some planes miss the box
    step = project(points, w, b, rules(norm))
    landed = points + step
    assert landed.min() >= -1e-12 and landed.max() <= 1 + 1e-12
    gap = (w * points).sum(1) - b
    direction = -w * gap.sign()[:, None]
    corner = torch.where(direction > 0, 1.0, torch.where(direction < 0, 0.0, points))
    reachable = ((w * corner).sum(1) - b) * gap <= 0
    low, high = torch.zeros(12, 1, dtype=torch.float64), torch.full((12, 1), 1e9, dtype=torch.float64)
    speed = direction if norm == "l2" else direction.sign()
    for _ in range(80):  # from 1e9 to 1e-15
        middle = (low + high) / 2
        over = (((points + middle * speed).clamp(0, 1) * w).sum(1) - b) * gap <= 0
        low, high = torch.where(over[:, None], low, middle), torch.where(over[:, None], middle, high)
    expected = torch.where(reachable[:, None], (points + high * speed).clamp(0, 1), corner)
    assert torch.allclose(landed, expected, atol=1e-7)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_square_finds_what_is_easy_and_counts_its_queries(norm):
    """A model that sees the mean of the image alone; a few squares of one colour change it enough."""

    class Mean(nn.Module):
        asked = 0

        def forward(self, images):
            Mean.asked += 1
            mean = images.mean((1, 2, 3)) - 0.501
            return torch.stack([-mean, mean], 1)

    images, labels = torch.full((4, 3, 20, 20), 0.5), torch.zeros(4, dtype=torch.long)
    threat = ThreatModel(norm, 0.05 if norm == "linf" else 1.5)
    adv_images = square(Mean(), images, labels, threat, queries=200)
    assert (Mean()(adv_images).argmax(1) == 1).all()
    Mean.asked = 0
    weak = ThreatModel(norm, 1e-4)
    assert torch.equal(square(Mean(), images, labels, weak, queries=50), images)
    assert Mean.asked == 53  # the images, the start, 50 squares, the check of what was found


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_pgd_until_wrong_breaks_what_pgd_breaks(small, threat):
    model, images, labels = small
    whole = pgd(model, images, labels, threat, steps=10, step_size=threat.eps / 4)
    early = pgd_until_wrong(model, images, labels, threat, steps=10)
    last, first = (model(adv).argmax(1) != labels for adv in (whole, early))
    assert (first | ~last).all() and 0 < last.sum() < len(labels)


def test_strength_rises_along_the_order_the_field_expects(small):
    """clean >= FGSM >= PGD-20 >= APGD-CE, image by image counted; of bundled models the ledger's tests look."""
    model, images, labels = small
    for threat in THREATS:
        counts = []
        for name in ("none", "fgsm", "pgd-20"):
            found = images
            for stage in suite(name):
                found = stage(model, images, labels, threat, seed=0, poll=None)
            counts.append(int((model(found).argmax(1) == labels).sum()))
        found = apgd(model, images, labels, threat, steps=50)
        counts.append(int((model(found).argmax(1) == labels).sum()))
        assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


@pytest.mark.parametrize("name", list_models(bundled=True))
@pytest.mark.parametrize("attack", ["pgd-20", "apgd-ce"])
def test_nothing_withstands_an_unbounded_attack(name, attack):
    """At Linf eps 1 every image is in reach: whatever accuracy is left is the attack's failure."""
    model = pixel_model(create_model(name)).eval()
    data = cifar10_sample(3)
    images, labels = data.images.float() / 255, data.labels
    left = torch.arange(len(labels))
    for stage in suite(attack):
        found = stage(model, images, labels, ThreatModel("linf", 1.0), seed=0, poll=None)
        left = left[model(found[left]).argmax(1) == labels[left]]
    assert not len(left)


def test_names_of_attacks():
    assert [s.name for s in suite("autoattack")] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert settings_of("autoattack") == [
        {"attack": "apgd-ce", "loss": "ce", "steps": 100},
        {"attack": "apgd-t", "loss": "dlr-targeted", "targets": 9, "steps": 100},
        {"attack": "fab-t", "targets": 9, "steps": 100},
        {"attack": "square", "queries": 5000},
    ]  # the standard version, Croce & Hein 2020, section 5
    assert settings_of("pgd-50x10") == [{"attack": "pgd-50x10", "steps": 50, "restarts": 10}]
    assert in_words("square") == "square (queries 5000)"
    for wrong in ("autoatack", "pgd-0", "pgd", "pgd-20x0", ""):
        with pytest.raises(UsageError, match="unknown attack"):
            suite(wrong)
