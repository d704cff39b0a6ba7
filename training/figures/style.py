"""How every figure looks: colours, dashes, sizes, one legend below, a file with the same bytes for the same figures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from robust_zoo.errors import not_installed
from robust_zoo.text import printable
from robust_zoo.threat import NORMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Look = dict[str, Any]  # what matplotlib's lines take: color, marker, linestyle

# Blue, vermilion, green, purple, black and sky blue, near those of Okabe and Ito (2008), but moved until each has
# a contrast of 3 on white, and no two come close for people who see no red, no green or no blue.
COLOURS = ("#004c84", "#d55e00", "#06824d", "#c878a2", "#1a1a1a", "#009ce5")
MARKERS = "osD^vPX"  # one more than colours: pairs of the two repeat after 42
INK = "#1a1a1a"  # of what is said of all lines
DPI = 150
SMALLEST = 9  # points: 19 pixels, still read where the picture is shown at half its size
STEPS = (1, 2, 5, 10)  # of ticks; 2.5 is no step between radii or per cents that anyone counts in
_LEGEND_LINE = 0.22  # inches
_METADATA: dict[str, dict[str, None] | None] = {  # what would differ from one day to the next
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".jpg": None,
}
FORMATS = tuple(_METADATA)
_RC = {
    "axes.edgecolor": "#777777",
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.xmargin": 0.07,
    "figure.titlesize": 12,
    "font.size": 10,
    "grid.alpha": 0.6,
    "grid.color": "#dddddd",
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 3.6,  # a dash is seen whole
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "svg.hashsalt": "robust_zoo",
    "text.color": INK,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
}


class Point(NamedTuple):
    """A figure in a picture: its place, and the ends of its interval."""

    x: float
    y: float
    low: float
    high: float


def check_installed() -> None:
    """Asked before the work whose picture is wanted. Raises UsageError: matplotlib is not installed."""
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise not_installed("plots need matplotlib", "matplotlib", "training") from None


@contextmanager
def picture(out: Path, width: float, height: float) -> Iterator[Figure]:
    """An empty figure in the house's style, saved on leaving; needs no display, and no one's matplotlibrc changes it.

    Args:
        out: The picture's file; its ending, one of FORMATS, decides the format.
        width: In inches.
        height: The same, without the legend.

    Yields:
        The figure to draw into.

    Raises:
        UsageError: matplotlib is not installed.

    Example:
        >>> with picture(Path("a.png"), 6, 4) as canvas:
        ...     canvas.subplots().plot([0, 1], [0, 1], **look(0))
    """
    check_installed()
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context(_RC, after_reset=True):
        canvas = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(canvas)
        yield canvas
        canvas.savefig(out, dpi=DPI, metadata=_METADATA[out.suffix.lower()])


def dash(number: int) -> Any:
    """The pattern of the n-th kind of line: whole, dashes, dots, then a dash and ever more dots between two."""
    return ("-", (0, (4.5, 1.8)), (0, (1.2, 1.4)))[number] if number < 3 else (0, (6, 2) + (1.2, 1.6) * (number - 2))


def look(number: int, kind: int | None = None) -> Look:
    """How the n-th of several things is drawn: never by its colour alone, and no two alike.

    Args:
        number: Which thing, from 0: decides colour and marker.
        kind: Which kind of line, from 0, where lines differ in two ways; decides the dash. None: the dash changes when
            colours begin again.

    Returns:
        Arguments of matplotlib's lines.
    """
    pattern = number // len(COLOURS) if kind is None else kind
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": dash(pattern),
    }


def looks(names: Sequence[str], first: int = 0) -> dict[str, Look]:
    """A look for each name, in their order, from the `first` on."""
    return {name: look(number, None) for number, name in enumerate(names, start=first)}


def curve(axes: Axes, points: Sequence[Point], words: str, how: Look, *, first: int = 0, shift: float = 0.0) -> None:
    """Draws figures joined by a line, each with its interval.

    Args:
        axes: Where.
        points: In the order of x.
        words: The line's name; the legend is `legend`'s.
        how: As `look` returns it.
        first: Of the points that are drawn; those before it are only where the line comes from.
        shift: To the right, in points of 1/72 inch, for lines that have figures at the same places.
    """
    from matplotlib.transforms import ScaledTranslation

    bars = [error_bar(p.y, (p.low, p.high)) for p in points]
    moved = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    how = how | {"label": label(words), "transform": moved, "markevery": (first, 1), "errorevery": (first, 1)}
    axes.errorbar(
        [p.x for p in points], [p.y for p in points], yerr=[*zip(*bars, strict=True)], capsize=3, elinewidth=1.2, **how
    )
    axes.update_datalim([(p.x, end) for p in points for end in (p.low, p.high)])  # which moved lines do not do
    axes.autoscale_view()


def percent(axes: Axes) -> None:
    """The whole of an axis of percentages, with room for the markers at its ends."""
    axes.set_ylim(-3, 103)
    axes.set_yticks(range(0, 101, 20))


def radius(norm: str, whose: str) -> str:
    """What an axis of radii says: one norm, and its unit.

    Args:
        norm: A name of NORMS.
        whose: Of what they are the radii.

    Returns:
        Such as "Linf radius of the attack, in 1/255".
    """
    row = NORMS[norm]
    return f"{row.label} radius {whose}" + (f", in 1/{row.unit}" if row.unit > 1 else "")


def legend(canvas: Figure, *groups: Mapping[str, Look]) -> None:
    """One legend for the whole picture, below it, where it hides nothing; the figure grows by its height.

    Args:
        canvas: The figure, drawn.
        groups: What each look means, in order; each group begins a row.
    """
    from matplotlib.lines import Line2D

    width, height = canvas.get_size_inches()
    longest = max((len(label(words)) for group in groups for words in group), default=0)
    columns = max(1, min(max(map(len, groups)), int(width / (0.085 * longest + 0.9))))
    handles: list[Line2D] = []
    for group in groups:
        handles += [Line2D([], [], label=label(words), **how) for words, how in group.items()]
        handles += [Line2D([], [], label=" ", linestyle="none") for _ in range(-len(handles) % columns)]
    by_row = [handle for column in range(columns) for handle in handles[column::columns]]  # matplotlib fills columns
    canvas.set_size_inches(width, height + _LEGEND_LINE * len(handles) / columns + 0.1)
    canvas.legend(handles=by_row, loc="outside lower center", ncols=columns)


def title(canvas: Figure, text: str, more: str = "") -> None:
    """The picture's own title, in as many lines as its width asks for.

    Args:
        canvas: The figure.
        text: What is seen.
        more: What is to be known of it, on a line of its own.
    """
    room = int(canvas.get_size_inches()[0] * 9.5)
    lines = [line for part in (text, more) if part for line in textwrap.wrap(label(part, limit=600), room)]
    canvas.suptitle("\n".join(lines), ha="left", x=0.01)


def label(text: object, limit: int = 100) -> str:
    """A text of anyone's as a label, a title or a line of a legend.

    Args:
        text: Any text.
        limit: The most characters that are shown.

    Returns:
        It, printable: matplotlib takes $ for mathematics, and leaves what begins with _ out of legends.
    """
    plain = printable(text, limit=limit).replace("$", r"\$")
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
