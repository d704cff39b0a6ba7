"""Figures: an empty one that needs no display, and `robust-zoo plot`: a run's curves, or several runs' together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_zoo.errors import UsageError, not_installed
from robust_zoo.text import printable
from robust_zoo.training.log import LOG, read_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg", ".jpg")  # of pictures
_CURVES = {"clean": ("clean", "-"), "single_step": ("one step", ":"), "pgd10": ("PGD-10", "--")}


def figure(width: float, height: float) -> Figure:
    """An empty figure that needs no display.

    Args:
        width: In inches.
        height: The same.

    Returns:
        The figure, to be drawn into and saved.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figures, canvases = drawing()
    empty = figures(figsize=(width, height), layout="constrained")
    canvases(empty)
    return empty


def drawing() -> tuple[Any, Any]:
    """What pictures are drawn with; called before the work whose picture is wanted.

    Returns:
        matplotlib's classes of figures, and of canvases without a display.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise not_installed("plots need matplotlib", "matplotlib", "training") from None
    return Figure, FigureCanvasAgg


def label(text: object) -> str:
    """A text of anyone's as a label, a title or a line of a legend.

    Args:
        text: Any text.

    Returns:
        It, printable: matplotlib takes $ for mathematics, and leaves what begins with _ out of legends.
    """
    plain = printable(text, limit=200).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def error_bar(value: float, interval: Sequence[float]) -> tuple[float, float]:
    """How far an interval reaches below and above its value.

    Args:
        value: A figure.
        interval: Its (low, high); at 0 and 100 % floating point puts an end a hair on the wrong side.

    Returns:
        Two lengths, neither below 0, as matplotlib wants them.
    """
    low, high = interval
    return max(0.0, value - low), max(0.0, high - value)


def plot(runs: Sequence[Path], out: Path) -> None:
    """Loss of every logged step on the left; held-out clean, single-step and PGD-10 accuracy by epoch on the right.

    Args:
        runs: The runs' directories; their folders' names are the labels.
        out: The picture's path; its ending decides the format.

    Raises:
        UsageError: A directory has no log, a broken one or nothing in it yet, or matplotlib is not installed.
    """
    canvas = figure(11, 4)
    losses, accuracies = canvas.subplots(1, 2)
    for colour, run in enumerate(runs):
        steps, epochs = _entries(run)
        name = label(run.resolve().name if run.name in ("", "..") else run.name)
        losses.plot([e["step"] for e in steps], [e["loss"] for e in steps], color=f"C{colour}", lw=0.8, label=name)
        threat = epochs[0].get("threat", "a radius that the log does not say") if epochs else ""
        for key, (said, style) in _CURVES.items():
            words = f"{name} {said}" if len(runs) > 1 else said
            words += f" at {label(threat)}" if said != "clean" else ""
            values = [e[key] for e in epochs]
            accuracies.plot([e["epoch"] for e in epochs], values, style, color=f"C{colour}", marker=".", label=words)
        for e in epochs:
            if "alarm" in e:
                accuracies.axvline(e["epoch"], color="red", lw=0.8)
    losses.set(xlabel="step", ylabel="training loss", yscale="log", title="loss of the images trained on")
    accuracies.set(xlabel="epoch", ylabel="%", ylim=(0, 100), title="held-out accuracy (red: alarm)")
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    canvas.savefig(out, dpi=130)


def _entries(run: Path) -> tuple[list[dict], list[dict]]:
    if not (run / LOG).is_file():
        raise UsageError(
            f"{run} is not a run",
            source=str(run),
            expected=f"a directory that holds {LOG}",
            actual="no such file",
            next="give the --out of a robust-zoo train",
        )
    steps = read_log(run, "step")
    if not steps:
        raise UsageError(
            f"{run} has nothing to plot yet", source=str(run / LOG), expected="at least one logged step", actual="none"
        )
    return steps, read_log(run, "epoch")
