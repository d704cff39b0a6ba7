"""What a training minimises, by name: the loss, the loss its attack raises, what they cost, and words for cards.

Torch is imported where losses are computed, so that recipes and cards can be read without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

_TRADES_START = 1e-3  # standard deviation of TRADES' first perturbation (Zhang et al. 2019, algorithm 1)


class Knobs(Protocol):
    """The fields of a recipe that objectives read."""

    @property
    def label_smoothing(self) -> float: ...

    @property
    def trades_beta(self) -> float: ...


@dataclass(frozen=True)
class AttackGoal:
    """What an objective's attack raises: arguments of training.attacks.pgd.pgd.

    Attributes:
        loss: A name of its LOSSES, or (logits, labels) -> (B,).
        start: (B, C, H, W), where it begins; None for the images.
    """

    loss: str | Callable[[Tensor, Tensor], Tensor] = "ce"
    start: Tensor | None = None


@dataclass(frozen=True)
class Objective:
    """A row of OBJECTIVES.

    Attributes:
        loss: (model, images, adv_images, labels, knobs) -> (mean loss (), logits of adv_images (B, K)).
        attack: (model, images) -> what the attack on these images raises.
        passes: Forward-sized pieces of work of an update, per image: a forward, and a backward to the weights as two.
        attack_passes: The same for making the attack's goal.
        words: For cards, before the attack's; with the recipe's fields to fill in.
    """

    loss: Callable[[nn.Module, Tensor, Tensor, Tensor, Any], tuple[Tensor, Tensor]]
    attack: Callable[[nn.Module, Tensor], AttackGoal] = lambda model, images: AttackGoal()
    passes: int = 3
    attack_passes: int = 0
    words: str = ""


def full(logits: Tensor) -> Tensor:
    """Logits in the type that losses are computed in, whatever autocast did before.

    Args:
        logits: (B, K), of any float type.

    Returns:
        (B, K) in fp64 where they were so, else in fp32.
    """
    return logits if str(logits.dtype) == "torch.float64" else logits.float()


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


def _trades_attack(model: nn.Module, images: Tensor) -> AttackGoal:
    """Away from the prediction on the images, from a point beside them."""
    import torch
    import torch.nn.functional as F

    with torch.no_grad():
        clean = full(model(images)).softmax(1)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.kl_div(logits.log_softmax(1), clean, reduction="none").sum(1)

    return AttackGoal(loss, images + _TRADES_START * torch.randn_like(images))


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


PLAIN = "adversarial"  # at eps 0 it is standard training, which every objective then is
OBJECTIVES: dict[str, Objective] = {
    PLAIN: Objective(_adversarial),
    "trades": Objective(_trades, _trades_attack, passes=6, attack_passes=1, words="TRADES (beta {trades_beta:g}), "),
}
