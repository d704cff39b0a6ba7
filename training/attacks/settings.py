"""Attacks by name: of which stages each consists, and the settings that a figure under its name means. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robust_zoo.errors import unknown
from robust_zoo.training.choices import ATTACKS, PGD, go_together


@dataclass(frozen=True)
class StageSettings:
    """What one stage of an attack is told.

    Attributes:
        name: What it is called in results.
        attack: The function that carries it out: a row of attacks.suites.RUN.
        values: What that is given in every call.
    """

    name: str
    attack: str
    values: Mapping[str, Any]


_STANDARD = (
    StageSettings("apgd-ce", "apgd", {"loss": "ce", "steps": 100}),
    StageSettings("apgd-t", "apgd", {"loss": "dlr-targeted", "targets": 9, "steps": 100}),
    StageSettings("fab-t", "fab", {"targets": 9, "steps": 100}),
    StageSettings("square", "square", {"queries": 5000}),
)

SEQUENCES: dict[str, tuple[StageSettings, ...]] = {
    "none": (),
    "fgsm": (StageSettings("fgsm", "pgd", {"steps": 1, "relative_step": 1.0}),),
    **{stage.name: (stage,) for stage in _STANDARD},
    "autoattack": _STANDARD,  # Croce & Hein 2020, the standard version
}
go_together("training/attacks/settings.py", SEQUENCES, ATTACKS)
_PGD = re.compile(r"pgd-([1-9]\d{0,4})(?:x([1-9]\d{0,2}))?")


def stages(name: str) -> tuple[StageSettings, ...]:
    """The stages of an attack.

    Args:
        name: "none" (clean), "fgsm", "pgd-20" (steps; "pgd-20x5": five random restarts), "apgd-ce", "apgd-t", "fab-t",
            "square" or "autoattack".

    Returns:
        In the order they run.

    Raises:
        UsageError: No attack has this name; the error names the closest.
    """
    if match := _PGD.fullmatch(name):
        return (StageSettings(name, "pgd", {"steps": int(match[1]), "restarts": int(match[2] or 0)}),)
    if name not in SEQUENCES:
        about = "; ".join(f"{key}: {words}" for key, words in PGD.items())
        raise unknown("attack", name, [*SEQUENCES, "pgd-20"], next=f"--attack {{closest}}   ({about})")
    return SEQUENCES[name]


def settings(name: str) -> list[dict[str, Any]]:
    """What decides a figure under this name, as plain values.

    Args:
        name: An attack's, as `stages` takes it.

    Returns:
        For each stage its name, as "attack", and its settings.
    """
    return [{"attack": stage.name, **stage.values} for stage in stages(name)]


def in_words(name: str) -> str:
    """The settings in a line, as cards have them: "apgd-ce (loss ce, steps 100), then ...".

    Args:
        name: An attack's, as `stages` takes it.

    Returns:
        Words for a sentence, without a full stop.
    """
    if match := _PGD.fullmatch(name):
        steps, starts = match[1], f"{match[2]} random starts" if match[2] else "the image itself"
        return f"{steps} steps of 2.5 eps / {steps}, cross-entropy, from {starts}, until misclassified"
    return ", then ".join(
        f"{stage.name} ({', '.join(f'{key} {value}' for key, value in stage.values.items())})" for stage in stages(name)
    )
