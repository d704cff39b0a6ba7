"""What may be believed, and why: figures measured and reported, hashes, licences, whose work the checkpoints are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from robust_zoo.describe import promise
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.robustness import figures
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.site.pages import Contents, Page
from robust_zoo.site.prose import markdown
from robust_zoo.site.words import STATES
from robust_zoo.training.recipes import Recipe, recipe_for

# What a file on a machine may be besides, which no row says.
LATER = {
    "vouched": "from a bundle, a site's cache, or a cache that others may write to: whoever made it says so",
    "first-seen": "no hash is public, you asked for it, and what came was noted",
}


def build(contents: Contents) -> list[Page]:
    """The page, and that of what can go wrong.

    Args:
        contents: Of the site.

    Returns:
        about.html; faults.html where the contents have faults.
    """
    rows = contents.checkpoints
    states, licences = Counter(map(promise, rows)), Counter(row.licence for row in rows)
    values = {
        "rows": rows,
        "robust": sum(row.eps > 0 for row in rows),
        "architectures": len({row.architecture for row in rows}),
        "states": [(state, words, states[state]) for state, words in STATES.items()],
        "later": LATER,
        "licences": licences.most_common(),
        "reporters": reporters(rows),
        "measured": [row for row in rows if row.measured],
        "figures_measured": sum(figure.measured for row in rows for figure in figures(row)),
        "collections": collections(rows),
        "faults": bool(contents.faults),
    }
    about = "What of robust_zoo was measured and what reported, how files are proven, under which licences they are."
    pages = [Page("about.html", "About", "about.html", values, about)]
    if contents.faults:
        title = contents.faults.partition("\n")[0].removeprefix("# ")
        pages.append(Page("faults.html", title, "faults.html", {"text": markdown(contents.faults)}))
    return pages


def reporters(rows: Sequence[Checkpoint]) -> list[tuple[str, int]]:
    """Who reported figures, and how many, the most first."""
    found = Counter(figure.by for row in rows for figure in figures(row) if not figure.measured)
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def collections(rows: Sequence[Checkpoint]) -> list[dict[str, Any]]:
    """Whose checkpoints they are, in the rows' order: the `collection`, how many, licences and who says so, recipes."""
    found: dict[str, list[Checkpoint]] = {}
    for row in rows:
        found.setdefault(row.collection.name, []).append(row)
    return [
        {
            "collection": own[0].collection,
            "count": len(own),
            "licences": sorted({(row.licence, row.licence_from) for row in own}),
            "recipes": _recipes(own),
            "citation": re.sub(r"(?<=\S) +", " ", own[0].collection.citation.strip()),
        }
        for own in found.values()
    ]


def _recipes(rows: Sequence[Checkpoint]) -> dict[str, Recipe]:
    """How they were trained, where it is known: of each recipe that of the largest radius, which has an attack."""
    known = (row for row in sorted(rows, key=lambda row: row.eps) if row.recipe in load_registry().recipes)
    return {row.recipe: recipe_for(row) for row in known}
