"""A checkpoint's figures as tables of Markdown: what was measured here, attack by radius; what others reported."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.reported import Reported, attack_title
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown
from robust_zoo.threat import NORMS, ThreatModel

Rows = list[list[str]]


def figures(checkpoint: Checkpoint, results: str = "") -> str:
    """All accuracies that are known of a checkpoint, measured and reported ones apart.

    Args:
        checkpoint: Whose.
        results: Where the folder results/ is, for links to the evidence; "" leaves them out.

    Returns:
        Markdown of one or two sections, or a sentence that says there are none.
    """
    parts = []
    if checkpoint.measured:
        parts.append(f"### Measured here\n\n{_measured(checkpoint, results)}")
    if checkpoint.reported:
        parts.append(f"### Reported by others\n\n{_reported(checkpoint.reported)}")
    if checkpoint.clean is None:
        parts.append(f"Clean accuracy: {checkpoint.evidence}.")
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Rows, numbers: Collection[int] = ()) -> str:
    """A table of Markdown.

    Args:
        head: The columns' names.
        rows: A cell for each column; what is not ours went through `text.markdown`.
        numbers: The columns whose cells stand to the right, from 0.

    Returns:
        Its lines, without a line break at the end.
    """
    rule = ["---:" if i in numbers else "---" for i in range(len(head))]
    return "\n".join("".join(f"| {cell} " if cell else "| " for cell in cells) + "|" for cells in (head, rule, *rows))


def _reported(found: Sequence[Reported]) -> str:
    rows = []
    for f in found:
        images = (f"{f.n:,}" if f.n else "not said") + (f" of {f.size} px" if f.size else "")
        rows.append([markdown(f.title), f"{f.value:.2f} %", images, f"*reported by* {markdown(f.by)}"])
    return table(["figure", "accuracy", "images", "source"], rows)


def _measured(checkpoint: Checkpoint, results: str) -> str:
    """A table for each norm, the checkpoint's own first, then what their words mean."""
    found = checkpoint.measured
    where = f"{results}/{checkpoint.name}" if results else ""
    images = dict.fromkeys((m.data, m.n) for m in found)
    mixed = len({n for _, n in images}) < len(images)  # then a number does not say which
    norms = sorted({m.norm for m in found if m.norm}, key=lambda norm: (norm != checkpoint.norm, norm))
    clean = [m for m in found if m.threat is None]
    tables = []
    for number, norm in enumerate(norms or [checkpoint.norm]):
        here = [*([] if number else clean), *(m for m in found if m.norm == norm)]
        radii = sorted({m.threat for m in here if m.threat})
        columns: list[ThreatModel | None] = [*([None] if clean and not number else []), *radii]
        head = ["attack", "images", *(f"{NORMS[t.norm].label} {t.radius}" if t else "clean" for t in columns)]
        rows = []
        for line in _lines(here):
            first = next((m for m in line if m.threat), line[0])
            name = markdown(attack_title(first.attack)) if first.threat else "none"
            which = f"{first.n:,}" + (f"<br>{markdown(first.data)}" if mixed else "")
            cells = ["<br>".join(_cell(m, where) for m in line if m.threat == threat) for threat in columns]
            rows.append([name, which, *cells])
        tables.append(table(head, rows, numbers=range(1, len(head))))
    return "\n\n".join([*tables, _legend(found, bool(where))])


def _lines(found: Sequence[Measurement]) -> list[list[Measurement]]:
    """The table's lines: an attack on the same images. Most images first; of the same, the strongest attack last.

    A clean accuracy joins the first line of its images.
    """
    attacked: dict[tuple[str, int, str], list[Measurement]] = {}
    for m in found:
        if m.threat:
            attacked.setdefault((m.data, m.n, m.attack), []).append(m)

    def order(line: list[Measurement]) -> tuple[int, str, float, bool]:
        return -line[0].n, line[0].data, -sum(m.accuracy for m in line) / len(line), line[0].attack == "autoattack"

    lines = sorted(attacked.values(), key=order)
    alone: list[Measurement] = []
    for m in found:
        if m.threat is None:
            same = (line for line in lines if (line[0].data, line[0].n) == (m.data, m.n))
            next(same, alone).append(m)
    return sorted([*([m] for m in alone), *lines], key=lambda line: -line[0].n)


def _cell(m: Measurement, where: str) -> str:
    """A figure, small its interval, and the twelve digits of its evidence."""
    low, high = m.count.interval
    small = f"{low:.1f}-{high:.1f}"
    if m.digits:
        small += f"<br>[{m.digits}]({where}/{m.entry}.json)" if where else f"<br>{m.digits}"
    return f"{m.accuracy:.2f} %<br><sub>{small}</sub>"


def _legend(found: Sequence[Measurement], linked: bool) -> str:
    """What the table's words and digits mean, and all settings once."""
    proof = "an entry of results/, with every image's fate, the attack's settings, versions and the weights' sha256"
    codes = ", ".join(dict.fromkeys(markdown(m.code) for m in found if m.code))
    images = dict.fromkeys(f"{m.n:,} of {markdown(m.data).replace(f', {m.n} ', ', ')}" for m in found)
    sentences = [
        f"Images: {'; '.join(images)}.",
        "Small: the 95 % Wilson interval.",
        f"The twelve digits {'lead to' if linked else 'name'} {proof}." if any(m.digits for m in found) else "",
        f"Measured by {codes}." if codes else "",
    ]
    settings = dict.fromkeys((m.attack, m.settings) for m in found if m.settings)
    lines = [f"- {markdown(attack_title(attack))}: {markdown(words)}." for attack, words in settings]
    return "\n".join([" ".join(filter(None, sentences)), *(["", *lines] if lines else [])])
