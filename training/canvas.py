"""An empty figure that needs no display."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robust_zoo.errors import not_installed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(width: float, height: float) -> Figure:
    """width, height: in inches. Raises UsageError when matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise not_installed("plots need matplotlib", "matplotlib", "training") from None
    empty = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(empty)
    return empty
