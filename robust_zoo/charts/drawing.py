"""What charts are drawn with: a frame, axes, marks, colours, as SVG text. No torch, no matplotlib.

A chart in a page takes its colours from the page (`RULES` are in its style sheet); one that stands alone carries them,
for light and for dark, on a ground of its own. Shape and dash tell curves apart as well as colour does. A measured
figure is a filled mark, a reported one a hollow mark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 360  # of a chart's own units; letters have 15, so that half the size is readable
LEFT, RIGHT, BOTTOM = 58, 32, 56  # room for what stands at the axes
LEGEND, LINE = 34, 22  # where a legend begins, and the height of its lines
SHADES = 4  # colours; the fifth curve begins again
_LIGHT = (
    "--chart-ink:#1c1e21;--chart-quiet:#5b6168;--chart-grid:#e3e5e8;--chart-paper:#fff;"
    "--chart-0:#004c84;--chart-1:#d55e00;--chart-2:#06824d;--chart-3:#c878a2"
)
_DARK = (
    "--chart-ink:#e9eaec;--chart-quiet:#a4abb3;--chart-grid:#33383e;--chart-paper:#16181b;"
    "--chart-0:#44dcff;--chart-1:#f29b3e;--chart-2:#9fca97;--chart-3:#a37293"
)
_SHAPES = (
    ".chart{font:15px system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;fill:var(--chart-ink)}"
    ".chart .quiet{fill:var(--chart-quiet)}.chart .name{font-weight:600}"
    ".chart .grid{stroke:var(--chart-grid)}.chart .axis{stroke:var(--chart-quiet)}"
    ".chart .rule{stroke:var(--chart-quiet);stroke-width:1.5;stroke-dasharray:2 4}"
    ".chart .line{fill:none;stroke-width:2.5;stroke-linejoin:round}.chart .band{opacity:.18}"
    ".chart .bar{stroke-width:2;fill:none}.chart .mark{stroke-width:2.5}.chart .s1 .line{stroke-dasharray:8 4}"
    ".chart .s2 .line{stroke-dasharray:2 4}.chart .s3 .line{stroke-dasharray:9 4 2 4}"
    + "".join(
        f".chart .s{i} .line,.chart .s{i} .bar,.chart .s{i} .mark{{stroke:var(--chart-{i})}}"
        f".chart .s{i} .band,.chart .s{i} .mark{{fill:var(--chart-{i})}}"
        for i in range(SHADES)
    )
    + ".chart .hollow .mark{fill:var(--chart-paper)}"
    ".chart .dot{fill:var(--chart-paper);fill-opacity:.6;stroke:var(--chart-0);stroke-width:1.5}"
    ".chart .full{fill:var(--chart-0);fill-opacity:1}.chart .on{stroke:var(--chart-1);stroke-width:2.5}"
    ".chart .on.full{fill:var(--chart-1)}.chart .tag{font-size:12px;font-weight:600}"
)
# What a page's style sheet needs for charts; paper is always light.
RULES = (
    f":root{{{_LIGHT}}}\n@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{_DARK}}}}}\n"
    f"@media screen{{:root[data-theme=dark]{{{_DARK}}}}}\n{_SHAPES}\n"
)
_ALONE = f".chart{{{_LIGHT}}}@media (prefers-color-scheme:dark){{.chart{{{_DARK}}}}}{_SHAPES}"


@dataclass(frozen=True)
class Frame:
    """Where values are in a chart.

    Attributes:
        x: The ends of the horizontal axis, as values.
        y: Of the vertical one.
        top: Where the axes begin, below title and legend.
        root: Whether x is drawn by its square root: small radii are apart from 0, large ones fit.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    top: float
    root: bool = False

    def across(self, value: float) -> float:
        """The horizontal place of a value."""
        low, high, value = (math.sqrt(v) if self.root else v for v in (*self.x, value))
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def down(self, value: float) -> float:
        """The vertical place of a value."""
        low, high = self.y
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - self.top) * (value - low) / (high - low)


def number(value: float) -> str:
    """A coordinate, short: "58", "103.4"."""
    return f"{value:.1f}".removesuffix(".0")


def svg(title: str, body: str, description: str, *, role: str = "img", standalone: bool = False) -> str:
    """An <svg> element around what is drawn.

    Args:
        title: Above it, and its name to a screen reader.
        body: What is drawn.
        description: The same in words.
        role: "img", or "group" where there are links in it.
        standalone: Whether it is a file of its own.

    Returns:
        The element.
    """
    inside = f'<text class="name" x="12" y="20">{escape(title)}</text>{body}</svg>\n'
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="{role}"'
    if not standalone:
        return f'{head} aria-label="{escape(f"{title}. {description}")}">{inside}'
    return (
        f'{head} xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc><style>{_ALONE}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="var(--chart-paper)"/>{inside}'
    )


def side_axis(frame: Frame, name: str, ticks: Sequence[float]) -> str:
    """The vertical axis: lines across, their numbers, the axis' name."""
    lines = "".join(f"M{LEFT} {number(frame.down(tick))}H{WIDTH - RIGHT}" for tick in ticks)
    texts = "".join(
        f'<text class="quiet" x="{LEFT - 8}" y="{number(frame.down(tick) + 5)}" text-anchor="end">{tick:g}</text>'
        for tick in ticks
    )
    middle = number((frame.top + HEIGHT - BOTTOM) / 2)
    return (
        f'<path class="grid" d="{lines}"/>{texts}'
        f'<text class="quiet" transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(name)}</text>'
    )


def bottom_axis(frame: Frame, name: str, ticks: Mapping[float, str]) -> str:
    """The horizontal axis: a line, ticks, their words where there is room, the axis' name.

    Args:
        frame: Where values are.
        name: What the values are.
        ticks: Value -> how it is written.

    Returns:
        SVG.
    """
    y, texts, last = HEIGHT - BOTTOM, [], -math.inf
    for value, words in sorted(ticks.items()):
        x, half = frame.across(value), 4.3 * len(words)
        if x - half > last + 6:
            texts.append(f'<text class="quiet" x="{number(x)}" y="{y + 20}" text-anchor="middle">{words}</text>')
            last = x + half
    marks = "".join(f"M{number(frame.across(value))} {y}v5" for value in sorted(ticks))
    middle = number((LEFT + WIDTH - RIGHT) / 2)
    return (
        f'<path class="axis" d="M{LEFT} {y}H{WIDTH - RIGHT}{marks}"/>{"".join(texts)}'
        f'<text class="quiet" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(name)}</text>'
    )


def mark(x: float, y: float, place: int) -> str:
    """The mark of a curve: a circle, a diamond, a square or a triangle."""
    shapes = (
        f'<circle class="mark" cx="{number(x)}" cy="{number(y)}" r="4"/>',
        f'<path class="mark" d="M{number(x)} {number(y - 6)}l6 6-6 6-6-6z"/>',
        f'<path class="mark" d="M{number(x - 4)} {number(y - 4)}h8v8h-8z"/>',
        f'<path class="mark" d="M{number(x)} {number(y - 5)}l5 9h-10z"/>',
    )
    return shapes[place % SHADES]
