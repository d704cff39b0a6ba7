"""The commands of `robust-zoo`, groups and all."""

import click
from click.testing import CliRunner

from robust_zoo.cli import main

ROOT = click.Context(main, info_name="robust-zoo", **main.context_settings)


def commands(group=main, path=()):
    """(its words, the command) of each, a group before its own."""
    for name in group.list_commands(ROOT):
        command = group.get_command(ROOT, name)
        yield [*path, name], command
        if isinstance(command, click.Group):
            yield from commands(command, [*path, name])


def run(*arguments):
    """In this process; anything but a clean exit is a traceback to the user."""
    result = CliRunner().invoke(main, [str(a) for a in arguments], prog_name="robust-zoo")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def run_to(*arguments, code=0):
    """As `run`, and it exits with `code`."""
    result = run(*arguments)
    assert result.exit_code == code, result.stderr
    return result
