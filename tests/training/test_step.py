"""One step: folding changes nothing, objectives have the right gradients, parts of a batch add up."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from reads import Reads
from torch import nn

from robust_zoo.architectures.build import build
from robust_zoo.errors import UsageError
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.lookup import get, get_architecture, list_models
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.attacks.pgd import pgd
from robust_zoo.training.recipes import recipe_for
from robust_zoo.training.signals import Stopped
from robust_zoo.training.steps.passes import TrainingLoss, attack, memory_format, optimizer_for
from robust_zoo.training.steps.soundness import Diverged
from robust_zoo.training.steps.step import make_step

RECIPE = replace(recipe_for(get("resnet18_x0_25_cifar10_l2_eps0_5")), batch_size=8)
# what is trained here, and some that others trained
ARCHITECTURES = sorted(
    {get(name).architecture for name in list_models() if get(name).recipe} | {"raresnet50", "resnet50_gelu"}
)


def model_with_statistics(architecture, dtype=torch.float64):
    """Random weights, and running statistics unlike those of a fresh BatchNorm."""
    torch.manual_seed(0)
    row = get_architecture(architecture)
    network = build(row.timm, **row.arguments).to(dtype)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return PixelModel(network, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2)).train()


def batch(n=8, size=32, dtype=torch.float64):
    torch.manual_seed(1)
    return torch.rand(n, 3, size, size, dtype=dtype), torch.randint(0, 10, (n,))


# the largest take seconds each in float64, and are made of what the others are
_LARGE = (
    "densenet",
    "raresnet50",
    "resnet50_gelu",
    "resnext50_32x4d",
    "vgg16_bn",
    "wide_resnet50_2",
    "wide_resnet50_4",
)
LARGE = [pytest.param(name, marks=pytest.mark.peers) for name in _LARGE if name in ARCHITECTURES]


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a not in {p.values[0] for p in LARGE}] + LARGE)
def test_folding_keeps_the_function_and_its_gradient(architecture):
    model, (images, labels) = model_with_statistics(architecture), batch(2)
    folded = folded_model(model, images)
    assert model.training and all(m.training for m in model.modules())
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert len(folded.pairs) == norms or (architecture == "densenet" and 2 * len(folded.pairs) > 0.9 * norms)

    def logits_and_gradient(network):
        pixels = images.clone().requires_grad_(True)
        logits = network(pixels)
        return logits.detach(), torch.autograd.grad(F.cross_entropy(logits, labels), pixels)[0]

    for found, expected in zip(logits_and_gradient(folded.model), logits_and_gradient(model.eval()), strict=True):
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_refreshed_copy_follows_the_model_and_shares_its_storage():
    model, (images, labels) = model_with_statistics("resnet18_x0_25"), batch()
    folded = folded_model(model, images)
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in folded.model.parameters()}
    assert len(shared) == 2  # the head's weight and bias; convolutions are folded, BatchNorms are gone
    assert not any(p.requires_grad for p in folded.model.parameters())
    optimizer = optimizer_for(model, RECIPE)
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    stale = folded.model(images)
    folded.refresh()
    assert torch.allclose(folded.model(images), model.eval()(images), rtol=1e-9)
    assert not torch.allclose(stale, model(images), rtol=1e-3)


class ReadTwice(nn.Module):
    """A convolution whose output is read by its BatchNorm and by a skip connection: folding it would be wrong."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)
        nn.init.uniform_(self.norm.weight, 2, 3)

    def forward(self, images):
        out = self.conv(images)
        return self.head((out + self.norm(out)).mean((2, 3)))


def test_what_can_not_be_folded_is_left_alone_and_said():
    model = ReadTwice()
    with pytest.warns(UserWarning, match="not folded"):
        folded = folded_model(model, batch(dtype=torch.float32)[0])
    assert not folded.pairs
    images = batch(dtype=torch.float32)[0]
    assert torch.equal(folded.model(images), model.eval()(images))


def test_a_step_is_pgd_then_sgd():
    """Against the same written out by hand with torch's own parts and no folding."""
    model, (images, labels) = model_with_statistics("resnet18_x0_25"), batch()
    by_hand = copy.deepcopy(model)
    step = make_step(model, RECIPE, optimizer_for(model, RECIPE))
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.25, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for _ in range(3):
        counts = step(images, labels)
        eps = RECIPE.threat.eps
        adv_images = pgd(by_hand, images, labels, RECIPE.threat, steps=3, step_size=2 / 3 * eps)
        clean = int((by_hand.eval()(images).argmax(1) == labels).sum())
        logits = by_hand.train()(adv_images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert float(counts.loss) / counts.seen == pytest.approx(loss.item(), rel=1e-8)
        assert counts.read()[2:] == [int((logits.argmax(1) == labels).sum()), clean]
    for (name, a), (_, b) in zip(model.state_dict().items(), by_hand.state_dict().items(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9), name


class Smooth(nn.Module):
    """Without BatchNorm, so that parts of a batch do not change each other."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.Tanh(), nn.Flatten(), nn.Linear(392, 10)).double()

    def forward(self, images):
        return self.net(images)


def test_parts_of_a_batch_add_up_to_the_batch():
    images, labels = batch()
    weights = []
    for parts in (1, 2, 4):
        model = Smooth()
        recipe = replace(RECIPE, accumulation=parts)
        make_step(model, recipe, optimizer_for(model, recipe))(images, labels)
        weights.append(model.net[0].weight.detach())
    assert torch.allclose(weights[0], weights[1], rtol=1e-9) and torch.allclose(weights[0], weights[2], rtol=1e-9)


def test_trades_is_its_formula_and_its_attack_raises_the_divergence():
    recipe = replace(RECIPE, objective="trades", trades_beta=3.0, label_smoothing=0.1, threat=ThreatModel("linf", 0.03))
    model, (images, labels) = Smooth(), batch()
    adv_images = attack(model, images, labels, recipe)
    assert (adv_images - images).abs().max() <= 0.03 + 1e-9
    loss, logits = TrainingLoss(model, recipe)(images, adv_images, labels)
    p, q = model(images).softmax(1), model(adv_images).softmax(1)
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    smooth = torch.full_like(p, 0.1 / 10).scatter_add(1, labels[:, None], torch.full((8, 1), 0.9).double())
    assert loss.item() == pytest.approx((-(smooth * p.log()).sum(1).mean() + 3 * divergence).item())
    assert torch.equal(logits, model(adv_images))
    noise = pgd(model, images, labels, recipe.threat, steps=1, step_size=0.0, random_start=True)
    random = (p * (p.log() - model(noise).log_softmax(1))).sum(1).mean()
    assert divergence > 2 * random
    assert recipe.passes == 13 and RECIPE.passes == 9 and replace(RECIPE, threat=ThreatModel("l2", 0.0)).passes == 3


def test_a_stop_during_the_attack_leaves_weights_and_statistics_as_they_were():
    model, (images, labels) = model_with_statistics("resnet18_x0_25"), batch()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    calls = 0

    def poll(*_):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Stopped("a test")

    step = make_step(model, RECIPE, optimizer_for(model, RECIPE), poll=poll)
    with pytest.raises(Stopped, match="a test"):
        step(images, labels)
    assert calls == 3 and all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_bf16_steps_lose_nothing_that_matters():
    """The loss of a step under bf16 autocast is that of fp32 to 2 %."""
    losses = []
    for bf16 in (False, True):
        model, (images, labels) = model_with_statistics("resnet18_x0_25", torch.float32), batch(dtype=torch.float32)
        counts = make_step(model, RECIPE, optimizer_for(model, RECIPE), bf16=bf16)(images, labels)
        losses.append(float(counts.loss) / counts.seen)
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[0] != losses[1]


class Spoilt(nn.Module):
    """Hands images on as they come, NaN in the batches that are named."""

    def __init__(self, model, at):
        super().__init__()
        self.model, self.at, self.calls = model, at, 0

    def forward(self, images):
        if self.training:
            self.calls += 1
            if self.calls == self.at:
                return self.model(images) * float("nan")
        return self.model(images)


@pytest.mark.parametrize("random_start", [False, True])
def test_what_is_not_finite_between_two_looks_changes_no_weight_and_is_named(random_start):
    """The third of five steps is spoilt; its weights are those after two, whatever comes after it."""
    images, labels = batch()
    recipe = replace(RECIPE, random_start=random_start)

    def trained(steps, at):
        torch.manual_seed(0)
        model = Spoilt(Smooth(), at)
        step = make_step(model, recipe, optimizer_for(model, recipe), check_every=5)
        for number in range(steps):
            torch.manual_seed(number)
            step(images, labels)
        return model.state_dict()

    assert not all(torch.equal(a, b) for a, b in zip(trained(2, 0).values(), trained(3, 0).values(), strict=True))
    model = Spoilt(Smooth(), 3)
    step = make_step(model, recipe, optimizer_for(model, recipe), check_every=5)
    for number in range(4):
        torch.manual_seed(number)
        step(images, labels)
    with pytest.raises(Diverged) as error:
        step.check()
    assert error.value.actual == "loss nan; not finite first in the loss"
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), trained(2, 0).values(), strict=True))


def test_the_layer_is_named_by_the_batch_that_went_wrong_not_by_the_last():
    """The second of four overflows the convolution; the others do not."""
    model, (images, labels) = Smooth(), batch()
    wild = images.clone()
    wild[3] = 1.0

    def overflow(module, args, output):
        return output * torch.inf if (args[0][3] == 1).all() else output

    model.net[0].register_forward_hook(overflow)
    recipe = replace(RECIPE, threat=ThreatModel("l2", 0.0))
    step = make_step(model, recipe, optimizer_for(model, recipe), check_every=100)
    for each in (images, wild, images, images):
        step(each, labels)
    with pytest.raises(Diverged) as error:
        step.check()
    assert "the output of net.0 (Conv2d)" in error.value.actual


def test_images_outside_the_range_are_said_at_the_next_look():
    images, labels = batch()
    step = make_step(Smooth(), RECIPE, optimizer_for(Smooth(), RECIPE), check_every=2)
    step(2 * images, labels)
    with pytest.raises(UsageError, match=r"pixels in \[0, 1\]"):
        step(images, labels)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_step_reads_nothing_from_the_device_until_it_is_asked(norm, bf16):
    model, (images, labels) = model_with_statistics("resnet18_x0_25", torch.float32), batch(dtype=torch.float32)
    recipe = replace(RECIPE, threat=ThreatModel(norm, 0.03), random_start=True)
    step = make_step(model.model, recipe, optimizer_for(model, recipe), bf16=bf16, check_every=9)  # a PixelModel looks
    step(images, labels)  # the first makes the folded model, and compares it
    with Reads() as reads:
        counts = step(images, labels)
    assert not reads.seen
    with Reads() as reads:
        assert counts.read()[0] == 8
        step.check()
    assert reads.seen


@pytest.mark.parametrize(
    ("architecture", "size", "n", "expected"),
    [
        ("resnet18", 64, 8, torch.contiguous_format),  # where channels last was measured slower, and faster
        ("resnet18_x0_25", 32, 16, torch.channels_last),
        ("resnet18_x0_25", 32, 32, torch.channels_last),
    ],
)
def test_channels_are_last_but_where_the_weights_outweigh_a_batch(architecture, size, n, expected):
    model = model_with_statistics(architecture, torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert memory_format(model, torch.empty(n, 3, size, size)) is expected
    assert model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert memory_format(model, torch.empty(1, 3, size, size, device="meta")) is torch.channels_last  # as on a GPU
