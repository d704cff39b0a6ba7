"""The attacks by name, with the settings that a figure under each name means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from robust_zoo.errors import unknown
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.apgd import apgd
from robust_zoo.training.attacks.fab import fab_targeted
from robust_zoo.training.attacks.pgd import pgd_until_wrong
from robust_zoo.training.attacks.square import square
from robust_zoo.training.choices import ATTACKS, PGD, go_together


@dataclass(frozen=True)
class Stage:
    """One attack of a suite.

    Attributes:
        name: What it is called in results.
        run: (model, images, labels, threat, seed=, poll=, **settings) -> adv_images, which are the images themselves
            where nothing was found.
        settings: What `run` is given in every call.
    """

    name: str
    run: Callable[..., Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, **how: Any) -> Tensor:
        return self.run(model, images, labels, threat, **self.settings, **how)


def _without_seed(attack: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(*args: Any, seed: int = 0, **kwargs: Any) -> Tensor:
        return attack(*args, **kwargs)

    return run


_STANDARD = (
    Stage("apgd-ce", apgd, {"loss": "ce", "steps": 100}),
    Stage("apgd-t", apgd, {"loss": "dlr-targeted", "targets": 9, "steps": 100}),
    Stage("fab-t", _without_seed(fab_targeted), {"targets": 9, "steps": 100}),
    Stage("square", square, {"queries": 5000}),
)


SUITES: dict[str, tuple[Stage, ...]] = {
    "none": (),
    "fgsm": (Stage("fgsm", pgd_until_wrong, {"steps": 1, "relative_step": 1.0}),),
    **{stage.name: (stage,) for stage in _STANDARD},
    "autoattack": _STANDARD,  # Croce & Hein 2020, the standard version
}
go_together("training/attacks/suites.py", SUITES, ATTACKS)
_PGD = re.compile(r"pgd-([1-9]\d{0,4})(?:x([1-9]\d{0,2}))?")


def suite(name: str) -> tuple[Stage, ...]:
    """The stages of an attack.

    Args:
        name: "none" (clean), "fgsm", "pgd-20" (steps; "pgd-20x5": five random restarts), "apgd-ce", "apgd-t", "fab-t",
            "square" or "autoattack".

    Returns:
        Its attacks, in the order they run.

    Raises:
        UsageError: No attack has this name; the error names the closest.
    """
    if match := _PGD.fullmatch(name):
        return (Stage(name, pgd_until_wrong, {"steps": int(match[1]), "restarts": int(match[2] or 0)}),)
    if name not in SUITES:
        about = "; ".join(f"{key}: {words}" for key, words in PGD.items())
        raise unknown("attack", name, [*SUITES, "pgd-20"], next=f"--attack {{closest}}   ({about})")
    return SUITES[name]


def settings(name: str) -> list[dict[str, Any]]:
    """What decides a figure under this name, as plain values.

    Args:
        name: An attack's, as `suite` takes it.

    Returns:
        For each stage its name, as "attack", and its settings.
    """
    return [{"attack": stage.name, **stage.settings} for stage in suite(name)]


def in_words(name: str) -> str:
    """The settings in a line, as cards have them: "apgd-ce (loss ce, steps 100), then ...".

    Args:
        name: An attack's, as `suite` takes it.

    Returns:
        Words for a sentence, without a full stop.
    """
    if match := _PGD.fullmatch(name):
        steps, starts = match[1], f"{match[2]} random starts" if match[2] else "the image itself"
        return f"{steps} steps of 2.5 eps / {steps}, cross-entropy, from {starts}, until misclassified"
    return ", then ".join(
        f"{stage.name} ({', '.join(f'{key} {value}' for key, value in stage.settings.items())})"
        for stage in suite(name)
    )
