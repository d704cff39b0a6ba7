"""`robust-zoo plot`: a run's curves, or several runs' together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_zoo.counts import Count
from robust_zoo.errors import UsageError
from robust_zoo.training.figures.style import INK, Look, dash, label, legend, look, percent, picture, title
from robust_zoo.training.log import LOG, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = {"clean": "clean", "single_step": "one step", "pgd10": "PGD-10"}
_ALARM: Look = {"color": INK, "marker": "X", "markersize": 10, "linestyle": "none", "markerfacecolor": "none"}
_MARKS = 9  # on a line of many points


def plot(runs: Sequence[Path], out: Path) -> None:
    """Loss of every logged step on the left; held-out clean, single-step and PGD-10 accuracy by epoch on the right.

    Args:
        runs: The runs' directories; their folders' names are the labels.
        out: The picture's path; its ending decides the format.

    Raises:
        UsageError: A directory has no log, a broken one or nothing in it yet, or matplotlib is not installed.
    """
    logs = [(_name(run), *_entries(run)) for run in runs]
    several = len(logs) > 1
    with picture(out, 12, 4.6) as canvas:
        losses, accuracies = canvas.subplots(1, 2)
        lines: dict[str, Look] = {}  # what looks mean, in the legend's two rows
        also: dict[str, Look] = {}
        for number, (name, steps, epochs) in enumerate(logs):
            run: Look = look(number, 0) if several else {"color": INK}
            _line(losses, [e["step"] for e in steps], [e["loss"] for e in steps], name, run | {"linewidth": 1.0})
            if several:
                lines[f"{name}, attacks at {_threat(epochs)}" if epochs else name] = run
            for kind, (key, said) in enumerate(_KINDS.items() if epochs else ()):
                words = said if key == "clean" else f"{said} at {_threat(epochs)}"
                how = look(number if several else kind, kind)
                _accuracy(accuracies, epochs, key, f"{name} {words}" if several else words, how)
                if not several:
                    lines[words] = how
            alarms = [e for e in epochs if "alarm" in e]
            accuracies.plot([e["epoch"] for e in alarms], [e["clean"] for e in alarms], **_ALARM)
        if several:
            also = {said: {"color": INK, "linestyle": dash(kind)} for kind, said in enumerate(_KINDS.values())}
        if any("alarm" in e for *_, epochs in logs for e in epochs):
            also["alarm"] = _ALARM
        losses.set(
            xlabel="step", ylabel="training loss, log scale", yscale="log", title="Loss on the images trained on"
        )
        ticks = log_ticks(*losses.get_ylim())
        losses.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        losses.set_yticks([], minor=True)
        bands = " (bands: 95 % interval)" if accuracies.collections else ""
        accuracies.set(xlabel="epoch", ylabel="accuracy, %", title=f"Accuracy on held-out images{bands}")
        percent(accuracies)
        title(canvas, f"Training curves of {len(logs)} runs" if several else f"Training curves of {logs[0][0]}")
        legend(canvas, lines, also)


def _threat(epochs: Sequence[dict[str, Any]]) -> str:
    """What the attacks of a run were allowed."""
    return epochs[0].get("threat", "a radius that the log does not say")


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], words: str, how: Look) -> None:
    """Many points, a few of them marked."""
    axes.plot(x, y, label=label(words), markevery=max(1, len(x) // _MARKS), **how)


def _accuracy(axes: Axes, epochs: Sequence[dict[str, Any]], key: str, words: str, how: Look) -> None:
    """One curve, and the interval of its images where the log says how many they were."""
    x, y = [e["epoch"] for e in epochs], [e[key] for e in epochs]
    _line(axes, x, y, words, how)
    if key != "clean" and y == [e["clean"] for e in epochs]:
        return  # a radius of 0; the band is there
    counts = [Count(round(e[key] * e["n"] / 100), e["n"]) for e in epochs if type(e.get("n")) is int and e["n"] > 0]
    if len(counts) == len(x):
        low, high = [c.interval[0] for c in counts], [c.interval[1] for c in counts]
        axes.fill_between(x, low, high, color=how["color"], alpha=0.12, linewidth=0)


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis: few of many decades, several of a part of one.

    Args:
        low: The axis' lower end, above 0.
        high: Its upper end.

    Returns:
        Three or more where a tenth of a decade is coarse enough for it, in order.
    """
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), [d / 10 for d in range(10, 100)]):
        found = [d * 10.0**power for power in range(-12, 13) for d in digits if low <= d * 10.0**power <= high]
        if len(found) >= 3:
            break
    return found


def _name(run: Path) -> str:
    return run.resolve().name if run.name in ("", "..") else run.name


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
