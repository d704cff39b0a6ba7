"""The `robust-zoo` command: one module a verb, loaded when it is used; torch is imported inside command bodies only."""

from __future__ import annotations

import difflib
import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from robust_zoo import __version__
from robust_zoo.cli.net import DEBUG, debugging, net, shown
from robust_zoo.weights.variables import VARIABLES

# verb, which is also its module -> one line for --help, so that listing the verbs imports none of them
_VERBS = {
    "list": "List checkpoints, with filters.",
    "info": "Show everything known of one checkpoint.",
    "compare": "Set checkpoints side by side.",
    "download": "Fetch, verify and convert weights.",
    "verify": "Hash the weights you have, offline.",
    "pin": "Print the hashes that tie weights to their rows.",
    "bundle": "Pack weights for a machine without internet.",
    "sources": "Ask whether files are still where they were.",
    "doctor": "Look through all caches for broken weights.",
    "convert": "Turn a .ckpt of your own into safetensors.",
    "card": "Write model cards.",
    "publish": "Publish weights on the Hugging Face hub.",
    "cache": "Look into and tidy the cache.",
    "demo": "Attack the bundled models and draw what they see.",
    "evaluate": "Measure clean and robust accuracy.",
    "attack": "Attack images of your own.",
    "visualize": "Draw what models see.",
    "report": "Show what was measured.",
    "data": "Check the datasets to transfer to.",
    "transfer": "Transfer models to other datasets and compare them.",
    "recommend": "Find the checkpoint that suits your images.",
    "finetune": "Train a checkpoint on images of your own and keep it.",
    "predict": "Say which class images are of.",
    "recipe": "Show how a checkpoint is trained.",
    "train": "Train a checkpoint by its recipe and export it.",
    "plan": "Show what the paper takes, and submit it.",
    "plot": "Draw the curves of a training.",
    "site": "Write the zoo as a static site.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_VERBS]  # not list(): once that verb is loaded, `list` in this package is its module

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        command = _with_debug(import_module(f"robust_zoo.cli.{name}").command)
        command.short_help = _VERBS[name]
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            near = ", ".join(difflib.get_close_matches(args[0], _VERBS, n=3, cutoff=0.0))
            raise click.UsageError(f"no command {args[0]!r}; closest: {near}. See: robust-zoo --help", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*_VERBS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Variables of the environment"):
            formatter.write_dl([*VARIABLES.items()])

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with net(lambda: debugging({})):  # --help and --version print before any verb is invoked
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Errors become five fields and an exit code, never a traceback."""
        with net(lambda: debugging(ctx.meta)):
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _leave_out_the_current_directory()
        with shown():
            return super().main(*args, **kwargs)


def _leave_out_the_current_directory() -> None:
    """Processes of --jobs and --launcher import nothing from it; a bare checkout alone is found by where one stands."""
    with suppress(OSError):
        if not Path(__file__).parents[2].samefile(os.curdir):
            os.environ.setdefault("PYTHONSAFEPATH", "1")


def _debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[DEBUG] = True


def _with_debug(command: click.Command) -> click.Command:
    """--debug is taken after the verb too, where its help does not mention it."""
    if all(param.name != "debug" for param in command.params):
        command.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, is_eager=True, hidden=True, callback=_debug)
        )
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _with_debug(inner)
    return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="robust-zoo")
@click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_debug, help="Show the traceback of an error."
)
def main() -> None:
    """Adversarially robust ImageNet weights: find, verify, convert and use them.

    \b
    robust-zoo list 'resnet50_*' --norm l2
    robust-zoo download resnet50_l2_eps3
    robust-zoo demo

    Exit codes: 0 ok, 1 verification failed, 2 usage, 3 unavailable from every source, 4 unknown name,
    5 local storage or memory, 6 refused as unsafe or malformed, 70 an error that nobody foresaw, 130 interrupted.
    """
