"""Charts as SVG text, for pages and for cards: the same points give the same text. No torch, no matplotlib.

A chart in a page takes its colours from the page (`RULES` are in its style sheet); one that stands alone carries them,
for light and for dark, on a ground of its own. Shape and dash tell curves apart as well as colour does. A measured
figure is a filled mark, a reported one a hollow mark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from robust_zoo.registry.curves import Curve, Point
from robust_zoo.threat import NORMS

WIDTH, HEIGHT = 520, 360  # of a chart's own units; letters have 15, so that half the size is readable
_LEFT, _RIGHT, _BOTTOM = 58, 32, 56  # room for what stands at the axes
_SHADES = 3  # colours; the fourth curve begins again
_LIGHT = (
    "--chart-ink:#1c1e21;--chart-quiet:#5b6168;--chart-grid:#e3e5e8;--chart-paper:#fff;"
    "--chart-0:#0b62a4;--chart-1:#c44f00;--chart-2:#00785a"
)
_DARK = (
    "--chart-ink:#e9eaec;--chart-quiet:#a4abb3;--chart-grid:#33383e;--chart-paper:#16181b;"
    "--chart-0:#6cb6f0;--chart-1:#f0944d;--chart-2:#4ec9a4"
)
_SHAPES = (
    ".chart{font:15px system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;fill:var(--chart-ink)}"
    ".chart .quiet{fill:var(--chart-quiet)}.chart .name{font-weight:600}"
    ".chart .grid{stroke:var(--chart-grid);stroke-width:1}.chart .axis{stroke:var(--chart-quiet);stroke-width:1}"
    ".chart .rule{stroke:var(--chart-quiet);stroke-width:1.5;stroke-dasharray:2 4}"
    ".chart .line{fill:none;stroke-width:2.5;stroke-linejoin:round}.chart .s1 .line{stroke-dasharray:7 4}"
    ".chart .s2 .line{stroke-dasharray:2 4}.chart .band{stroke:none;opacity:.18}"
    ".chart .bar{stroke-width:2;fill:none}.chart .mark{stroke-width:2.5}"
    + "".join(
        f".chart .s{i} .line,.chart .s{i} .bar,.chart .s{i} .mark{{stroke:var(--chart-{i})}}"
        f".chart .s{i} .band,.chart .s{i} .mark{{fill:var(--chart-{i})}}"
        for i in range(_SHADES)
    )
    + ".chart .hollow .mark{fill:var(--chart-paper)}"
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
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)

    def down(self, value: float) -> float:
        """The vertical place of a value."""
        low, high = self.y
        return HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - self.top) * (value - low) / (high - low)


def eps_curve(
    curves: Sequence[Curve], norm: str, *, title: str, trained: float | None = None, standalone: bool = False
) -> str:
    """Accuracy against the radius of an attack, with 95 % intervals as bands.

    Args:
        curves: What is known, at least one point in all.
        norm: A name of NORMS: which radii these are.
        title: In words, above the chart.
        trained: The radius that the network was trained for, drawn as a line; None for none.
        standalone: Whether it is a file of its own: a card's picture.

    Returns:
        An <svg> element.
    """
    radii = sorted({point.x for curve in curves for point in curve.points} | ({trained} if trained else set()))
    frame = Frame((0.0, max(radii) or 1.0), (0.0, 100.0), 34 + 22 * (len(curves) + bool(trained)), root=True)
    body = [_y_axis(frame, "Accuracy, %", range(0, 101, 20)), _radii(frame, norm, radii)]
    if trained:
        x = frame.across(trained)
        body.append(f'<path class="rule" d="M{_n(x)} {_n(frame.top)}V{_n(HEIGHT - _BOTTOM)}"/>')
    body += [_curve(frame, curve, number) for number, curve in enumerate(curves)]
    body += [_legend(curve, number, 34 + 22 * number) for number, curve in enumerate(curves)]
    if trained:
        y = 34 + 22 * len(curves)
        body.append(f'<path class="rule" d="M{_LEFT} {y}h26"/>')
        body.append(f'<text class="quiet" x="{_LEFT + 34}" y="{y + 5}">trained for {NORMS[norm].spell(trained)}</text>')
    return svg(title, "".join(body), describe(curves, norm), standalone=standalone)


def describe(curves: Sequence[Curve], norm: str) -> str:
    """What a picture of curves shows, in words, for those who do not see it."""

    def words(point: Point) -> str:
        return f"{point.y:.1f} % at {NORMS[norm].spell(point.x) if point.x else 'no attack'}"

    return " ".join(f"{curve.label}: {', '.join(map(words, curve.points))}." for curve in curves)


def svg(title: str, body: str, description: str, *, height: int = HEIGHT, standalone: bool = False) -> str:
    """An <svg> element around what is drawn.

    Args:
        title: Above it, and its name to a screen reader.
        body: What is drawn.
        description: The same in words.
        height: In the chart's units.
        standalone: Whether it is a file of its own.

    Returns:
        The element.
    """
    alone = (
        f' xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"><style>{_ALONE}</style>'
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="var(--chart-paper)"/>'
        if standalone
        else ">"
    )
    heading = f'<text class="name" x="12" y="20">{escape(title)}</text>'
    about = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>" if standalone else ""
    label = f' aria-label="{escape(f"{title}. {description}")}"' if not standalone else ""
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img"{label}{alone}{about}{heading}{body}</svg>\n'


def _n(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.1f}".removesuffix(".0")


def _y_axis(frame: Frame, name: str, ticks: Sequence[float]) -> str:
    lines = "".join(f"M{_LEFT} {_n(frame.down(tick))}H{WIDTH - _RIGHT}" for tick in ticks)
    texts = "".join(
        f'<text class="quiet" x="{_LEFT - 8}" y="{_n(frame.down(tick) + 5)}" text-anchor="end">{tick:g}</text>'
        for tick in ticks
    )
    middle = _n((frame.top + HEIGHT - _BOTTOM) / 2)
    return (
        f'<path class="grid" d="{lines}"/>{texts}'
        f'<text class="quiet" transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(name)}</text>'
    )


def _x_name(name: str) -> str:
    return (
        f'<text class="quiet" x="{_n((_LEFT + WIDTH - _RIGHT) / 2)}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{escape(name)}</text>"
    )


def _radii(frame: Frame, norm: str, radii: Sequence[float]) -> str:
    """Ticks at the radii themselves, named where there is room."""
    y, texts, last = HEIGHT - _BOTTOM, [], -math.inf
    for radius in sorted({0.0, *radii}):
        x, words = frame.across(radius), NORMS[norm].spell(radius)
        half = 4.3 * len(words)
        if x - half > last + 6:
            texts.append(f'<text class="quiet" x="{_n(x)}" y="{y + 20}" text-anchor="middle">{words}</text>')
            last = x + half
    marks = "".join(f"M{_n(frame.across(radius))} {y}v5" for radius in sorted({0.0, *radii}))
    return f'<path class="axis" d="M{_LEFT} {y}H{WIDTH - _RIGHT}{marks}"/>{"".join(texts)}' + _x_name(
        f"Radius of the attack, {NORMS[norm].label}"
    )


def _curve(frame: Frame, curve: Curve, number: int) -> str:
    at = [(frame.across(point.x), frame.down(point.y)) for point in curve.points]
    drawn = []
    if curve.joined and len(at) > 1:
        known = [(point, interval) for point in curve.points if (interval := point.interval)]
        upper = [f"{_n(frame.across(p.x))} {_n(frame.down(high))}" for p, (_, high) in known]
        lower = [f"{_n(frame.across(p.x))} {_n(frame.down(low))}" for p, (low, _) in reversed(known)]
        drawn += [f'<path class="band" d="M{"L".join(upper + lower)}Z"/>'] if known else []
        drawn.append(f'<path class="line" d="M{"L".join(f"{_n(x)} {_n(y)}" for x, y in at)}"/>')
    else:
        drawn += [_bar(frame, point) for point in curve.points]
    drawn += [mark(x, y, number) for x, y in at]
    return f'<g class="{_classes(curve, number)}">{"".join(drawn)}</g>'


def _bar(frame: Frame, point: Point) -> str:
    if not point.interval:
        return ""
    low, high = (_n(frame.down(value)) for value in point.interval)
    x = frame.across(point.x)
    return f'<path class="bar" d="M{_n(x)} {low}V{high}M{_n(x - 5)} {low}h10M{_n(x - 5)} {high}h10"/>'


def _classes(curve: Curve, number: int) -> str:
    return f"s{number % _SHADES}" + ("" if curve.measured else " hollow")


def mark(x: float, y: float, number: int) -> str:
    """The mark of a curve: a circle, a diamond or a square."""
    if number % _SHADES == 0:
        return f'<circle class="mark" cx="{_n(x)}" cy="{_n(y)}" r="4"/>'
    if number % _SHADES == 1:
        return f'<path class="mark" d="M{_n(x)} {_n(y - 6)}l6 6-6 6-6-6z"/>'
    return f'<path class="mark" d="M{_n(x - 4)} {_n(y - 4)}h8v8h-8z"/>'


def _legend(curve: Curve, number: int, y: float) -> str:
    line = f'<path class="line" d="M{_LEFT} {y}h26"/>' if curve.joined else ""
    return (
        f'<g class="{_classes(curve, number)}">{line}{mark(_LEFT + 13, y, number)}</g>'
        f'<text x="{_LEFT + 34}" y="{y + 5}">{escape(curve.label)}</text>'
    )
