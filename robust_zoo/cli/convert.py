from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.cli.describe import require_directory
from robust_zoo.errors import UnknownCheckpoint, UsageError, VerificationFailed
from robust_zoo.registry.lookup import get, get_architecture
from robust_zoo.text import printable


@click.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="The file is this checkpoint: its hash, normaliser and provenance are checked and kept.")
@click.option("--architecture", "-a", help="The file is a network of your own, of this architecture (resnet50).")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The safetensors file to write.")
@click.option("--force", is_flag=True, help="Replace an existing output file.")
def command(file: Path, name: str | None, architecture: str | None, output: Path, force: bool) -> None:
    """Turn a .ckpt of the robustness library (or a .pth state dict) into safetensors with timm's keys.

    \b
    robust-zoo convert mine.ckpt --architecture resnet50 -o mine.safetensors
    robust-zoo convert resnet18_l2_eps3.ckpt --name resnet18_l2_eps3 -o resnet18_l2_eps3.safetensors

    The file is read in a child process that runs no code from it, with bounded memory and time. The same file
    gives the same bytes each time. Use the result with create_model(..., checkpoint_path="mine.safetensors").
    Prints the output and its sha256, and on stderr the header it wrote.
    """
    if bool(name) == bool(architecture):
        raise UsageError(
            "say what the file is",
            expected="either --name or --architecture",
            actual="both" if name else "neither",
            next=f"robust-zoo convert {file} --architecture resnet50 -o {output}",
        )
    checkpoint = get(name) if name else None
    network = checkpoint.network if checkpoint else get_architecture(architecture or "")
    _check_paths(file, output, force)
    from robust_zoo.files import sha256_of
    from robust_zoo.weights import own
    from robust_zoo.weights.convert import convert
    from robust_zoo.weights.ensure import provenance
    from robust_zoo.weights.safetensors_file import read_header

    source_sha256 = sha256_of(file)
    if checkpoint:
        if checkpoint.sha256 not in (None, source_sha256):
            raise VerificationFailed(
                f"{file.name} is not the file of {checkpoint.name}",
                model=f"{checkpoint.name} ({checkpoint.file})",
                source=str(file),
                expected=f"sha256 {checkpoint.sha256}",
                actual=f"sha256 {source_sha256}",
                next=f"robust-zoo download {checkpoint.name}, or --architecture {network.name} for weights of your own",
            )
        if checkpoint.sha256 is None:
            click.echo(
                f"the registry has no sha256 for {checkpoint.name}: that this is its file is your word", err=True
            )
        preprocessing = checkpoint.preprocessing
        answer = convert(
            file,
            output,
            network,
            provenance(checkpoint, source_sha256),
            sha256=source_sha256,
            model=checkpoint.name,
            mean=preprocessing.mean,
            std=preprocessing.std,
            num_classes=preprocessing.num_classes,
        )
    else:
        header = own.provenance(file, source_sha256, network)
        answer = convert(file, output, network, header, sha256=source_sha256)
    click.echo(f"{output}  sha256 {answer['sha256']}")
    for key, text in read_header(output).items():
        click.echo(f"{key + ':':<16}{printable(text)}", err=True)
    if not answer["mean"]:
        click.echo("no normaliser in the file: its mean and std are not known from it", err=True)


def _check_paths(file: Path, output: Path, force: bool) -> None:
    """Before a child is started, which could only say that it broke."""
    if not file.is_file():
        raise UnknownCheckpoint(
            f"no such file: {file}",
            model=file.name,
            source=str(file),
            expected="a checkpoint file",
            actual="a directory" if file.is_dir() else "nothing there",
            next="robust-zoo download NAME   fetches those of the zoo",
        )
    if output.is_dir() or (output.exists() and not force) or output.resolve() == file.resolve():
        is_source = output.resolve() == file.resolve()
        actual = "a directory" if output.is_dir() else "the file to convert" if is_source else "an existing file"
        raise UsageError(
            f"{output} is {actual}",
            source=str(output),
            expected="a new file",
            actual=actual,
            next="name another file with -o" if is_source or output.is_dir() else "add --force to replace it",
        )
    require_directory(output)
