"""Ways to run the passes of a training step, a row each. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """Which passes of a step inductor compiles.

    Attributes:
        attack: Those of the attack, through the folded model.
        update: That of the update, forward and back.
        words: For a line of a card; "" for what needs none.
    """

    attack: bool = False
    update: bool = False
    words: str = ""


EAGER = "eager"
WAYS: dict[str, Way] = {
    EAGER: Way(),
    "update": Way(update=True, words="the update compiled"),
    "attack": Way(attack=True, words="the attack compiled"),
    "all": Way(attack=True, update=True, words="attack and update compiled"),
}


def ways_of(attacked: bool) -> list[str]:
    """The ways that there are for a training.

    Args:
        attacked: Whether its images are.

    Returns:
        Names of WAYS, the eager one first.
    """
    return [name for name, way in WAYS.items() if name == EAGER or way.attack == attacked]


# What `--compile` takes, and what each means.
COMPILE: dict[str, str] = {
    "auto": "on a GPU the fastest way that passes the parity check on the first batch, on a CPU eager",
    "on": "the fastest on any device",
    "off": "eager",
}
