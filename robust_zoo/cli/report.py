from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.cli.options import require_directory, require_picture
from robust_zoo.errors import UsageError


@click.command("report")
@click.argument("ledger_dir", metavar="LEDGER", type=click.Path(path_type=Path))
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path), help="Also write the accuracies under attack as CSV."
)
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="Also draw accuracy against eps (a .png).")
@click.option("--readme", type=click.Path(path_type=Path), help="Also write the table as a README.md for the folder.")
@click.option("--rows", type=click.Path(path_type=Path), help="Also write what rows may claim (measured.json).")
def command(
    ledger_dir: Path, csv_file: Path | None, picture: Path | None, readme: Path | None, rows: Path | None
) -> None:
    """Show what a ledger holds as Markdown tables; what was attacked also as CSV and as a plot of accuracy against eps.

    \b
    robust-zoo report results
    robust-zoo report results --csv results.csv --plot curves.png

    Every entry is checked against its per-image results first. Registry rows take measured numbers from --rows only,
    which refuses figures that were not checked.
    """
    from robust_zoo.training.evaluation import report
    from robust_zoo.training.evaluation.entries import read_ledger
    from robust_zoo.training.evaluation.tables import read_tables

    for path in filter(None, (csv_file, readme, rows)):
        require_directory(path)
    if picture:
        require_picture(picture)
    entries, tables = read_ledger(ledger_dir), read_tables(ledger_dir)
    if not entries and not tables:
        raise UsageError(
            f"{ledger_dir} has no entries",
            source=str(ledger_dir),
            expected="entries of robust-zoo evaluate",
            actual="none",
            next="robust-zoo evaluate NAME --out " + str(ledger_dir),
        )
    if rows:
        rows.write_text(report.rows_json(entries, tables), encoding="utf-8")
    if readme:
        readme.write_text(report.readme(entries, tables), encoding="utf-8")
    if csv_file:
        csv_file.write_text(report.as_csv(entries), encoding="utf-8")
    if picture:
        report.plot(entries, picture)
    click.echo(
        report.everything([*entries, *tables]), nl=False
    )  # last: a reader who has enough (| head) ends the command
