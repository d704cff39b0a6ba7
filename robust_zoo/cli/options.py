"""Options that several verbs take, and what is meant by them; where results may go."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from robust_zoo.errors import StorageError, UnknownCheckpoint, UsageError, closest
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.choices import LARGEST_SEED

# A string, not a path: an empty one ("$UNSET") means the default, where Path("") would mean the working directory.
CACHE_DIR = click.option("--cache-dir", metavar="DIR", help="Instead of ROBUST_ZOO_CACHE or the user cache.")
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda or cuda:N; auto is cuda where there is one."
)
SIGNERS = (
    click.option("--public-key", type=Path, metavar="FILE", help="Of the signer (PEM)."),
    click.option("--identity", default="", metavar="WHO", help="Instead: the signer's Sigstore identity (online)."),
    click.option("--issuer", default="", metavar="URL", help="Who vouches for the identity."),
)
JOBS = click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that share the work."
)
SAVE_SECONDS = partial(click.option, "--save-seconds", type=click.FloatRange(0), default=600, show_default=True)
SEED = partial(click.option, "--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
LAUNCHER = click.option(
    "--launcher",
    type=click.Choice(["local", "slurm"]),
    default="local",
    show_default=True,
    help="slurm: submit jobs that requeue themselves (extra: slurm).",
)
SLURM = click.option(
    "--slurm", multiple=True, metavar="KEY=VALUE", help="submitit's parameters, e.g. slurm_partition=gpu; repeatable."
)


def by_a_signer(command: Callable[..., Any]) -> Callable[..., Any]:
    """Whose signature it should be: --public-key, or --identity and --issuer."""
    for option in reversed(SIGNERS):
        command = option(command)
    return command


def require_signature(signature: Path | None, next: str, *signer: object) -> None:
    """Raises UsageError for a signer without a signature."""
    if any(signer) and not signature:
        raise UsageError("a signer without a signature", expected="--signature FILE", actual="none", next=next)


class Named(click.Option):
    """An option whose values are the names of a table: its help lists them, read from the table when it is shown.

    Args:
        table: Imports the table and returns it, a mapping; rows with an `about` or `title` are explained by it.
    """

    def __init__(self, *args: Any, table: Callable[[], Mapping[str, Any]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None:
            return None
        names = [f"{name} ({about})" if (about := _about(row)) else name for name, row in self.table().items()]
        head, _, rest = record[1].partition(self.help or "")
        return record[0], f"{head}{self.help} {', '.join(names)}.{rest}"


UNDER = click.option(
    "--under",
    metavar="NORM:EPS",
    help="Robust accuracy at this threat model (linf:4/255, l2:3), not at the one that each was trained for.",
)
MIN_ROBUST = click.option(
    "--min-robust", type=float, metavar="PERCENT", help="Only with at least this accuracy --under an attack."
)
MAX_PARAMS = click.option(
    "--max-params", metavar="COUNT", help="Only with at most this many parameters: 90M, 1.1B or 90e6."
)


def collection(*short: str) -> Callable[..., Any]:
    """--collection, with short names or without."""
    return click.option(
        "--collection",
        *short,
        multiple=True,
        cls=Named,
        table=lambda: dict.fromkeys(load_registry().collections, ""),
        help="Only this collection (repeatable):",
    )


def robust_at(under: str | None, percent: float | None) -> tuple[str, str] | None:
    """--under as norm and radius, which are for parse_under to read. Raises UsageError for --min-robust without it."""
    if under is None and percent is None:
        return None
    norm, colon, eps = (under or "").partition(":")
    if not colon:
        raise UsageError(
            "--min-robust needs a threat model" if under is None else f"--under {under} is no threat model",
            expected="--under NORM:EPS, such as linf:4/255 or l2:3",
            actual="no --under" if under is None else repr(under),
            next=f"robust-zoo {click.get_current_context().info_name} ... --under linf:4/255 --min-robust 40",
        )
    return norm, eps


def _about(row: Any) -> str:
    return row if isinstance(row, str) else getattr(row, "about", "") or getattr(row, "title", "")


def use_cache(cache_dir: str | None) -> None:
    """Makes --cache-dir the cache of this process and of those it starts, for weights and features."""
    if cache_dir:
        os.environ["ROBUST_ZOO_CACHE"] = str(Path(cache_dir).absolute())


def require_directory(output: Path) -> None:
    """Says before the work that its result would have no place to go. Raises StorageError."""
    if output.is_dir():  # raises for a name that is longer than the disk takes
        raise StorageError(
            f"a directory is in the way: {output}",
            source=str(output),
            expected="a path for a file",
            actual="a directory",
            next=f"name a file, such as {output / 'NAME'}",
        )
    if not output.parent.is_dir():
        raise StorageError(
            f"no such directory: {output.parent}",
            source=str(output),
            expected="an existing directory",
            actual="nothing there",
            next=f"mkdir -p {output.parent}",
        )


def require_picture(output: Path) -> None:
    """Says before the work that its picture could not be drawn. Raises StorageError and UsageError."""
    from robust_zoo.training.figures.style import FORMATS, check_installed

    check_installed()
    if output.suffix.lower() not in FORMATS:
        raise UsageError(
            f"{output} is no picture's name",
            source=str(output),
            expected=f"a path that ends in {', '.join(FORMATS)}",
            actual=output.name,
            next=f"name it {output.name}.png",
        )
    require_directory(output)


def select(names: Sequence[str]) -> list[Checkpoint]:
    """Names in any spelling, wildcards, and files that robust-zoo wrote -> checkpoints, each once, in order.

    Raises UnknownCheckpoint for a name that is none, and for a pattern that matches nothing.
    """
    from robust_zoo.weights.exported import checkpoint_of  # which `list` has no use for

    found: dict[str, Checkpoint] = {}
    for name in names:
        is_pattern = set(name) & set("*?[") and not Path(name).is_file()
        checkpoints = [get(match) for match in _matches(name)] if is_pattern else [checkpoint_of(name)]
        found |= {checkpoint.file if checkpoint.bundled else checkpoint.name: checkpoint for checkpoint in checkpoints}
    return list(found.values())


def _matches(pattern: str) -> list[str]:
    if matches := list_models(pattern):
        return matches
    bare = pattern.translate(str.maketrans("", "", "*?[]"))
    near = ", ".join(closest(bare, list_models()))
    raise UnknownCheckpoint(
        f"no checkpoint matches {pattern!r}",
        model=pattern,
        source="the registry",
        expected=f"a pattern that matches, such as 'resnet50_l2_*'; closest names: {near}",
        actual=repr(pattern),
        next="robust-zoo list   shows every name",
    )


def threats(norm: str | None, *radii: str | None) -> list[ThreatModel]:
    """--norm and each --eps as threat models, [] without both. Raises UsageError for one without the other."""
    given = [radius for radius in radii if radius]
    if bool(norm) != bool(given):
        actual, missing = (f"--norm {norm}", "--eps 0.5") if norm else (f"--eps {given[0]}", "--norm l2")
        raise UsageError("--norm and --eps go together", expected="both or neither", actual=actual, next=missing)
    return [ThreatModel.parse(norm, radius) for radius in given] if norm else []


def slurm_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """submitit's parameters from `--slurm KEY=VALUE`."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--slurm {pair} is not KEY=VALUE",
                expected="KEY=VALUE",
                actual=pair,
                next="--slurm slurm_partition=gpu --slurm gpus_per_node=8",
            )
        values[key] = int(value) if value.isdigit() else value
    return values
