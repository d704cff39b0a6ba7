"""The `robust-zoo` command: one module a verb, loaded when it is used; torch is imported inside command bodies only."""

from __future__ import annotations

import difflib
import os
import sys
from importlib import import_module
from typing import Any

import click

from robust_zoo import __version__
from robust_zoo.errors import StorageError, ZooError

# verb, which is also its module -> one line for --help, so that listing the verbs imports none of them
_VERBS = {
    "list": "List checkpoints, with filters.",
    "info": "Show everything known of one checkpoint.",
    "download": "Fetch, verify and convert weights.",
    "verify": "Hash the weights you have, offline.",
    "pin": "Print the hashes that tie weights to their rows.",
    "bundle": "Pack weights for a machine without internet.",
    "doctor": "Look through all caches for broken weights.",
    "convert": "Turn a .ckpt of your own into safetensors.",
    "card": "Write model cards.",
    "cache": "Look into and tidy the cache.",
    "demo": "Attack the two bundled models and draw what they see.",
    "evaluate": "Measure clean and robust accuracy.",
    "attack": "Attack images of your own.",
    "report": "Show what was measured.",
    "data": "Check the datasets to transfer to.",
    "transfer": "Transfer models to other datasets and compare them.",
    "recommend": "Find the checkpoint that suits your images.",
    "recipe": "Show how a checkpoint is trained.",
    "train": "Train a checkpoint by its recipe and export it.",
    "plot": "Draw the curves of a training.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_VERBS]  # not list(): once that verb is loaded, `list` in this package is its module

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return import_module(f"robust_zoo.cli.{name}").command if name in _VERBS else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            near = ", ".join(difflib.get_close_matches(args[0], _VERBS, n=3, cutoff=0.0))
            raise click.UsageError(f"no command {args[0]!r}; closest: {near}. See: robust-zoo --help", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*_VERBS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Errors become five fields and an exit code, never a traceback."""
        try:
            return super().invoke(ctx)
        except ZooError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:  # `robust-zoo list | head`: the reader has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except OSError as error:
            click.echo(f"error: {storage_error(error)}", err=True)
            ctx.exit(StorageError.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # --help and --version print before any verb is invoked: a full disk shows here
            click.echo(f"error: {storage_error(error)}", err=True)
            sys.exit(StorageError.exit_code)


def storage_error(error: OSError) -> StorageError:
    """An error of the local disk that no module foresaw, with its five fields."""
    return StorageError(
        error.strerror or str(error),
        source=str(error.filename or "standard output"),
        expected="a path that can be read and written, on a disk with free space",
        actual=f"{type(error).__name__}: {error}",
        next="check the path, its permissions and its disk (df -h)",
    )


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="robust-zoo")
def main() -> None:
    """Adversarially robust ImageNet weights: find, verify, convert and use them.

    \b
    robust-zoo list 'resnet50_*' --norm l2
    robust-zoo download resnet50_l2_eps3
    robust-zoo demo

    Exit codes: 0 ok, 1 verification failed, 2 usage, 3 unavailable from every source, 4 unknown name,
    5 local storage, 6 refused as unsafe or malformed, 130 interrupted.
    """
