"""Three updates of robustness' own training loop and of ours, in float64: the same images, losses and weights to 1e-10.

Ours attacks a copy with BatchNorm folded into the convolutions and updates with a fused optimiser; its own attack in
eval mode and update in train mode, SGD with weight decay on every parameter, is robustness'. float64, because in
float32 rounding sends the two along different ways within a few updates, as it does two runs of either.
"""

from __future__ import annotations

import copy
import types
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_zoo import create_model
from robust_zoo.pixels import PixelModel, pixel_model
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks import norms
from robust_zoo.training.attacks.pgd import pgd
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.steps import passes
from robust_zoo.training.steps.passes import optimizer_for
from robust_zoo.training.steps.step import make_step

# robustness is from 2020 and warns in many ways.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

UPDATES, BATCH, TOLERANCE = 3, 8, 1e-10
THREATS = {"l2": ThreatModel("l2", 0.5), "linf": ThreatModel("linf", 8 / 255)}
Seen = list[tuple[Tensor, float]]  # adversarial images and loss of each update


def _recipe(norm: str, use_best: bool = False) -> Recipe:
    """Salman et al. 2020 but for a learning rate that moves trained weights without wrecking them.

    use_best: steps so many and so long that the last is often not the best, as it seldom is after three of 2/3 eps.
    """
    long = {"attack_steps": 8, "attack_step_size": 2.0} if use_best else {}
    return Recipe(
        architecture="resnet18_x0_25", dataset="cifar10", threat=THREATS[norm], epochs=1, batch_size=BATCH, lr=0.01,
        schedule="step", augment="crop_flip", **long,
    )  # fmt: skip


def _model() -> PixelModel:
    return pixel_model(create_model("resnet18_x0_25_cifar10_l2_eps0_5").double()).train()


def _batches(inside: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Other classes in each; about 1 % of the values are 0 or 1. `inside`: in [0.25, 0.75] instead."""
    sample = cifar10_sample(3)
    order = torch.randperm(len(sample), generator=torch.Generator().manual_seed(0))[: UPDATES * BATCH]
    images = sample.images[order].double() / 255
    images = 0.25 + 0.5 * images if inside else images
    return list(zip(images.split(BATCH), sample.labels[order].split(BATCH), strict=True))


@pytest.fixture(autouse=True)
def same_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both divide an L2 gradient by its length + 1e-10: ours the sum's, robustness the mean's, BATCH times shorter.

    So an image's attack does not depend here on how many others stand beside it. Without this the two part by 1e-10.
    """
    monkeypatch.setattr(norms, "_TINY", BATCH * 1e-10)


def _ours(model: nn.Module, recipe: Recipe, batches: list[tuple[Tensor, Tensor]]) -> Seen:
    """Trains `model` in place."""
    attacked = []
    step = make_step(model, recipe, optimizer_for(model, recipe))
    step.objective.register_forward_pre_hook(lambda _, args: attacked.append(args[1].detach().clone()))
    losses = [step(images, labels).loss / len(labels) for images, labels in batches]
    return list(zip(attacked, losses, strict=True))


def _theirs(
    robustness: Any, model: PixelModel, recipe: Recipe, batches: list[tuple[Tensor, Tensor]], use_best: bool = False
) -> Seen:
    """Trains `model`'s network in place: `_model_loop`, and the optimiser that `train_model` makes."""
    train = robustness.train
    args = train.Parameters(
        {
            "epochs": recipe.epochs, "lr": recipe.lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay,
            "step_lr": recipe.step_epochs, "step_lr_gamma": 0.1, "custom_lr_multiplier": None, "mixed_precision": 0,
            "adv_train": 1, "constraint": {"l2": "2", "linf": "inf"}[recipe.threat.norm], "eps": recipe.threat.eps,
            "attack_lr": recipe.attack_step_size * recipe.threat.eps, "attack_steps": recipe.attack_steps,
            "use_best": use_best, "random_restarts": 0, "random_start": 0, "custom_eps_multiplier": None,
        }
    )  # fmt: skip
    statistics = types.SimpleNamespace(mean=model.mean.flatten(), std=model.std.flatten())
    attacker, _ = robustness.model_utils.make_and_restore_model(
        arch=model.model, dataset=statistics, add_custom_forward=True
    )
    optimizer, _ = train.make_optimizer_and_schedule(args, attacker, None, None)
    outputs: list[tuple[Tensor, Tensor]] = []
    attacker.register_forward_hook(lambda _, args, output: outputs.append((output[0].detach(), output[1].detach())))
    _, mean_loss = train._model_loop(args, "train", batches, attacker, optimizer, 0, True, None)
    seen = [
        (images, F.cross_entropy(logits, labels).item())
        for (logits, images), (_, labels) in zip(outputs, batches, strict=True)
    ]
    assert mean_loss == pytest.approx(sum(loss for _, loss in seen) / UPDATES, abs=1e-12)  # what it says of itself
    return seen


def _assert_equal(ours: Seen, theirs: Seen, our_network: nn.Module, their_network: nn.Module) -> None:
    for update, ((our_images, our_loss), (their_images, their_loss)) in enumerate(zip(ours, theirs, strict=True)):
        image, loss = (our_images - their_images).abs().max().item(), abs(our_loss - their_loss)
        print(f"update {update}: largest difference of a pixel {image:.1e}, of the loss {loss:.1e}")
        assert image <= TOLERANCE and loss <= TOLERANCE
    expected = their_network.state_dict()
    for name, value in our_network.state_dict().items():
        assert (value - expected[name]).abs().max() <= TOLERANCE, name


@pytest.mark.parametrize("use_best", [False, True], ids=["last iterate", "best iterate"])
@pytest.mark.parametrize("norm", THREATS)
def test_three_updates_are_those_of_robustness(
    robustness: Any, clamp_of_2020: None, monkeypatch: pytest.MonkeyPatch, norm: str, use_best: bool
) -> None:
    """On images as they are. The best iterate is robustness' default; recipes take the last, pgd knows both."""
    (model, their_model, start), recipe = (_model() for _ in range(3)), _recipe(norm, use_best)
    theirs = _theirs(robustness, their_model, recipe, _batches(), use_best)
    if use_best:
        last = _ours(copy.deepcopy(model), recipe, _batches()[:1])
        differs = (last[0][0] - theirs[0][0]).abs().flatten(1).amax(1) > 1e-3
        print(f"the last iterate is not the best of {int(differs.sum())} images")
        assert differs.sum() >= 2, "the comparison means something only where best is not last"
        monkeypatch.setattr(passes, "pgd", partial(pgd, keep_best=True))
    _assert_equal(_ours(model, recipe, _batches()), theirs, model.model, their_model.model)
    moved = max((a - b).abs().max().item() for a, b in zip(model.parameters(), start.parameters(), strict=True))
    assert moved > 1e-3, "updates must be large against the tolerance"


@pytest.mark.parametrize("norm", THREATS)
def test_nothing_else_differs_where_no_pixel_is_saturated(robustness: Any, norm: str) -> None:
    """robustness and torch as they are today: the clamp inside the graph never acts."""
    model, their_model, recipe = _model(), _model(), _recipe(norm)
    theirs = _theirs(robustness, their_model, recipe, _batches(inside=True))
    assert all(0 < images.min() <= images.max() < 1 for images, _ in theirs)
    _assert_equal(_ours(model, recipe, _batches(inside=True)), theirs, model.model, their_model.model)


class _Clamped(nn.Module):
    """As robustness' InputNormalize: torch's clamp in the graph, whatever gradient it has today."""

    def __init__(self, model: PixelModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(torch.clamp(images, 0, 1))


@pytest.mark.parametrize("norm", THREATS)
def test_saturated_pixels_keep_their_gradient_here_and_lose_it_in_robustness(
    robustness: Any, gradient_at_the_bound: float, norm: str
) -> None:
    """As it is today, on images as they are. With a clamp before it our loop is theirs: the clamp is all there is."""
    model, their_model, recipe = _model(), _model(), _recipe(norm)
    free = _ours(copy.deepcopy(model), recipe, _batches()[:1])
    theirs = _theirs(robustness, their_model, recipe, _batches())
    _assert_equal(_ours(_Clamped(model), recipe, _batches()), theirs, model.model, their_model.model)

    images, _ = _batches()[0]
    saturated = (images == 0) | (images == 1)
    assert saturated.sum() > 20
    assert (free[0][0][saturated] != images[saturated]).double().mean() > 0.3  # the rest is pushed out of the box
    if gradient_at_the_bound == 0:
        assert torch.equal(theirs[0][0][saturated], images[saturated])
        length = (theirs[0][0] - images).flatten(1).norm(dim=1)
        difference = ((free[0][0] - theirs[0][0]).flatten(1).norm(dim=1) / length).max().item()
        print(
            f"{int(saturated.sum())} saturated values; largest relative difference of a perturbation {difference:.1%}"
        )
        assert difference > 1e-3
