from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.cli.options import require_directory
from robust_zoo.errors import UsageError


@click.command("demo")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default="robust_zoo_demo.png",
    show_default=True,
    help="The picture.",
)
@click.option(
    "--images",
    "-n",
    type=click.IntRange(10, 1000),
    default=200,
    show_default=True,
    help="How many sample images to attack.",
)
def command(output: Path, images: int) -> None:
    """Attack the ladder of bundled CIFAR-10 models, transfer it, and draw what two of them see.

    \b
    robust-zoo demo
    robust-zoo demo -n 1000 -o everything.png

    Verifies the weights of five models, one trained as usual and four adversarially, to L2 0.1, 0.25, 0.5 and 1;
    classifies the bundled test images, attacks them with PGD-20 (L2, eps 0.5), and transfers each model to digits,
    which none has seen. Draws images, adversarial images, input gradients and what a model makes of noise, for the
    standard one and that of L2 0.5. About a minute on two cores.
    """
    # The picture is written last; what is wrong with its path is said before half a minute of work.
    if output.suffix.lower() != ".png":
        raise UsageError(
            f"{output} is not a .png",
            source=str(output),
            expected="a path that ends in .png",
            actual=output.name,
            next=f"robust-zoo demo -o {output}.png",
        )
    require_directory(output)
    click.echo("loading torch and the models ...", err=True)
    from robust_zoo.training.demo import run_demo, table, transferred
    from robust_zoo.training.transfer.sample_suite import digits

    missing = None
    try:
        digits()
    except UsageError as error:  # they come with an extra, and the rest does without
        missing = f"skipped: the transfer to digits needs {error.expected}: {error.next}"
    rungs = run_demo(output, images)
    if missing:
        click.echo(missing, err=True)
    click.echo(table(rungs, {} if missing else transferred()))
    click.echo(f"picture: {output}")
