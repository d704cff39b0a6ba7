from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from robust_zoo.cli.options import require_directory
from robust_zoo.errors import UnknownCheckpoint, UsageError, VerificationFailed
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, get_architecture, get_dataset
from robust_zoo.registry.rows import checkpoint_name
from robust_zoo.text import printable
from robust_zoo.threat import NORMS, ThreatModel, parse_eps


@click.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="The file is this checkpoint: its hash, normaliser and provenance are checked and kept.")
@click.option("--architecture", "-a", help="The file is a network of your own, of this architecture (resnet50).")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The safetensors file to write.")
@click.option("--ema/--raw", default=None, help="Which of two sets of weights; averaged ones (EMA) when left out.")
@click.option("--dataset", help="What it was trained on, e.g. imagenet or cifar10.")
@click.option("--norm", type=click.Choice([*NORMS]), help="With --eps: what it was trained to withstand.")
@click.option("--eps", help="The radius, e.g. 0.5 or 4/255; 0 for standard training.")
@click.option("--mean", metavar="R,G,B", help="What images in [0, 1] are normalised with, when the file does not say.")
@click.option("--std", metavar="R,G,B", help="As --mean.")
@click.option("--licence", help="Of the weights.")
@click.option("--force", is_flag=True, help="Replace an existing output file.")
def command(
    file: Path, name: str | None, architecture: str | None, output: Path, ema: bool | None, force: bool, **said: Any
) -> None:
    """Turn a checkpoint of any usual layout into safetensors with timm's keys.

    \b
    robust-zoo convert mine.ckpt --architecture resnet50 -o mine.safetensors
    robust-zoo convert mine.ckpt -a resnet50 --dataset imagenet --norm linf --eps 4/255 -o known.safetensors
    robust-zoo convert resnet18_l2_eps3.ckpt --name resnet18_l2_eps3 -o resnet18_l2_eps3.safetensors

    The file is read in a child process that runs no code from it, with bounded memory and time. The same file
    gives the same bytes each time. With --dataset, --norm and --eps (and --mean and --std, where the file has no
    normaliser) the result says what it is, and its path is taken wherever a checkpoint's name is: evaluate, attack,
    transfer, recommend, info, card, create_model. Without, create_model(..., checkpoint_path="mine.safetensors").
    Prints the output and its sha256, and on stderr the header it wrote and what was chosen or left out.
    """
    if bool(name) == bool(architecture) and (name or not _says(file, "architecture")):
        raise UsageError(
            "say what the file is",
            expected="either --name or --architecture",
            actual="both" if name else "neither",
            next=f"robust-zoo convert {file} --architecture resnet50 -o {output}",
        )
    if name and (given := [f"--{key}" for key, value in said.items() if value] + ["--ema/--raw"] * (ema is not None)):
        raise UsageError("the registry says what a checkpoint is", expected="--name alone", actual=" ".join(given))
    checkpoint = get(name) if name else None
    network = checkpoint.network if checkpoint else get_architecture(architecture or _says(file, "architecture"))
    _check_paths(file, output, force)
    from robust_zoo.files import sha256_of
    from robust_zoo.weights import own
    from robust_zoo.weights.cache import cache_root
    from robust_zoo.weights.convert import convert
    from robust_zoo.weights.ensure import provenance
    from robust_zoo.weights.first_seen import noted
    from robust_zoo.weights.safetensors_file import read_header

    source_sha256 = sha256_of(file)
    if checkpoint:
        if checkpoint.sha256 and source_sha256 not in checkpoint.hashes:
            raise VerificationFailed(
                f"{file.name} is not the file of {checkpoint.name}",
                model=f"{checkpoint.name} ({checkpoint.file})",
                source=str(file),
                expected=f"sha256 {checkpoint.sha256}",
                actual=f"sha256 {source_sha256}",
                next=f"robust-zoo download {checkpoint.name}, or --architecture {network.name} for weights of your own",
            )
        if (seen := noted(checkpoint, cache_root())) and seen.sha256 != source_sha256:
            raise seen.other(checkpoint, str(file), source_sha256)
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
            format=checkpoint.format,
            mean=preprocessing.mean,
            std=preprocessing.std,
            num_classes=preprocessing.num_classes,
        )
    else:
        header = {**own.provenance(file, source_sha256, network), **_header(file, network.name, output, **said)}
        mean, std = (_numbers(key, said[key]) for key in ("mean", "std"))
        answer = convert(file, output, network, header, sha256=source_sha256, ema=ema, mean=mean, std=std)
        for note in answer["notes"]:
            click.echo(printable(note), err=True)
        if not answer["num_classes"]:
            click.echo("the network has no classification head: it gives features, no classes", err=True)
    click.echo(f"{output}  sha256 {answer['sha256']}")
    for key, text in read_header(output).items():
        click.echo(f"{key + ':':<16}{printable(text)}", err=True)
    if not answer["mean"] and not _says(output, "preprocessing"):
        click.echo(
            "no normaliser in the file: its mean and std are not known from it (--mean and --std say them)", err=True
        )


def _says(file: Path, key: str) -> str:
    """What the header of a safetensors file has under a key, "" for other files."""
    from robust_zoo.weights.safetensors_file import read_header

    return read_header(file).get(key, "") if file.suffix == ".safetensors" and file.is_file() else ""


def _numbers(key: str, text: str | None) -> list[float] | None:
    try:
        values = [float(part) for part in text.split(",")] if text else None
    except ValueError:
        values = []
    if values is None or (len(values) == 3 and all(0 <= v <= 1 for v in values) and (key == "mean" or min(values) > 0)):
        return values
    raise UsageError(
        f"--{key} {text} is no {key} of images in [0, 1]",
        expected="three numbers from 0 to 1" + ", above 0" * (key == "std"),
        actual=repr(text),
        next=f"--{key} {'0.485,0.456,0.406' if key == 'mean' else '0.229,0.224,0.225'}",
    )


def _header(
    file: Path, architecture: str, output: Path, *, dataset: str | None, norm: str | None, eps: str | None,
    mean: str | None, std: str | None, licence: str | None,
) -> dict[str, str]:  # fmt: skip
    """What the options say of a file of one's own: the rest of a checkpoint. Images are prepared as for its dataset."""
    if bool(norm) != bool(eps) or bool(mean) != bool(std):
        raise UsageError("--norm goes with --eps, --mean with --std", expected="both or neither", actual="one of them")
    header: dict[str, str] = {"licence": licence} if licence else {}
    if mean or std or dataset:
        header["training"] = f"converted from {file.name}"
    if norm and eps:
        radius = parse_eps(eps, norm)
        header |= {"norm": norm, "eps": repr(radius)}
        if dataset:
            variant = re.sub(r"[^a-z0-9]+", "_", output.stem.lower()).strip("_") or "own"
            header["name"] = checkpoint_name(
                architecture, get_dataset(dataset), ThreatModel(norm, radius), variant=variant
            )
    if dataset:
        homes = load_registry().collections.values()
        usual = next(home.preprocessing for home in homes if home.dataset == get_dataset(dataset))
        header |= {
            "dataset": dataset,
            "input_size": json.dumps(usual.input_size),
            "crop_pct": json.dumps(usual.crop_pct),
            "crop_mode": usual.crop_mode,
            "interpolation": usual.interpolation,
        }
    return header


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
