from __future__ import annotations

import json
from typing import Any

import click

from robust_zoo.cli.describe import all_of, eps_text, promise, size_text
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import DATA, Checkpoint
from robust_zoo.weights.cache import cache_root, local_directories, read_receipt, weights_path

_MEANING = {
    "bundled": "comes with the package",
    "pinned": "must have the sha256 below, whatever source serves them",
    "hub-declared": "must have the sha256 that the hub records at the pinned revision",
}


@click.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(name: str, as_json: bool) -> None:
    """Show everything known of one checkpoint. NAME may be spelled as upstream does.

    \b
    robust-zoo info resnet50_l2_eps3
    robust-zoo info resnet50_linf_eps4.0.ckpt --json

    In JSON, status is what the row promises (bundled, pinned or hub-declared), sources are in the order in which
    they are tried, and cached is null, or where the weights lie and how far their origin was proven. Nothing is
    hashed here; robust-zoo verify does that, and so does every use.
    """
    row = get(name)
    facts = all_of(row) | {"sources": _sources(row), "cached": _cached(row)}
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    preprocessing, status, cached = row.preprocessing, promise(row), facts["cached"]
    threat = f"{row.norm}, eps {eps_text(row)} of images in [0, 1]" if row.eps else "none: standard training"
    lines: list[tuple[str, Any]] = [
        ("name", row.name),
        ("collection", row.collection.title),
        ("paper", facts["paper"]),
        ("architecture", f"{row.architecture} (timm: {row.network.timm})"),
        ("dataset", row.dataset),
        ("threat model", threat),
        ("clean accuracy", f"{row.clean_accuracy:.2f} %, {row.evidence}"),
        ("file", f"{row.file} ({size_text(row)})"),
        ("weights", f"{status}: {_MEANING[status]}"),
        ("sha256", row.sha256 or "declared by the hub"),
        ("revision", facts["revision"]),
        *(("source", source) for source in facts["sources"]),
        ("cached", f"{cached['path']} ({cached['state']})" if cached else "no"),
        ("recipe", f"{row.recipe}, {row.threat}"),
        ("training", row.training),
        (
            "preprocessing",
            f"resize {round(preprocessing.input_size[-1] / preprocessing.crop_pct)} {preprocessing.interpolation}, "
            f"crop {preprocessing.input_size[-1]}, mean {preprocessing.mean}, std {preprocessing.std}",
        ),
        ("licence", row.licence),
    ]
    for m in facts["measured"]:
        attack = "clean" if m["attack"] == "none" else f"{m['attack']} {m['norm']} eps {m['eps']:g}"
        lines.append(
            ("measured", f"{attack}: {m['accuracy']:.2f} % ({m['correct']:,} of {m['n']:,}, {m['data']}, {m['code']})")
        )
    for key, text in lines:
        if text:
            click.echo(f"{key + ':':<16}{text}")
    click.echo(f"\nmodel = robust_zoo.create_model({row.name!r})")
    click.echo("logits = robust_zoo.pixel_model(model.eval())(images)  # images: (B, 3, H, W) in [0, 1]")


def _sources(row: Checkpoint) -> list[str]:
    """Where weights are looked for, at the hub's public address; sources' own plan takes huggingface_hub to import."""
    from robust_zoo.weights.sources import mirrors, plan

    home = row.collection
    hub = [f"{home.origin}/resolve/{home.revision}/{row.file}"] if home.repo else []
    local = [source.location for source in plan(row, directories=local_directories(), extra_mirrors=(), offline=True)]
    return [*local, *hub, *([f"{base.rstrip('/')}/{row.file}" for base in (*home.mirrors, *mirrors())] if hub else [])]


def _cached(row: Checkpoint) -> dict[str, str] | None:
    """Where the weights lie and what their receipt says; nothing is hashed, so that `info` is quick on 1.8 GB."""
    if row.bundled:
        return {"path": str(DATA / row.file), "state": "pinned"}
    for root in (cache_root(), *local_directories()):
        path = weights_path(root, row.name)
        if path.is_file():
            receipt = read_receipt(root, row.name)
            return {"path": str(path), "state": receipt.state if receipt else "no receipt"}
    return None
