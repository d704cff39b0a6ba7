"""ARKS' search against answers known in closed form, against WRM written out, and on trained networks."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robust_zoo.factory import create_model
from robust_zoo.pixels import pixel_model
from robust_zoo.training.attacks.supremal import log_cross_entropy, log_kernel, supremal
from robust_zoo.training.data.cifar10_sample import cifar10_sample

LABELS = torch.zeros(4, dtype=torch.long)


class Scores(nn.Module):
    """(B, 1, 1, D) -> a log-loss (B,) by a function of the flat images."""

    def __init__(self, log_loss):
        super().__init__()
        self.log_loss = log_loss

    def forward(self, images):
        self.last = images.detach()
        return self.log_loss(images.flatten(1))


def images_near(middle, d, spread=0.02):
    torch.manual_seed(0)
    return middle + spread * torch.randn(4, 1, 1, d, dtype=torch.float64)


def climbed(log_loss, images, **how):
    """How far the best point is from its image, and the last one: (4, D) twice."""
    model = Scores(log_loss)
    found = supremal(model, images, LABELS, log_loss=lambda answer, labels: answer, **how)
    return (found - images).flatten(1), (model.last - images).flatten(1)


@pytest.mark.parametrize(("steps", "a"), [(1, 0.5), (3, 0.5), (10, 0.3), (4, 1.0)])
def test_an_exponential_loss_moves_an_image_by_sigma_squared_w(steps, a):
    """l = exp(w u): every step goes the share a of what is left to sigma^2 w."""
    images, sigma = images_near(0.5, 20), 0.3
    w = torch.randn(20, dtype=torch.float64)
    delta, last = climbed(lambda u: u @ w, images, sigma=sigma, steps=steps, step_size=a)
    assert torch.allclose(delta, (1 - (1 - a) ** steps) * sigma**2 * w.expand(4, 20), rtol=0, atol=1e-15)
    assert torch.equal(delta, last)


def quadratic(largest):
    """A symmetric H of 6 x 6 with eigenvalues up to `largest`."""
    torch.manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    return basis @ torch.diag(torch.linspace(-0.5, 1, 6, dtype=torch.float64) * largest) @ basis.T


def test_a_quadratic_log_loss_has_the_fixed_point_of_its_linear_equation():
    """l = exp(u' H u / 2), sigma^2 lambda_max = 0.3: delta = (I - sigma^2 H)^-1 sigma^2 H x."""
    sigma, images = 0.1, images_near(0.3, 6)
    h = quadratic(0.3 / sigma**2)
    delta, last = climbed(lambda u: (u @ h * u).sum(1) / 2, images, sigma=sigma, steps=100)
    expected = torch.linalg.solve(torch.eye(6, dtype=torch.float64) - sigma**2 * h, sigma**2 * h @ images.flatten(1).T)
    assert torch.allclose(last, expected.T, rtol=0, atol=1e-14) and last.abs().max() > 0.05
    assert torch.allclose(delta, last, rtol=0, atol=1e-7)  # the top is flat: fp64 tells its points apart no better


def test_where_the_loss_rises_faster_than_the_kernel_falls_the_box_is_what_stops_it():
    sigma, images = 0.1, images_near(0.5, 6)
    h = quadratic(1.5 / sigma**2)
    delta, _ = climbed(lambda u: ((u - 0.5) @ h * (u - 0.5)).sum(1) / 2, images, sigma=sigma, steps=100)
    found = images.flatten(1) + delta
    assert found.min() >= 0 and found.max() <= 1 and ((found == 0) | (found == 1)).any(1).all()


class Small(nn.Module):
    def __init__(self, seed=0, scale=1.0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(216, 5)).double()
        self.scale = scale

    def forward(self, images):
        return self.scale * self.net(images)


def batch(n=6):
    torch.manual_seed(3)
    return 0.3 + 0.4 * torch.rand(n, 3, 8, 8, dtype=torch.float64), torch.randint(0, 5, (n,))


@pytest.mark.parametrize(("sigma", "a", "steps"), [(0.1, 0.5, 3), (0.3, 0.3, 10)])
def test_its_iterates_are_wrms_on_the_log_of_the_loss(sigma, a, steps):
    """Sinha et al. 2018: ascent on g(u) - gamma ||u - x||^2; g = log l, gamma = 1 / (2 sigma^2), step a sigma^2."""
    model, (images, labels) = Small(), batch()
    gamma, eta = 1 / (2 * sigma**2), a * sigma**2

    def value(u):
        g = F.cross_entropy(model(u), labels, reduction="none").log()
        return g - gamma * (u - images).square().flatten(1).sum(1)

    u, points, values = images.clone(), [images], [value(images)]
    for _ in range(steps):
        u = u.detach().requires_grad_(True)
        u = u.detach() + eta * torch.autograd.grad(value(u).sum(), u)[0]
        points.append(u)
        values.append(value(u))
    best = torch.stack(values).argmax(0)
    expected = torch.stack(points)[best, torch.arange(len(images))]
    found = supremal(model, images, labels, sigma=sigma, steps=steps, step_size=a)
    assert expected.min() > 0 and expected.max() < 1 and (best > 0).all()
    assert torch.allclose(found, expected.detach(), rtol=0, atol=1e-12)


def test_the_logarithm_of_the_cross_entropy_is_that_of_fp64_wherever_fp32_has_no_cross_entropy_left():
    margins = torch.linspace(-40, 120, 3201, dtype=torch.float64)
    logits = torch.stack([margins, torch.zeros_like(margins), torch.full_like(margins, -3)], 1)
    labels = torch.zeros(len(margins), dtype=torch.long)
    m = margins - math.log(1 + math.exp(-3))
    exact = torch.where(m > 30, -m, F.softplus(-m, threshold=1e9).log())
    single = logits.float().requires_grad_(True)
    found = log_cross_entropy(single, labels)
    assert (found.double() - exact).abs().max() < 3e-5
    (grad,) = torch.autograd.grad(found.sum(), single)
    slope = -torch.where(m > 30, 1.0, torch.sigmoid(-m) / F.softplus(-m, threshold=1e9))
    assert grad.isfinite().all() and (grad[:, 0].double() - slope).abs().max() < 1e-5
    assert F.cross_entropy(logits.float(), labels, reduction="none")[-1] == 0  # whose logarithm would be no number
    assert torch.allclose(log_cross_entropy(logits[:800], labels[:800]), exact[:800], rtol=1e-12)


def trained(name):
    """A bundled network in pixel space, in fp64."""
    return pixel_model(create_model(name)).double().eval()


def sample(n):
    ((images, labels),) = cifar10_sample(100).subset(torch.arange(0, 1000, 1000 // n)[:n]).batches(n)
    return images.double(), labels


def test_a_kernel_of_no_width_leaves_images_as_they_are():
    model, (images, labels) = Small(), batch()
    found = supremal(model.float(), images.float(), labels, sigma=1e-6, steps=3)
    assert torch.equal(found, images.float())
    assert torch.equal(log_kernel(found, images.float(), 1e-6).exp(), torch.ones(6))


@pytest.mark.parametrize("name", ["resnet18_x0_25_cifar10_l2_eps0", "resnet18_x0_25_cifar10_linf_eps8"])
def test_no_image_is_worth_less_than_it_was_and_the_authors_first_step_would_make_them(name):
    """k l(u) >= l(x) image by image; AMSGrad's step of 0.001 in every pixel breaks that on the robust network."""
    model, (images, labels) = trained(name), sample(8)

    def worth(u):
        with torch.no_grad():
            loss = F.cross_entropy(model(u), labels, reduction="none")
        return log_kernel(u, images, 0.1).exp() * loss

    before = worth(images)
    found = supremal(model, images, labels, sigma=0.1, steps=3)
    assert (worth(found) >= before * (1 - 1e-9)).all() and (worth(found) > before).sum() >= 7
    assert found.min() >= 0 and found.max() <= 1 and not any(p.grad is not None for p in model.parameters())

    u = images.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([u], lr=0.001, amsgrad=True, maximize=True)
    (log_cross_entropy(model(u), labels) + log_kernel(u, images, 0.1)).sum().backward()
    optimizer.step()
    lost = (worth(u.detach()) < before).sum()
    assert lost == (8 if "linf" in name else 0)


def test_what_watches_sees_every_gradient_pass_and_may_end_it():
    model, (images, labels) = Small().train(), batch()
    seen = []
    supremal(model, images, labels, sigma=0.1, steps=3, watch=lambda step, logits: seen.append((step, logits)))
    assert [step for step, _ in seen] == [0, 1, 2] and torch.equal(seen[0][1], model(images).detach())
    assert model.training and not seen[0][1].requires_grad
    assert torch.equal(supremal(model, images, labels, sigma=0.1, steps=0), images)

    def stop(step, logits):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supremal(model, images, labels, sigma=0.1, steps=3, watch=stop)
