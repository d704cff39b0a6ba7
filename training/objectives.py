"""What a training minimises, by name: the loss, the points it is computed at, what they cost, and words for cards.

Torch is imported where losses are computed, so that recipes and cards can be read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robust_zoo.training.attacks import inner
from robust_zoo.training.attacks.inner import Knobs, full

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robust_zoo.training.attacks.pgd import Watch


@dataclass(frozen=True)
class Objective:
    """A row of OBJECTIVES.

    Attributes:
        loss: (model, images, adv_images, labels, knobs) -> (mean loss (), logits of adv_images (B, K)).
        attack: (model, images, labels, knobs, watch) -> adv_images: where the loss is computed (attacks.inner).
        passes: Forward-sized pieces of work of an update, per image: a forward, and a backward to the weights as two.
        attack_passes: The same of the attack, but for its gradient steps.
        words: For cards, before the attack's; with the recipe's fields to fill in.
        attack_words: For cards: the attack; with the recipe's fields, and its `size` and `start` in words.
        start: For cards: where the attack begins, if not at random.
        note: What a user of the weights should know besides; with the recipe's fields.
        bounded: Whether the recipe's radius bounds the attack; where not, it is what robustness is watched and
            measured under, and 0 is refused.
        refuses: Fields of a recipe that must be off, and why.
    """

    loss: Callable[[nn.Module, Tensor, Tensor, Tensor, Any], tuple[Tensor, Tensor]]
    attack: Callable[[nn.Module, Tensor, Tensor, Any, Watch | None], Tensor] = inner.steepest
    passes: int = 3
    attack_passes: int = 0
    words: str = ""
    attack_words: str = "PGD with {attack_steps} steps of {size} eps from {start}"
    start: str = "the image itself"
    note: str = ""
    bounded: bool = True
    refuses: Mapping[str, str] = field(default_factory=dict)


def _adversarial(
    model: nn.Module, images: Tensor, adv_images: Tensor, labels: Tensor, knobs: Knobs
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the adversarial images (Madry et al. 2018, eq. 2.1)."""
    import torch.nn.functional as F

    logits = full(model(adv_images))
    return F.cross_entropy(logits, labels, label_smoothing=knobs.label_smoothing), logits.detach()


def _trades(
    model: nn.Module, images: Tensor, adv_images: Tensor, labels: Tensor, knobs: Knobs
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the images + beta x KL(p(images) || p(adv_images)) (Zhang et al. 2019, eq. 5)."""
    import torch.nn.functional as F

    clean, adv = full(model(images)), full(model(adv_images))
    consistency = F.kl_div(adv.log_softmax(1), clean.softmax(1), reduction="batchmean")
    loss = F.cross_entropy(clean, labels, label_smoothing=knobs.label_smoothing)
    return loss + knobs.trades_beta * consistency, adv.detach()


def _arks(model: nn.Module, images: Tensor, adv_images: Tensor, labels: Tensor, knobs: Knobs) -> tuple[Tensor, Tensor]:
    """k(u, x) x the cross-entropy of u (Zhu et al. 2022); k is a number, by Danskin's theorem."""
    import torch.nn.functional as F

    from robust_zoo.training.attacks.supremal import log_kernel

    logits = full(model(adv_images))
    weight = log_kernel(adv_images, images, knobs.arks_sigma).exp().detach()
    return (weight * F.cross_entropy(logits, labels, reduction="none")).mean(), logits.detach()


def _regional(
    model: nn.Module, images: Tensor, adv_images: Tensor, labels: Tensor, knobs: Knobs
) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the target (1 - s d) one-hot + s d / K, where d is the point's distance in units of eps.

    The formula is robust_zoo's: of Song et al. 2021, who smooth labels by distance, the abstract alone could be had.
    """
    import torch.nn.functional as F

    from robust_zoo.training.attacks.norms import rules

    if not knobs.regional_smoothing:
        return _adversarial(model, images, adv_images, labels, knobs)
    logits = full(model(adv_images))
    distance = rules(knobs.threat.norm).size(adv_images - images).flatten() / knobs.threat.eps
    share = knobs.regional_smoothing * distance.clamp_max(1)
    loss = (1 - share) * F.cross_entropy(logits, labels, reduction="none") - share * logits.log_softmax(1).mean(1)
    return loss.mean(), logits.detach()


def penultimate(model: Any, images: Tensor) -> Tensor:
    """What a network's head is given.

    Args:
        model: A pixel-space model (pixels.PixelModel) around one of timm's, or with its methods.
        images: (B, C, H, W) float in [0, 1].

    Returns:
        Features (B, D).
    """
    maps = model.model.forward_features((images - model.mean) / model.std)
    return model.model.forward_head(maps, pre_logits=True)


def features_and_logits(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """What a network says before and after its head, of one pass.

    Args:
        model: As for `penultimate`.
        images: (B, C, H, W) float in [0, 1].

    Returns:
        The penultimate features (B, D) and the logits (B, K).
    """
    features = penultimate(model, images)
    return features, model.model.get_classifier()(features)


def keeping_features(source: nn.Module, weight: float) -> Objective:
    """Learning without forgetting (Shafahi et al. 2020, section 5): cross-entropy + weight x the distance of the
    penultimate features to the source's, the mean absolute difference over units and images.

    Args:
        source: The model that a fine-tuning started from, pixel-space and in eval mode; it stays as it is.
        weight: Of the distance; the paper's released recipe sums over 640 units, so that its 0.005 is 3.2 here.

    Returns:
        An objective like those of OBJECTIVES; it has no attack.
    """

    def loss(
        model: nn.Module, images: Tensor, adv_images: Tensor, labels: Tensor, knobs: Knobs
    ) -> tuple[Tensor, Tensor]:
        import torch
        import torch.nn.functional as F

        features, logits = map(full, features_and_logits(model, images))
        with torch.no_grad():
            kept = full(penultimate(source, images))
        mean = F.cross_entropy(logits, labels, label_smoothing=knobs.label_smoothing)
        return mean + weight * (features - kept).abs().mean(), logits.detach()

    return Objective(loss, passes=4)


PLAIN = "adversarial"  # at eps 0 it is standard training, which every objective but an unbounded one then is
OBJECTIVES: dict[str, Objective] = {
    PLAIN: Objective(_adversarial),
    "trades": Objective(
        _trades, inner.trades, passes=6, attack_passes=1, words="TRADES (beta {trades_beta:g}), ",
        start="a point beside the image",
    ),
    "arks": Objective(
        _arks, inner.arks, attack_passes=1, words="ARKS (sigma {arks_sigma:g}), ",
        attack_words="{attack_steps} steps of {arks_step:g} sigma^2 up log loss - distance^2 / (2 sigma^2) from the "
        "image itself, the best iterate kept and weighted by its kernel",
        note="Trained by ARKS (arXiv:2102.08474), which has no radius: its kernel's width is an L2 distance of "
        "{arks_sigma:g}, and {threat} is what it was watched and measured under. The search for each image's worst "
        "point is robust_zoo's, not the authors'.",
        bounded=False,
        refuses={
            "label_smoothing": "the search climbs the logarithm of the cross-entropy of one class",
            "random_start": "the search begins at the image",
        },
    ),
    "regional": Objective(
        _regional, inner.regional, words="regional (smoothing {regional_smoothing:g}), ",
        attack_words="a random point of the region spanned by the path of PGD with {attack_steps} steps of {size} eps "
        "from {start}",
        note="Trained in the manner of RAT (arXiv:2109.00678), of which the abstract alone could be had: how points "
        "are drawn and labels smoothed is robust_zoo's own, and no figure of the paper is claimed. Smoothed labels "
        "can hide gradients from PGD: judge it by AutoAttack.",
        refuses={"label_smoothing": "regional_smoothing is its own"},
    ),
}  # fmt: skip


def refused(recipe: Any) -> Iterator[tuple[str, str]]:
    """What in a recipe does not go with its objective, or with itself.

    Args:
        recipe: A robust_zoo.training.recipes.Recipe.

    Yields:
        A field, and what is expected of it.
    """
    row, whose = OBJECTIVES[recipe.objective], f"with objective = {recipe.objective!r}"
    for name, why in row.refuses.items():
        if on := getattr(recipe, name):
            yield name, f"{type(on)()!r} {whose}: {why}"
    if recipe.threat.eps and not recipe.attack_steps:
        yield "attack_steps", "a whole number >= 1 with a radius above 0; threat = {eps = 0} is standard training"
    if recipe.nesterov and not recipe.momentum:
        yield "nesterov", "False with momentum = 0, which leaves nothing to look ahead by"
    if not row.bounded and not recipe.threat.eps:
        yield "threat", f"{whose} a radius above 0, to watch and measure it under, such as {{eps = 0.5}}"
