from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from robust_zoo.cli.options import CACHE_DIR
from robust_zoo.describe import count, gravest, megabytes
from robust_zoo.errors import StorageError, UsageError, VerificationFailed
from robust_zoo.registry.lookup import list_models
from robust_zoo.text import printable
from robust_zoo.weights import cache, doctor, on_disk


@click.command("doctor")
@click.argument("paths", nargs=-1, type=Path)
@CACHE_DIR
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(paths: tuple[Path, ...], cache_dir: str | None, as_json_: bool) -> None:
    """Look through this cache, torch.hub's, Hugging Face's and RobustBench's for weights of ours, and say what each is.

    \b
    robust-zoo doctor
    robust-zoo doctor ~/Downloads old_weights/resnet50.ckpt

    RobustBench's files are looked for below ./models. PATHS are further files and folders. Each file found is hashed,
    and is good, of unknown hash, or broken: html, pointer (of Git LFS), truncated, wrong (another checkpoint's, or
    other bytes), damaged, unreadable. With it comes the command that puts it right; nothing is changed, and no socket
    opened. Exit code 1 if any is broken.
    """
    from tqdm import tqdm

    if missing := [path for path in paths if not path.exists()]:
        raise UsageError(
            f"no such file or folder: {missing[0]}",
            source=str(missing[0]),
            expected="files and folders",
            actual="nothing there",
            next="robust-zoo doctor   looks through the usual caches",
        )
    root = cache.cache_root(cache_dir)
    roots = (root, *(path for path in cache.local_directories() if (path / "weights").is_dir()))
    found = [finding for one in roots for finding in doctor.in_cache(one, root)]
    known = {finding.path for finding in found}
    files = [path for path in on_disk.candidates(on_disk.places(), paths) if path not in known]
    with tqdm(total=sum(path.stat().st_size for path in files), unit="B", unit_scale=True, disable=None) as bar:
        for path in files:
            bar.set_description(printable(path.name))
            if finding := doctor.examine(path):
                found.append(finding)
            bar.update(path.stat().st_size)
    if as_json_:
        click.echo(json.dumps([asdict(finding) | {"path": str(finding.path)} for finding in found], indent=1))
    else:
        for finding in found:
            click.echo(f"{finding.status:<12}  {finding.name}  {megabytes(finding.size)}  {printable(finding.path)}")
            click.echo(f"              {printable(finding.detail)}")
            if finding.fix:
                click.echo(f"              {printable(finding.fix)}")
    if left := [path for path in cache.leftovers(root, set(list_models())) if path.suffix != ".lock"]:
        click.echo(f"{count(len(left), 'leftover')} of cut downloads and the like: robust-zoo cache prune", err=True)
    counts = Counter(finding.status for finding in found)
    told = ", ".join(f"{n} {status}" for status, n in counts.items()) or "nothing of ours"
    click.echo(f"{count(len(found), 'file')} of ours: {told}", err=True)
    broken = [finding.status for finding in found if finding.status in doctor.BAD]
    codes = {StorageError.exit_code if status == "unreadable" else VerificationFailed.exit_code for status in broken}
    click.get_current_context().exit(gravest(codes))
