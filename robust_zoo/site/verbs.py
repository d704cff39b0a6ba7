"""click's commands -> values: what `--help` says of each verb, argument and option."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Verb:
    """A command.

    Attributes:
        name: The words that call it: "robust-zoo transfer run".
        usage: What goes after them: "[OPTIONS] [MODELS]...".
        paragraphs: Of its help, each with whether its lines are kept as they are: examples, by and large.
        options: As help shows them, each with its text: ("-n, --norm TEXT", "Only this norm: ..."); --help apart.
        inside: The names of a group's commands, each with a line.
    """

    name: str
    usage: str
    paragraphs: tuple[tuple[str, bool], ...]
    options: tuple[tuple[str, str], ...]
    inside: tuple[tuple[str, str], ...] = ()


def verbs(main: click.Command, name: str) -> tuple[Verb, ...]:
    """A command and all that are in it, in the order of their help.

    Args:
        main: The outermost.
        name: How it is called: "robust-zoo".

    Returns:
        It, and after it those in it, each before its own.
    """
    return tuple(_walk(main, click.Context(main, info_name=name, **main.context_settings)))


def _walk(command: click.Command, context: click.Context) -> Iterator[Verb]:
    below: list[tuple[str, click.Command]] = []
    if isinstance(command, click.Group):
        found = ((name, command.get_command(context, name)) for name in command.list_commands(context))
        below = [(name, inner) for name, inner in found if inner and not inner.hidden]
    yield Verb(
        name=context.command_path,
        usage=" ".join(command.collect_usage_pieces(context)),
        paragraphs=_paragraphs(command.help or ""),
        options=tuple(_options(command, context)),
        inside=tuple((name, inner.get_short_help_str(limit=120)) for name, inner in below),
    )
    for name, inner in below:
        yield from _walk(inner, click.Context(inner, info_name=name, parent=context))


def _options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    common = command.get_help_option(context)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter is not common:
            record = parameter.get_help_record(context)  # None for what is hidden
            yield from filter(None, [record])


def _paragraphs(text: str) -> tuple[tuple[str, bool], ...]:
    """As click reads a help text: a line of \\b keeps the lines of its paragraph, other lines are joined."""
    parts = [part.strip("\n") for part in inspect.cleandoc(text).split("\n\n") if part.strip()]
    return tuple(
        (part.removeprefix("\b").strip("\n"), True) if part.startswith("\b") else (" ".join(part.split()), False)
        for part in parts
    )
