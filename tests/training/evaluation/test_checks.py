"""Eight planted sham defences are all found out, and sound models are left alone."""

import copy

import pytest
import torch
from torch import nn

from robust_zoo import create_model, pixel_model
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.threat import ThreatModel
from robust_zoo.training.choices import CHECKS as CHECK_WORDS
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.evaluation import checks
from robust_zoo.training.evaluation.checks import CHECKS, Check, Subject, failed_checks
from robust_zoo.training.evaluation.run import EvaluationPlan, evaluate

STANDARD = "resnet18_x0_25_cifar10_l2_eps0"
ROBUST = "resnet18_x0_25_cifar10_l2_eps0_5"
STATISTICS = get(ROBUST).preprocessing


class Around(nn.Module):
    """`before` an image and `after` the logits of a model."""

    def __init__(self, model, before=None, after=None):
        super().__init__()
        self.model, self.before, self.after = model, before or nn.Identity(), after or nn.Identity()

    def forward(self, images):
        return self.after(self.model(self.before(images)))


class Winners(nn.Module):
    """k-WTA (Xiao et al. 2020): only the largest activations of an image pass, so that the loss is full of jumps."""

    def forward(self, x):
        flat = x.flatten(1)
        least = flat.topk(max(1, flat.shape[1] // 12), dim=1).values[:, -1]
        return x * (x >= least.view(-1, *[1] * (x.ndim - 1)))


def winners(model):
    model = copy.deepcopy(model)
    block = model.model.layer4[1]
    block.act2 = Winners()
    return Around(model, after=lambda logits: (logits * 8).round() / 8)


def dropout(model):
    model = copy.deepcopy(model)
    model.model.fc = nn.Sequential(nn.Dropout(0.3), model.model.fc)
    model.model.fc[0].train()
    return model


SHAMS = {
    "quantised input": (lambda m: Around(m, before=lambda x: (x * 16).round() / 16), "zero-gradients"),
    "logits x 1e4": (lambda m: Around(m, after=lambda z: z * 1e4), "zero-gradients"),
    "softmax head": (lambda m: Around(m, after=lambda z: z.softmax(1)), "probabilities"),
    "random noise": (lambda m: Around(m, before=lambda x: x + 0.03 * torch.randn_like(x)), "random-output"),
    "dropout left on": (dropout, "not-in-eval"),
    "k-WTA": (winners, "zero-gradients"),
    "detached input": (lambda m: Around(m, before=torch.detach), "zero-gradients"),
    "double normalisation": (lambda m: PixelModel(m, STATISTICS.mean, STATISTICS.std).eval(), "normalised-twice"),
}


def subject(model, name=ROBUST, n=1):
    data = cifar10_sample(n)
    threat = get(ROBUST).threat
    return Subject(model, data.images.float() / 255, data.labels, threat, STATISTICS.mean, STATISTICS.std)


@pytest.fixture(scope="module")
def robust():
    return pixel_model(create_model(ROBUST)).eval()


@pytest.mark.parametrize("sham", SHAMS)
def test_sham_defences_are_found_out(robust, sham):
    make, expected = SHAMS[sham]
    torch.manual_seed(0)
    looked_at = subject(make(robust))
    assert expected in [check.name for check in CHECKS if check.name == expected and check.fails(looked_at)]


BUNDLED = list_models(dataset="cifar10", bundled=True)
FEW = {STANDARD, ROBUST}  # the others take seven seconds each


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.peers) for name in BUNDLED]
)
def test_sound_models_are_left_alone(name):
    assert failed_checks(subject(pixel_model(create_model(name)).eval())) == []


def test_every_check_has_its_name_meaning_and_paper():
    assert len({check.name for check in CHECKS}) == len(CHECKS) == 9
    assert all(CHECK_WORDS[check.name] and check.paper.startswith("https://") for check in CHECKS)


def test_a_figure_is_checked_under_its_own_threat_model(tmp_path, monkeypatch):
    """Whatever else the command asked for, and in which order; what no radius matters to is looked at once."""
    seen = []
    of_model = Check("false-gradients", "", lambda s: bool(seen.append("model")))
    of_threat = Check("black-box-stronger", "", lambda s: s.threat.eps > 0.3, of_threat=True)
    monkeypatch.setattr(checks, "CHECKS", (of_model, of_threat))
    radii = [ThreatModel("l2", eps) for eps in (0.0, 0.5, 0.25)]
    found = evaluate([ROBUST], "", "", tmp_path, EvaluationPlan("fgsm", radii, n=2))
    assert [entry["flags"] for entry in found] == [[], ["black-box-stronger"], []] and seen == ["model"]
    assert [check.name for check in CHECKS if check.of_threat] == ["black-box-stronger"]  # the one that reads it
