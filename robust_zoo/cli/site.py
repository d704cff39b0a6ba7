from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.describe import megabytes
from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import get, list_models

_LEDGER = Path("results")


@click.command("site")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Its folder.")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    metavar="LEDGER",
    help="Results of robust-zoo evaluate  [default: results, where that folder is]",
)
@click.option("--base-url", default="", metavar="URL", help="Where the site will be: adds sitemap.xml, absolute links.")
def command(output: Path, ledger: Path | None, base_url: str) -> None:
    """Write the zoo as a static site: rows and results as pages that a browser opens without a network.

    \b
    robust-zoo site -o site
    robust-zoo site -o site --ledger results --base-url https://zoo.example.org/

    DIR is written whole or not at all, over an earlier site too; the same rows and results give the same bytes. It is
    a static Space of the Hugging Face hub as it is. Figures come from the rows, what each attack broke and accuracies
    by class from the ledger, whose entries are checked first.
    """
    from robust_zoo.cli import main
    from robust_zoo.site.build import build, require
    from robust_zoo.site.checkout import texts
    from robust_zoo.site.folder import write
    from robust_zoo.site.ledger import evidence, pictures
    from robust_zoo.site.pages import Contents

    if base_url and not base_url.startswith(("https://", "http://")):
        raise UsageError(
            f"--base-url {base_url} is no address",
            expected="an address that begins with https://",
            actual=base_url,
            next=f"robust-zoo site -o {output} --base-url https://{base_url.rpartition('://')[2]}",
        )
    require()
    if ledger is None and _LEDGER.is_dir():
        ledger = _LEDGER
    if ledger is None:
        click.echo("no ledger: pages show the figures of rows, without every image's fate (--ledger)", err=True)
    guides = texts("docs", ".md")
    files = build(
        Contents(
            checkpoints=tuple(get(name) for name in list_models()),
            evidence=evidence(ledger) if ledger else (),
            commands=main,
            tutorials=texts("tutorials", ".py"),
            faults=guides.pop("faults", ""),
            guides=guides,
            seen=pictures(ledger) if ledger else {},
            base_url=base_url and base_url.rstrip("/") + "/",
        )
    )
    write(output, files)
    size = megabytes(sum(map(len, files.values())))
    click.echo(f"{len(files)} files, {size}: open {output / 'index.html'}", err=True)
