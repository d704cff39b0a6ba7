"""The reference of the Python interface: all that users import, and the types that these name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import robust_zoo
from robust_zoo import home, training, visualization
from robust_zoo.site.docstrings import Sources, read
from robust_zoo.site.entries import Entry
from robust_zoo.site.pages import Contents, Page
from robust_zoo.site.prose import docstring, python

PATH = "api.html"
_PACKAGES = (robust_zoo, training, visualization)
_KINDS = {"function": "function", "class": "class", "dataclass": "dataclass", "attribute": "value"}
# What users are told of, beside what the two packages export.
TOLD = (
    "robust_zoo.registry.robustness.best_robust",
    "robust_zoo.training.attacks.suites.suite",
    "robust_zoo.training.data.dataset.spread",
    "robust_zoo.training.figures.curves.plot",
    "robust_zoo.training.recipes.load_overrides",
    "robust_zoo.training.transfer.protocols.finetune.Finetune",
    "robust_zoo.training.transfer.protocols.linear.Linear",
    "robust_zoo.training.transfer.protocols.salman2020.Salman2020",
    "robust_zoo.training.transfer.recommend.open_images",
    "robust_zoo.training.transfer.recommend.table",
    "robust_zoo.training.transfer.sample_suite.cifar10_half",
    "robust_zoo.training.transfer.sample_suite.digits",
    "robust_zoo.training.transfer.splits.stratified_split",
    "robust_zoo.weights.ensure.ensure",
    "robust_zoo.weights.own.OwnFileWarning",
)


@dataclass(frozen=True)
class Group:
    """Entries under one heading.

    Attributes:
        title: The heading.
        about: A sentence below it.
        entries: In their order.
    """

    title: str
    about: str
    entries: tuple[Entry, ...]


def exports() -> dict[str, list[str]]:
    """What each package that users import from exports, without the packages in it."""
    found = {package.__name__: package.__all__ for package in _PACKAGES}
    return {name: [each for each in names if f"{name}.{each}" not in found] for name, names in found.items()}


def groups(sources: Sources, exports: Mapping[str, Sequence[str]]) -> tuple[Group, ...]:
    """The reference by headings.

    Args:
        sources: Of the package.
        exports: Packages, and the names that each exports.

    Returns:
        A group for each package, the errors, what else users are told of, and the types that all these name.

    Raises:
        LookupError: A name that the package does not define.
    """
    headed = {
        **{package: ("", [f"{package}.{name}" for name in names]) for package, names in exports.items()},
        "Errors": ("Each ends the command line with its own exit code.", sources.classes("robust_zoo.errors")),
        "More": ("What the pages and messages of the zoo also name.", TOLD),
    }
    given = {name: title for title, (_, names) in reversed(headed.items()) for name in names}
    entries = read(sources, [name for _, names in headed.values() for name in names])
    about = {title: text for title, (text, _) in headed.items()} | {"Types": "What signatures above are made of."}
    return tuple(
        Group(title, text, tuple(sorted((e for e in entries if given.get(e.name, "Types") == title), key=_rank)))
        for title, text in about.items()
    )


def _rank(entry: Entry) -> int:
    """Functions, then classes, then values; those of a kind stay as they are."""
    return {"function": 0, "attribute": 2}.get(entry.kind, 1)


def anchors(entries: Sequence[Entry]) -> dict[str, str]:
    """Where each entry is in the page: at its last name, or at the whole of it where two end alike.

    Args:
        entries: All.

    Returns:
        Names of entries -> ids.
    """
    ends = Counter(entry.short for entry in entries)
    return {entry.name: entry.short if ends[entry.short] == 1 else entry.name for entry in entries}


def links(entries: Sequence[Entry]) -> dict[str, str]:
    """Names that mean an entry -> its place in the page: its whole name, and each end of it that is no other's.

    Args:
        entries: All.

    Returns:
        "registry.robustness.best_robust", "robustness.best_robust", "best_robust" -> "#best_robust", and so on.
    """
    places = anchors(entries)
    ends = {(end, f"#{places[e.name]}") for e in entries for path in (e.name, e.path) for end in _ends(path)}
    targets = Counter(end for end, _ in ends)
    return {end: target for end, target in sorted(ends) if targets[end] == 1}


def _ends(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[i:]) for i in range(len(parts))]


def build(contents: Contents) -> Iterator[Page]:
    """The page.

    Args:
        contents: Nothing of it; the reference is of the package itself.

    Yields:
        One page.
    """
    sources = Sources(Path(robust_zoo.__file__).parents[1])
    found = groups(sources, exports())
    entries = [entry for group in found for entry in group.entries]
    known = links(entries)
    values = {
        "groups": found,
        "links": known,
        "anchors": anchors(entries),
        "said": partial(docstring, links=known),
        "python": python,
        "kinds": _KINDS,
        "blob": f"https://github.com/{home.REPOSITORY}/blob/main/" if home.REPOSITORY else "",
    }
    yield Page(PATH, "Python interface", "api.html", values)
