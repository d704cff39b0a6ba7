"""Sources -> entries: signatures and docstrings as griffe reads them; nothing of the package is imported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import griffe

from robust_zoo.site.entries import Entry, Item, Word

_EITHER = griffe.ParameterKind.positional_or_keyword.value
_STARS = {"variadic positional": "*", "variadic keyword": "**"}


@dataclass(frozen=True)
class Sources:
    """A package's modules, parsed when they are asked for.

    Attributes:
        root: The directory that holds the package.
        package: Its name.
    """

    root: Path
    package: str = "robust_zoo"
    _modules: dict[str, griffe.Module] = field(default_factory=dict)

    def find(self, path: str) -> Any:
        """What a dotted path names, imports followed to the definition; None for what is not the package's."""
        dotted, _, name = path.rpartition(".")
        module = self._module(dotted) if path.startswith(f"{self.package}.") else None
        found = module.members.get(name) if module else None
        return self.find(found.target_path) if isinstance(found, griffe.Alias) else found

    def words(self, expression: Any) -> tuple[Word, ...]:
        """A type in pieces; names of the package lead to their definition, however they were imported."""
        if expression is None:
            return ()
        pieces = [expression] if isinstance(expression, str) else expression.iterate(flat=True)
        return tuple(Word(piece) if isinstance(piece, str) else self._word(piece) for piece in pieces)

    def _word(self, name: Any) -> Word:
        found = self.find(name.canonical_path)
        return Word(name.name, found.path if found else name.canonical_path)

    def file(self, found: Any) -> str:
        """Where it is in the repository, in which training/ lies beside the package and not in it."""
        inside = Path(found.filepath).relative_to(self.root).as_posix()
        return inside.removeprefix(f"{self.package}/") if inside.startswith(f"{self.package}/training/") else inside

    def classes(self, dotted: str) -> list[str]:
        """The classes that a module defines, as dotted paths, in its order."""
        members = getattr(self._module(dotted), "members", {})
        return [found.path for found in members.values() if found.kind.value == "class"]

    def _module(self, dotted: str) -> griffe.Module | None:
        stem = self.root.joinpath(*dotted.split("."))
        file = next((f for f in (stem.with_suffix(".py"), stem / "__init__.py") if f.is_file()), None)
        if file and dotted not in self._modules:
            self._modules[dotted] = griffe.visit(dotted, filepath=file, code=file.read_text(encoding="utf-8"))
        return self._modules.get(dotted)


def read(sources: Sources, names: Iterable[str]) -> tuple[Entry, ...]:
    """What names stand for, and after them each type of the package that these name.

    Args:
        sources: Of the package.
        names: As users reach them ("robust_zoo.create_model").

    Returns:
        An entry for each, in their order, under the first of its names; then those of the types, by the place of their
        definition.

    Raises:
        LookupError: A name that the package does not define.
    """
    entries: dict[str, Entry] = {}
    for name in names:
        if (found := sources.find(name)) is None:
            raise LookupError(f"{name} is defined nowhere in {sources.root / sources.package}")
        entries.setdefault(found.path, _entry(sources, found, name))
    named = [sources.find(path) for entry in entries.values() for path in _paths(entry)]
    types = {
        found.path: _entry(sources, found, found.path)
        for found in named
        if found and found.path not in entries and not found.name.startswith("_")
    }
    return (*entries.values(), *(types[path] for path in sorted(types)))


def _paths(entry: Entry) -> list[str]:
    """Where the names are defined that stand in an entry's types."""
    items = [*entry.parameters, *entry.attributes, *entry.raises, *filter(None, [entry.returns])]
    types = [*(item.type for item in items), *entry.bases, entry.value]
    return [word.path for words in types for word in words if word.path] + [
        path for method in entry.methods for path in _paths(method)
    ]


def _entry(sources: Sources, found: Any, name: str) -> Entry:
    sections = _sections(found)
    said = _described(found)
    entry = Entry(
        name=name,
        path=found.path,
        kind="dataclass" if "dataclass" in found.labels else found.kind.value,
        file=sources.file(found),
        line=found.lineno,
        text="\n\n".join(sections["text"]),
        raises=tuple(Item("", sources.words(item.annotation), item.description) for item in sections["raises"]),
        examples="\n".join(sections["examples"]),
    )
    if entry.kind == "function":
        bound = found.parent.kind.value == "class" and "staticmethod" not in found.labels
        taken = _parameters(sources, [*found.parameters][bound:], said)
        returns = Item("", sources.words(found.returns), " ".join(item.description for item in sections["returns"]))
        return replace(entry, parameters=taken, returns=None if str(found.returns) == "None" else returns)
    if found.kind.value != "class":
        return replace(entry, value=sources.words(found.value))
    taken = _constructor(sources, found, said)
    named = {item.name for item in taken}
    public = [member for key, member in found.members.items() if not key.startswith("_")]
    held = [m for m in public if m.kind.value == "attribute" and m.name not in named]
    return replace(
        entry,
        parameters=taken,
        attributes=tuple(_attribute(sources, member, said) for member in held),
        methods=tuple(_entry(sources, m, m.name) for m in public if m.kind.value == "function"),
        bases=tuple(sources.words(base) for base in found.bases),
    )


def _constructor(sources: Sources, found: Any, said: dict[str, str]) -> tuple[Item, ...]:
    """What a class's own `__init__` takes; of a dataclass its fields, after those of its bases."""
    if "__init__" in found.members:
        return _parameters(sources, [*found.members["__init__"].parameters][1:], said)
    if "dataclass" not in found.labels:
        return ()
    bases = [sources.find(base.canonical_path) for base in found.bases if not isinstance(base, str)]
    items = [item for base in bases if base for item in _constructor(sources, base, _described(base) | said)]
    fields = [m for m in found.members.values() if m.kind.value == "attribute" and "property" not in m.labels]
    items += [_field(sources, member, said) for member in fields if member.annotation is not None]
    return tuple({item.name: item for item in items}.values())


def _field(sources: Sources, member: Any, said: dict[str, str]) -> Item:
    default = member.value
    if isinstance(default, griffe.ExprCall) and str(default.function) == "field":
        given = {a.name: a.value for a in default.arguments if isinstance(a, griffe.ExprKeyword)}
        default = given.get("default", f"{given['default_factory']}()" if "default_factory" in given else None)
    default = None if default is None else str(default)
    return Item(member.name, sources.words(member.annotation), said.get(member.name, ""), _EITHER, default)


def _parameters(sources: Sources, parameters: Iterable[Any], said: dict[str, str]) -> tuple[Item, ...]:
    found = []
    for given in parameters:
        stars = _STARS.get(given.kind.value, "")
        name = f"{stars}{given.name}"
        default = None if given.default is None or stars else str(given.default)
        found.append(Item(name, sources.words(given.annotation), said.get(name, ""), given.kind.value, default))
    return tuple(found)


def _attribute(sources: Sources, member: Any, said: dict[str, str]) -> Item:
    """A class's own value, or a property, whose docstring may have no sections."""
    is_property = "property" in member.labels
    text = "\n\n".join(_sections(member)["text"]) if is_property else said.get(member.name, "")
    kind, default = ("property", None) if is_property else ("attribute", str(member.value))
    return Item(member.name, sources.words(member.annotation), text, kind, default)


def _described(found: Any) -> dict[str, str]:
    """What a docstring says of parameters and attributes, by their names."""
    sections = _sections(found)
    return {item.name: item.description for key in ("parameters", "attributes") for item in sections[key]}


def _sections(found: Any) -> dict[str, list[Any]]:
    """A docstring's parts by kind: text, parameters, attributes, returns, raises, examples (as lines)."""
    parts: dict[str, list[Any]] = defaultdict(list)
    for section in found.docstring.parse("google") if found.docstring else ():
        if section.kind.value == "admonition":  # "Example:", in the singular
            parts["examples"].append(section.value.description)
        elif section.kind.value == "examples":
            parts["examples"] += [text for _, text in section.value]
        else:
            parts[section.kind.value] += [section.value] if section.kind.value == "text" else section.value
    return parts
