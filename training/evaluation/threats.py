"""The threat model that a checkpoint is measured under when none is given."""

from __future__ import annotations

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel


def own_threat(checkpoint: Checkpoint, command: str) -> ThreatModel:
    """The threat model that a checkpoint was trained for.

    Args:
        checkpoint: Robust or standard.
        command: What follows `robust-zoo` in the advice, without --norm and --eps.

    Returns:
        Norm and radius, the radius above 0.

    Raises:
        UsageError: The checkpoint was trained for no radius.
    """
    if checkpoint.eps:
        return checkpoint.threat
    raise UsageError(
        f"{checkpoint.name} was trained for no radius",
        model=checkpoint.name,
        expected="--norm and --eps",
        actual="eps 0",
        next=f"robust-zoo {command} --norm linf --eps 4/255",
    )
