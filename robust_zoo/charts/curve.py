"""Accuracy over radii as SVG text, for pages and for cards: the same points give the same text. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

from robust_zoo.charts.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LEGEND,
    LINE,
    SHADES,
    Frame,
    bottom_axis,
    mark,
    number,
    side_axis,
    svg,
)
from robust_zoo.registry.curves import Curve, Point
from robust_zoo.threat import NORMS


def eps_curve(
    curves: Sequence[Curve],
    norm: str,
    *,
    title: str,
    trained: float | None = None,
    across: str = "Radius of the attack",
    lowest: int = 0,
    standalone: bool = False,
) -> str:
    """Accuracy over radii, with 95 % intervals as bands.

    Args:
        curves: What is known, at least one point in all.
        norm: A name of NORMS: which radii these are.
        title: In words, above the chart.
        trained: The radius that the network was trained for, drawn as a line; None for none.
        across: What the radii are.
        lowest: The accuracy where the vertical axis begins, in percent: 0, or a ten below all points.
        standalone: Whether it is a file of its own: a card's picture.

    Returns:
        An <svg> element.
    """
    radii = {0.0, *(point.x for curve in curves for point in curve.points)} | ({trained} if trained else set())
    highest = 100 if not lowest else 10 * ceil(max(point.y for curve in curves for point in curve.points) / 10)
    lines = len(curves) + bool(trained)
    frame = Frame((0.0, max(radii) or 1.0), (lowest, highest), LEGEND + LINE * lines, root=True)
    ticks = {radius: NORMS[norm].spell(radius) for radius in radii}
    body = [
        side_axis(frame, "Accuracy, %", range(lowest, highest + 1, 10 if lowest else 20)),
        bottom_axis(frame, f"{across}, {NORMS[norm].label}", ticks),
    ]
    if trained:
        y, x = LEGEND + LINE * len(curves), number(frame.across(trained))
        words = f"trained for {NORMS[norm].spell(trained)}"
        body.append(f'<path class="rule" d="M{x} {number(frame.top)}V{HEIGHT - BOTTOM}M{LEFT} {y}h26"/>')
        body.append(f'<text class="quiet" x="{LEFT + 34}" y="{y + 5}">{words}</text>')
    body += [_curve(frame, curve, place) for place, curve in enumerate(curves)]
    body += [_legend(curve, place) for place, curve in enumerate(curves)]
    return svg(title, "".join(body), _in_words(curves, norm), standalone=standalone)


def _in_words(curves: Sequence[Curve], norm: str) -> str:
    """What a picture of curves shows, for those who do not see it."""

    def words(point: Point) -> str:
        return f"{point.y:.1f} % at {NORMS[norm].spell(point.x)}"

    return " ".join(f"{curve.label}: {', '.join(map(words, curve.points))}." for curve in curves)


def _curve(frame: Frame, curve: Curve, place: int) -> str:
    at = [(frame.across(point.x), frame.down(point.y)) for point in curve.points]
    drawn = []
    if curve.joined and len(at) > 1:
        known = [(frame.across(point.x), point.interval) for point in curve.points if point.interval]
        upper = [f"{number(x)} {number(frame.down(high))}" for x, (_, high) in known]
        lower = [f"{number(x)} {number(frame.down(low))}" for x, (low, _) in reversed(known)]
        drawn += [f'<path class="band" d="M{"L".join(upper + lower)}Z"/>'] if known else []
        drawn.append(f'<path class="line" d="M{"L".join(f"{number(x)} {number(y)}" for x, y in at)}"/>')
    else:
        drawn += [_bar(frame, point) for point in curve.points]
    drawn += [mark(x, y, place) for x, y in at]
    return f'<g class="{_classes(curve, place)}">{"".join(drawn)}</g>'


def _bar(frame: Frame, point: Point) -> str:
    if not point.interval:
        return ""
    low, high = (number(frame.down(value)) for value in point.interval)
    x, left = number(frame.across(point.x)), number(frame.across(point.x) - 5)
    return f'<path class="bar" d="M{x} {low}V{high}M{left} {low}h10M{left} {high}h10"/>'


def _classes(curve: Curve, place: int) -> str:
    return f"s{place % SHADES}" + ("" if curve.measured else " hollow")


def _legend(curve: Curve, place: int) -> str:
    y = LEGEND + LINE * place
    line = f'<path class="line" d="M{LEFT} {y}h26"/>' if curve.joined else ""
    return (
        f'<g class="{_classes(curve, place)}">{line}{mark(LEFT + 13, y, place)}</g>'
        f'<text x="{LEFT + 34}" y="{y + 5}">{escape(curve.label)}</text>'
    )
