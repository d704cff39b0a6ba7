"""A scatter of accuracies as SVG text: who is on the front is marked and numbered. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from robust_zoo.charts.drawing import HEIGHT, LEFT, Frame, bottom_axis, number, side_axis, svg

_RULE = 10  # percent between ticks


@dataclass(frozen=True)
class Dot:
    """A mark.

    Attributes:
        x: In percent.
        y: In percent.
        weight: Its area: the number of parameters.
        label: What it is, in words.
        href: Where it leads.
        tag: Its number where it is on the front, "" elsewhere.
        measured: Whether this project measured it: then it is filled.
    """

    x: float
    y: float
    weight: float
    label: str
    href: str
    tag: str
    measured: bool


def scatter(dots: Sequence[Dot], *, title: str, across: str, up: str) -> str:
    """Two accuracies of many checkpoints.

    Args:
        dots: The checkpoints.
        title: In words, above the chart.
        across: What x is.
        up: What y is.

    Returns:
        An <svg> element; each mark is a link with its words.
    """
    frame = Frame(_ends([dot.x for dot in dots]), _ends([dot.y for dot in dots]), 58)
    ticks = [[*range(int(low), int(high) + 1, _RULE)] for low, high in (frame.x, frame.y)]
    largest = max(dot.weight for dot in dots)
    at = [
        (frame.across(dot.x), frame.down(dot.y), 3.5 + 7 * math.sqrt(dot.weight / largest), dot)
        for dot in sorted(dots, key=lambda dot: (bool(dot.tag), -dot.weight, dot.label))
    ]
    taken = [(x - r, y - r, x + r, y + r) for x, y, r, _ in at]
    body = [side_axis(frame, up, ticks[1]), bottom_axis(frame, across, {tick: f"{tick}" for tick in ticks[0]})]
    body += [_mark(x, y, r, dot) for x, y, r, dot in at]
    body += [_tag(x, y, r, dot.tag, taken) for x, y, r, dot in at if dot.tag]
    legend = f'<circle class="dot on" cx="{LEFT + 8}" cy="37" r="5"/><text x="{LEFT + 20}" y="42">on the front</text>'
    front = "; ".join(f"{dot.tag}: {dot.label}" for dot in dots if dot.tag)
    words = f"{len(dots)} checkpoints. On the front {front}."
    return svg(title, legend + "".join(body), words, role="group")


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The axis from a tick below the least to one above the greatest."""
    low, high = math.floor((min(values) - 2) / _RULE) * _RULE, math.ceil((max(values) + 2) / _RULE) * _RULE
    return max(0.0, low), min(100.0, high)


def _mark(x: float, y: float, radius: float, dot: Dot) -> str:
    kind = f"dot{' on' if dot.tag else ''}{' full' if dot.measured else ''}"
    return (
        f'<a href="{escape(dot.href)}" tabindex="-1"><circle class="{kind}" cx="{number(x)}" cy="{number(y)}" '
        f'r="{number(radius)}"><title>{escape(dot.label)}</title></circle></a>'
    )


def _tag(x: float, y: float, radius: float, tag: str, taken: list[tuple[float, float, float, float]]) -> str:
    """The number beside a mark, where it covers the least of what is there."""
    width, height, gap = 7.5 * len(tag), 12, radius + 3

    def covered(box: tuple[float, float, float, float]) -> float:
        return sum(
            max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
            * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
            for other in taken
        ) + 1e3 * (box[3] > HEIGHT - 60)

    corners = [
        (x + gap, y - height / 2), (x - width / 2, y - gap - height), (x - gap - width, y - height / 2),
        (x - width / 2, y + gap), (x + gap, y - gap - height / 2), (x - gap - width, y - gap - height / 2),
        (x + gap, y + gap - height / 2), (x - gap - width, y + gap - height / 2),
    ]  # fmt: skip
    box = min(((left, top, left + width, top + height) for left, top in corners), key=covered)
    taken.append(box)
    return f'<text class="tag" x="{number(box[0])}" y="{number(box[3] - 1)}">{tag}</text>'
