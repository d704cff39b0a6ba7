from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry import get, get_architecture


@click.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="The file is this checkpoint: its hash, normaliser and provenance are checked and kept.")
@click.option("--architecture", "-a", help="The file is a network of yours of this architecture (resnet50, densenet, ...).")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The safetensors file to write.")
@click.option("--force", is_flag=True, help="Replace an existing output file.")
def command(file: Path, name: str | None, architecture: str | None, output: Path, force: bool) -> None:
    """Turn a .ckpt of the robustness library (or a .pth state dict) into safetensors with timm's keys.

    \b
    robust-zoo convert mine.ckpt --architecture resnet50 -o mine.safetensors
    robust-zoo convert resnet18_l2_eps3.ckpt --name resnet18_l2_eps3 -o resnet18_l2_eps3.safetensors

    The file is read in a child process that runs no code from it, with bounded memory and time. The same file
    gives the same bytes each time. Use the result with create_model(..., checkpoint_path="mine.safetensors").
    """
    if bool(name) == bool(architecture):
        raise UsageError(
            "say what the file is", expected="either --name or --architecture", actual="both" if name else "neither",
            next=f"robust-zoo convert {file} --architecture resnet50 -o {output}",
        )  # fmt: skip
    if output.exists() and not force:
        raise UsageError(
            f"{output} exists", source=str(output), expected="a new file", actual="an existing one", next="add --force to replace it"
        )
    if not file.is_file():
        raise UsageError(f"no such file: {file}", source=str(file), expected="a checkpoint file", actual="nothing there")
    if not output.parent.is_dir():
        raise UsageError(f"no such directory: {output.parent}", expected="an existing directory", actual="nothing there")
    from robust_zoo import private, weights
    from robust_zoo.cache import sha256_of
    from robust_zoo.convert import convert

    source_sha256 = sha256_of(file)
    if name:
        row = get(name)
        if row.sha256 not in (None, source_sha256):
            raise VerificationFailed(
                f"{file.name} is not the file of {row.name}",
                model=f"{row.name} ({row.file})",
                source=str(file),
                expected=f"sha256 {row.sha256}",
                actual=f"sha256 {source_sha256}",
                next=f"robust-zoo download {row.name}, or --architecture {row.architecture} for weights of your own",
            )
        preprocessing = row.preprocessing
        answer = convert(
            file, output, row.network, weights.provenance(row, source_sha256), model=row.name,
            mean=preprocessing.mean, std=preprocessing.std, num_classes=preprocessing.num_classes,
        )  # fmt: skip
    else:
        network = get_architecture(architecture or "")
        answer = convert(file, output, network, private.provenance(file, source_sha256, network))
    click.echo(f"{output}  sha256 {answer['sha256']}")
    statistics = f"mean {answer['mean']}, std {answer['std']}" if answer["mean"] else "no normaliser in the file"
    click.echo(f"{answer['num_classes']} classes, {statistics}", err=True)
