"""PGD of foolbox, torchattacks, ART and robustness on a bundled network and bundled images: the same pixels as ours.

Linf steps are signs: after 20 of them every pixel is equal, bit for bit. That needs the batch to be a power of two:
ours and foolbox ascend on the sum of the losses, the others on their mean, and only a power of two divides exactly.

L2 steps are real numbers, so here the definitions differ, each by less than 1e-6 in a pixel:

- A gradient g becomes g / (|g| + 1e-10) (ours, robustness, torchattacks), g / max(|g|, 1e-12) (foolbox) or g / |g|
  (ART). robustness and torchattacks do this to the mean's gradient, so their constant weighs 64 times more.
- The ball has the radius eps * |d| / (|d| + 1e-7) (ours and robustness: torch.renorm) or eps.
- ART goes to the box first and to the ball then; all others to the ball first. This one is not small (3e-3): see
  `test_art_projects_in_the_other_order`.
- robustness clamps inside the graph: see `test_robustness_loses_saturated_pixels_to_todays_clamp`.

A rectifier turns a difference of 1e-8 into any difference once a pre-activation lies on the other side of 0: with the
network as it is 1 to 8 images of 64 part by more than 1e-6 (3e-4 at most) within 20 steps. That says nothing of the
attacks, so for L2 the bundled network gets softplus for ReLU, as near to it as makes no difference to its accuracy.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robust_zoo import create_model, pixel_model
from robust_zoo.pixels import PixelModel
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.pgd import pgd
from robust_zoo.training.data.cifar10_sample import cifar10_sample

# The libraries are from 2018 to 2025 and warn in many ways.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

STEPS = 20
COUNT = 64  # a power of two, see above

# model, images, labels, threat, step size, targeted -> adversarial images
Peer = Callable[[PixelModel, Tensor, Tensor, ThreatModel, float, bool], Tensor]


def _foolbox(
    model: PixelModel, images: Tensor, labels: Tensor, threat: ThreatModel, step: float, targeted: bool = False
) -> Tensor:
    import foolbox

    attacks = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}
    attack = attacks[threat.norm](abs_stepsize=step, steps=STEPS, random_start=False)
    criterion = (foolbox.criteria.TargetedMisclassification if targeted else foolbox.criteria.Misclassification)(labels)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    return attack(wrapped, images, criterion, epsilons=threat.eps)[0]  # [1] is projected once more, by foolbox


def _torchattacks(
    model: PixelModel, images: Tensor, labels: Tensor, threat: ThreatModel, step: float, targeted: bool = False
) -> Tensor:
    import torchattacks

    attacks = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}
    attack = attacks[threat.norm](model, eps=threat.eps, alpha=step, steps=STEPS, random_start=False)
    if targeted:
        attack.set_mode_targeted_by_label(quiet=True)
    return attack(images, labels)


def _art(
    model: PixelModel, images: Tensor, labels: Tensor, threat: ThreatModel, step: float, targeted: bool = False
) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(images.shape[1:]), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        wrapped, norm={"linf": np.inf, "l2": 2}[threat.norm], eps=threat.eps, eps_step=step, max_iter=STEPS,
        targeted=targeted, batch_size=len(images), verbose=False,
    )  # fmt: skip
    return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


def _robustness(
    model: PixelModel,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    step: float,
    targeted: bool = False,
    use_best: bool = False,
) -> Tensor:
    """Needs the fixture `robustness`. Its default is use_best=True, which none of the others knows."""
    from robustness.model_utils import make_and_restore_model

    statistics = types.SimpleNamespace(mean=model.mean.flatten(), std=model.std.flatten())
    attacker, _ = make_and_restore_model(arch=model.model, dataset=statistics, add_custom_forward=True)
    _, adv_images = attacker.eval()(
        images, labels, make_adv=True, constraint={"linf": "inf", "l2": "2"}[threat.norm], eps=threat.eps,
        step_size=step, iterations=STEPS, targeted=targeted, use_best=use_best,
    )  # fmt: skip
    return adv_images


PEERS: dict[str, Peer] = {
    "foolbox": _foolbox, "torchattacks": _torchattacks, "art": _art, "robustness": _robustness,
}  # fmt: skip


def _softened(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, nn.Softplus(beta=30) if isinstance(child, nn.ReLU) else _softened(child))
    return module


@cache
def _network(smooth: bool = False) -> PixelModel:
    network = create_model("resnet18_x0_25_cifar10_l2_eps0_5")
    return pixel_model(_softened(network) if smooth else network).eval()


@cache
def _batch(inside: bool = False) -> tuple[Tensor, Tensor]:
    """(64, 3, 32, 32) float32 and labels; 0.9 % of the values are 0 or 1. `inside`: in [0.25, 0.75] instead."""
    sample = cifar10_sample(7)
    images = sample.images[:COUNT].float() / 255
    return 0.25 + 0.5 * images if inside else images, sample.labels[:COUNT]


@cache
def _ours(
    threat: ThreatModel, step: float, targeted: bool = False, smooth: bool = False, inside: bool = False
) -> Tensor:
    images, labels = _batch(inside)
    labels = (labels + 1) % 10 if targeted else labels
    adv_images = pgd(_network(smooth), images, labels, threat, steps=STEPS, step_size=step, targeted=targeted)
    with torch.no_grad():
        before, after = (_network(smooth)(x).argmax(1) == labels for x in (images, adv_images))
    assert after.sum() > before.sum() if targeted else after.sum() < before.sum(), "the attack must achieve something"
    return adv_images


def _differences(a: Tensor, b: Tensor) -> Tensor:
    """The largest difference in each image."""
    return (a - b).abs().flatten(1).amax(1)


def test_softplus_makes_no_difference_to_what_the_network_knows() -> None:
    images, labels = _batch()
    with torch.no_grad():
        hard, soft = (_network(smooth)(images).argmax(1) == labels for smooth in (False, True))
    assert hard.sum() >= 0.7 * COUNT
    assert abs(int(hard.sum()) - int(soft.sum())) <= 1


@pytest.mark.parametrize(
    ("eps", "targeted"),
    [(1 / 255, False), (8 / 255, False), (32 / 255, False), (8 / 255, True)],
    ids=["1/255", "8/255", "32/255", "8/255 targeted"],
)
@pytest.mark.parametrize("peer", PEERS)
def test_linf_pixels_are_equal(robustness: Any, clamp_of_2020: None, peer: str, eps: float, targeted: bool) -> None:
    threat, step = ThreatModel("linf", eps), eps / 4
    images, labels = _batch()
    theirs = PEERS[peer](_network(), images, (labels + 1) % 10 if targeted else labels, threat, step, targeted)
    assert torch.equal(theirs, _ours(threat, step, targeted))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_best_iterate_is_that_of_robustness(robustness: Any, clamp_of_2020: None, norm: str) -> None:
    """Its use_best=True. Steps long enough for the last not to be the best; in L2 they multiply rounding: float64."""
    threat = ThreatModel(norm, 8 / 255 if norm == "linf" else 0.5)
    model, (images, labels), step = _network(norm == "l2"), _batch(), threat.eps / 2
    if norm == "l2":
        model, images, step = copy.deepcopy(model).double(), images.double(), 8 * threat.eps
    theirs = _robustness(model, images, labels, threat, step, use_best=True)
    best, last = (pgd(model, images, labels, threat, steps=STEPS, step_size=step, keep_best=k) for k in (True, False))
    assert _differences(best, theirs).max() <= (0 if norm == "linf" else 1e-6)
    assert (_differences(best, last) > 0).sum() >= 3, "the comparison means something only where best is not last"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_robustness_loses_saturated_pixels_to_todays_clamp(
    robustness: Any, gradient_at_the_bound: float, norm: str
) -> None:
    """As it is today, without `clamp_of_2020`. A clamp before the network makes ours the same: that is all it is."""

    class Clamped(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return model(torch.clamp(images, 0, 1))

    threat, model, (images, labels) = ThreatModel(norm, 8 / 255 if norm == "linf" else 0.5), _network(True), _batch()
    step = threat.eps / 4
    theirs = _robustness(model, images, labels, threat, step)
    ours = pgd(Clamped().eval(), images, labels, threat, steps=STEPS, step_size=step)
    assert _differences(ours, theirs).max() <= (0 if norm == "linf" else 1e-6)

    saturated = (images == 0) | (images == 1)
    assert saturated.sum() > 1000
    if gradient_at_the_bound == 0:
        assert torch.equal(theirs[saturated], images[saturated])
    free = _ours(threat, step, smooth=True)
    assert (free[saturated] != images[saturated]).float().mean() > 0.3  # the rest is pushed out of the box


@pytest.mark.parametrize("eps", [0.5, 2.0])
@pytest.mark.parametrize("peer", ["foolbox", "torchattacks", "robustness"])
def test_l2_pixels_agree(robustness: Any, clamp_of_2020: None, peer: str, eps: float) -> None:
    threat, step = ThreatModel("l2", eps), eps / 8
    theirs = PEERS[peer](_network(True), *_batch(), threat, step, False)
    assert _differences(_ours(threat, step, smooth=True), theirs).max() <= 1e-6


@pytest.mark.parametrize("peer", PEERS)
def test_l2_pixels_agree_where_the_box_is_far(robustness: Any, peer: str) -> None:
    """Nothing is ever clipped or clamped: the order of the projections and the clamp's gradient do not matter."""
    threat, step = ThreatModel("l2", 0.5), 0.5 / 8
    theirs = PEERS[peer](_network(True), *_batch(inside=True), threat, step, False)
    assert 0 < theirs.min() <= theirs.max() < 1
    assert _differences(_ours(threat, step, smooth=True, inside=True), theirs).max() <= 1e-6


def test_art_projects_in_the_other_order() -> None:
    """Box, then ball: near the box its L2 attack is another one, which is ours with that order alone changed."""
    threat, step, model, (images, labels) = ThreatModel("l2", 0.5), 0.5 / 8, _network(True), _batch()
    theirs = _art(model, images, labels, threat, step)
    adv_images = images
    for _ in range(STEPS):
        at = adv_images.clone().requires_grad_(True)
        (grad,) = torch.autograd.grad(nn.functional.cross_entropy(model(at), labels, reduction="sum"), at)
        direction = grad / grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        adv_images = images + ((adv_images + step * direction).clamp(0, 1) - images).renorm(2, 0, threat.eps)
    assert _differences(adv_images, theirs).max() <= 1e-6
    assert _differences(_ours(threat, step, smooth=True), theirs).max() > 1e-3
