"""A card's picture: what was measured of a checkpoint over the radius of the attack. No matplotlib."""

from __future__ import annotations

from robust_zoo.charts.curve import eps_curve
from robust_zoo.registry.curves import eps_curves
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import printable


def curve(checkpoint: Checkpoint) -> str:
    """The picture, in the norm that the checkpoint was trained for.

    Args:
        checkpoint: Whose.

    Returns:
        An SVG file's text; "" where no attack was measured at two radii or more.
    """
    curves = eps_curves(checkpoint, checkpoint.norm)
    if not any(curve.joined and curve.measured for curve in curves):
        return ""
    trained = checkpoint.eps or None
    text = eps_curve(curves, checkpoint.norm, title=checkpoint.name, trained=trained, standalone=True)
    return printable(text, keep="\n", limit=None)  # XML has no room for control characters
