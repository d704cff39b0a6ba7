"""What the classes of a source dataset are called, in English, by label; and which label a name stands for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache

from robust_zoo.errors import UsageError, closest
from robust_zoo.registry.families import SourceDataset

_Table = Mapping[str, tuple[int, ...]]  # name -> labels of the classes that have it


def class_names(dataset: SourceDataset) -> tuple[str, ...]:
    """English names of a dataset's classes.

    Args:
        dataset: A row of checkpoints.toml, with names of its own or the name of timm's list.

    Returns:
        A name for each label, the first where a class has several.
    """
    return tuple(texts[0] for _, texts in _classes(dataset))


def labels_called(name: str, dataset: SourceDataset) -> tuple[int, ...]:
    """The labels that a name can stand for.

    A name is a WordNet id, an English name of the class or the whole text of its synset, in any case and with any
    signs between its words; or the id and one of these. A class's first name goes before another's second.

    Args:
        name: Of a folder, as a user spelled it.
        dataset: Whose classes.

    Returns:
        One label; several where classes share the name; none where it is no class.
    """
    ids, firsts, keys, any_name = _tables(dataset)
    wnid, key = name.strip()[:9].lower(), _key(name.strip()[9:])
    if wnid in ids:  # alone, or with a name of its own
        return ids[wnid] if not key or set(ids[wnid]) & set(any_name.get(key, ())) else ()
    looked_up = ((firsts, _spaced(name)), (keys, _key(name)), (any_name, _key(name)))
    return next((table[text] for table, text in looked_up if text in table), ())


def label_of(name: str | int, dataset: SourceDataset, model: str) -> int:
    """The label that a user means by a name or a number.

    Args:
        name: A name as `labels_called` takes it, or a label in digits; what is both is a name.
        dataset: Whose classes.
        model: Which model is asked, for the error.

    Returns:
        The label.

    Raises:
        UsageError: It is no class, or several.
    """
    classes = _classes(dataset)
    found = labels_called(str(name), dataset)
    if not found and str(name).isdecimal() and int(name) < len(classes):
        return int(name)
    if len(found) == 1:
        return found[0]
    some = [spelled(label, dataset) for label in found] or closest(str(name), class_names(dataset))
    what = "more than one class" if found else "no class"
    raise UsageError(
        f"{str(name)!r} is {what} of {dataset.title}",
        model=model,
        expected=f"one of {', '.join(some)}" if found else f"a class by its name; closest: {', '.join(some)}",
        actual=repr(name),
        next=f"{some[0]!r}, or a class by its number, 0 to {len(classes) - 1}",
    )


def spelled(label: int, dataset: SourceDataset) -> str:
    """A class as only it is called: its WordNet id with its names, or its name."""
    wnid, texts = _classes(dataset)[label]
    return f"{wnid} ({', '.join(texts)})" if wnid else texts[0]


def _spaced(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").split())


def _key(name: str) -> str:
    return " ".join(re.findall(r"\w+", _spaced(name).casefold()))


def _table(names: Iterable[tuple[str, int]]) -> _Table:
    found: dict[str, tuple[int, ...]] = {}
    for name, label in names:
        found[name] = tuple(sorted({*found.get(name, ()), label}))
    return found


@cache
def _tables(dataset: SourceDataset) -> tuple[_Table, _Table, _Table, _Table]:
    """By WordNet id; by first name; by first name whatever its spelling; by any name and by all of them together."""
    classes = list(enumerate(_classes(dataset)))
    return (
        _table((wnid, label) for label, (wnid, _) in classes if wnid),
        _table((texts[0], label) for label, (_, texts) in classes),
        _table((_key(texts[0]), label) for label, (_, texts) in classes),
        _table((_key(text), label) for label, (_, texts) in classes for text in (*texts, " ".join(texts))),
    )


@cache
def _classes(dataset: SourceDataset) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(WordNet id, names) of each class; the id is "" where there is none."""
    if dataset.class_names:
        return tuple(("", (name,)) for name in dataset.class_names)
    from timm.data import ImageNetInfo

    info = ImageNetInfo(dataset.timm_classes)
    described = ((wnid, info.index_to_description(label)) for label, wnid in enumerate(info.label_names()))
    return tuple((wnid, tuple(text.split(", "))) for wnid, text in described)
