"""The commands of `robust-zoo`, groups and all."""

import click

from robust_zoo.cli import main

ROOT = click.Context(main, info_name="robust-zoo", **main.context_settings)


def commands(group=main, path=()):
    """(its words, the command) of each, a group before its own."""
    for name in group.list_commands(ROOT):
        command = group.get_command(ROOT, name)
        yield [*path, name], command
        if isinstance(command, click.Group):
            yield from commands(command, [*path, name])
