"""What a page of the reference is made of: functions, classes and values, and what their docstrings say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A piece of a type as it is written.

    Attributes:
        text: The piece: a name, or what stands between names.
        path: Where the name is defined, "" for what is no name.
    """

    text: str
    path: str = ""


@dataclass(frozen=True)
class Item:
    """What a docstring describes: a parameter, an attribute, a result, an exception.

    Attributes:
        name: With its stars; "" for a result or an exception.
        type: Its type, or the exception, in pieces.
        text: What the docstring says of it.
        kind: Of a parameter, in griffe's words ("keyword-only"); "attribute" or "property"; "" for the others.
        default: As it is written, None where there is none.
    """

    name: str
    type: tuple[Word, ...]
    text: str
    kind: str = ""
    default: str | None = None


@dataclass(frozen=True)
class Entry:
    """A function, a class or a value, and what its docstring says.

    Attributes:
        name: How users reach it: "robust_zoo.create_model"; of a method its bare name.
        path: Where it is defined: "robust_zoo.factory.create_model".
        kind: "function", "class", "dataclass", "attribute" (a value).
        file: Of its source, in the repository.
        line: Where it begins, from 1.
        text: The docstring without its sections, in paragraphs.
        parameters: As a call takes them.
        returns: The result of a function that has one.
        raises: The exceptions that the docstring names.
        attributes: Of a class: those that are no parameters, and properties.
        methods: Of a class.
        bases: Of a class, each in pieces.
        value: Of a value, as it is written, in pieces.
        examples: Lines as one types them.
    """

    name: str
    path: str
    kind: str
    file: str
    line: int
    text: str
    parameters: tuple[Item, ...] = ()
    returns: Item | None = None
    raises: tuple[Item, ...] = ()
    attributes: tuple[Item, ...] = ()
    methods: tuple[Entry, ...] = ()
    bases: tuple[tuple[Word, ...], ...] = ()
    value: tuple[Word, ...] = ()
    examples: str = ""

    @property
    def short(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]
