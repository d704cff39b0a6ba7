"""`robust-zoo transfer report`, and what a transfer shows at its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from robust_zoo.cli.options import require_directory, require_picture
from robust_zoo.errors import UsageError
from robust_zoo.text import listed

_PATH = click.Path(path_type=Path)
CSV = click.option("--csv", "csv_file", type=_PATH, help="Also write the table as CSV.")
PLOT = click.option("--plot", "picture", type=_PATH, help="Also draw the figures (a .png).")
JSON = click.option("--json", "as_json", is_flag=True, help="The entries as JSON.")


@click.command("report", short_help="Show what was transferred.")
@click.argument("folder", type=_PATH)
@CSV
@PLOT
@JSON
@click.option("--granularity", is_flag=True, help="By what images were shrunk to first: a line for each size.")
def report(folder: Path, csv_file: Path | None, picture: Path | None, as_json: bool, granularity: bool) -> None:
    """Show the cells of a folder, the --out of a robust-zoo transfer, as tables and figures.

    \b
    robust-zoo transfer report transfer
    robust-zoo transfer report transfer --csv table.csv --plot figures.png
    robust-zoo transfer report transfer --granularity --plot grain.png

    --granularity sorts cells that were made with several values of shrink (a setting of every protocol but detection:
    the shorter side, in pixels, that images are first brought to), and asks whether the best radius changes with it.
    """
    from robust_zoo.training.transfer import cells

    check_outputs(csv_file, picture)
    entries = cells.read_cells(folder)
    if not entries:
        raise UsageError(
            f"{folder} has no cells",
            source=str(folder),
            expected="the --out of a robust-zoo transfer",
            actual="no .json file",
            next=f"robust-zoo transfer --suite sample --out {folder}",
        )
    show(entries, csv_file, picture, as_json, granularity)


def check_outputs(csv_file: Path | None, picture: Path | None) -> None:
    """Raises StorageError or UsageError for what cannot be written, before any work."""
    if csv_file:
        require_directory(csv_file)
    if picture:
        require_picture(picture)


def show(
    entries: list[dict[str, Any]], csv_file: Path | None, picture: Path | None, as_json: bool, by_grain: bool = False
) -> None:
    """Writes the table, and what else is asked for, of cells."""
    from robust_zoo.training.transfer import granularity, plots, report

    grains = granularity.grains(entries) if by_grain else []
    written = granularity.markdown(grains) if by_grain else report.markdown(entries)
    text = json.dumps(entries, indent=1) + "\n" if as_json else written
    if csv_file:
        csv_file.write_text(report.as_csv(entries), encoding="utf-8")
    if picture and by_grain:
        granularity.draw(grains, picture)
    elif picture:
        found = report.figures(entries)
        for file in plots.draw_all(found, picture):
            click.echo(f"figure: {file}", err=True)
        if names := plots.unmeasured(found):
            click.echo(f"not drawn against source accuracy, which is unknown: {listed(names)}", err=True)
    click.echo(text, nl=False)  # last: a reader who has enough (| head) ends the command
