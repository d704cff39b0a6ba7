"""AutoAttack of its authors (pyautoattack; the pickled model in its wheel is never opened) against ours, seed for seed.

APGD and Square give the same images. FAB's steps solve the same projection by another arithmetic, and a rectifier makes
any difference of a rounding grow; so FAB is compared on the network with softplus for ReLU, and flag for flag as it is.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_zoo import create_model, pixel_model
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.apgd import apgd
from robust_zoo.training.attacks.fab import fab_targeted, project
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.attacks.square import square
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.evaluation import engine

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

THREATS = [ThreatModel("linf", 4 / 255), ThreatModel("l2", 0.5)]
NORMS = {"linf": "Linf", "l2": "L2"}


@pytest.fixture(scope="module", params=["resnet18_x0_25_cifar10_l2_eps0", "resnet18_x0_25_cifar10_l2_eps0_5"])
def network(request: Any) -> nn.Module:
    return _frozen(pixel_model(create_model(request.param)).eval())


def _frozen(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def _batch(n: int = 64) -> tuple[Tensor, Tensor]:
    data = cifar10_sample(10)
    order = torch.arange(100).view(10, 10).T.flatten()[:n]
    return data.images[order].float() / 255, data.labels[order]


def _same(network: nn.Module, theirs: Tensor, ours: Tensor, labels: Tensor, tolerance: float | None = 1e-6) -> None:
    flags = [network(adv).argmax(1) == labels for adv in (theirs, ours)]
    assert torch.equal(*flags)
    if tolerance is not None:
        assert (theirs - ours).abs().max() <= tolerance


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd(network: nn.Module, threat: ThreatModel, loss: str) -> None:
    from pyautoattack.autopgd_base import APGDAttack

    images, labels = _batch()
    theirs = APGDAttack(network, n_iter=30, norm=NORMS[threat.norm], eps=threat.eps, loss=loss, device="cpu")
    found = theirs.perturb(images, labels)
    _same(network, found, apgd(network, images, labels, threat, loss=loss, steps=30, stop=False), labels)
    _same(network, found, apgd(network, images, labels, threat, loss=loss, steps=30), labels, None)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_targeted_apgd(network: nn.Module, threat: ThreatModel) -> None:
    from pyautoattack.autopgd_base import APGDAttack_targeted

    images, labels = _batch()
    theirs = APGDAttack_targeted(
        network, n_iter=20, norm=NORMS[threat.norm], eps=threat.eps, n_target_classes=3, device="cpu"
    )
    ours = apgd(network, images, labels, threat, loss="dlr-targeted", targets=3, steps=20, stop=False)
    _same(network, theirs.perturb(images, labels), ours, labels)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_square(network: nn.Module, threat: ThreatModel) -> None:
    from pyautoattack.square import SquareAttack

    images, labels = _batch()
    theirs = SquareAttack(
        network, norm=NORMS[threat.norm], eps=threat.eps, n_queries=250, p_init=0.8, n_restarts=1, seed=0,
        loss="margin", resc_schedule=False, device="cpu",
    )  # fmt: skip
    _same(network, theirs.perturb(images, labels), square(network, images, labels, threat, queries=250), labels)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_fab(network: nn.Module, threat: ThreatModel) -> None:
    images, labels = _batch()
    ours = fab_targeted(network, images, labels, threat, targets=3, steps=20, stop=False)
    _same(network, _fab(network, images, labels, threat), ours, labels, None)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_fab_on_a_smooth_network(network: nn.Module, threat: ThreatModel) -> None:
    smooth = _frozen(pixel_model(create_model("resnet18_x0_25_cifar10_l2_eps0_5")).eval())
    for module in list(smooth.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus(beta=50))
    images, labels = _batch()
    ours = fab_targeted(smooth, images, labels, threat, targets=3, steps=5, stop=False)
    _same(smooth, _fab(smooth, images, labels, threat, steps=5), ours, labels, 1e-5)


def _fab(network: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, steps: int = 20) -> Tensor:
    from pyautoattack.fab_pt import FABAttack_PT

    theirs = FABAttack_PT(
        network, n_iter=steps, norm=NORMS[threat.norm], eps=threat.eps, targeted=True, n_target_classes=3, device="cpu"
    )
    return theirs.perturb(images, labels)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_projections_of_fab(norm: str) -> None:
    """The same points, in float64."""
    from pyautoattack import fab_projections

    torch.manual_seed(0)
    points, w = torch.rand(200, 48).double(), torch.randn(200, 48).double()
    b = (w * torch.rand(200, 48)).sum(1)
    theirs = getattr(fab_projections, f"projection_{norm}")(points, w.clone(), b.clone())
    assert torch.allclose(project(points, w, b, rules(norm)), theirs, atol=1e-9)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_whole_autoattack(threat: ThreatModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The standard four in sequence, Square with 300 queries: the same images are robust to it, to one."""
    from pyautoattack import AutoAttack

    from robust_zoo.training.data.dataset import Images

    network = _frozen(pixel_model(create_model("resnet18_x0_25_cifar10_l2_eps0_5")).eval())
    images, labels = _batch()
    theirs = AutoAttack(network, norm=NORMS[threat.norm], eps=threat.eps, seed=0, device="cpu")
    theirs.logger.setLevel(logging.ERROR)
    theirs.square.n_queries = 300
    adv_images, _ = theirs.run_standard_evaluation(images, labels, batch_size=64)
    robust = int((network(adv_images).argmax(1) == labels).sum())
    stages = [*suite("autoattack")[:3], type(suite("square")[0])("square", square, {"queries": 300})]
    data = Images((images * 255).round().to(torch.uint8), labels)
    job = engine.Evaluation(network, threat, stages, batch_size=64)
    chunk = engine.run_chunk(job, data, tmp_path / "chunk.npz", lambda progress: None)
    assert abs(int((chunk.broken_by == engine.ROBUST).sum()) - robust) <= 1
