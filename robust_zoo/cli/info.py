from __future__ import annotations

import json

import click

from robust_zoo.cli.describe import all_of, eps_text, megabytes, promise
from robust_zoo.registry import get

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
    """
    row = get(name)
    facts = all_of(row)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    preprocessing, status = row.preprocessing, promise(row)
    source = f"{facts['repo']} at revision {facts['revision']}" if facts["repo"] else facts["origin"]
    size = megabytes(row.approximate_size)
    lines = {
        "name": row.name,
        "collection": row.collection.title,
        "paper": facts["paper"],
        "architecture": f"{row.architecture} (timm: {row.network.timm})",
        "dataset": row.dataset,
        "threat model": f"{row.norm}, eps {eps_text(row)} of images in [0, 1]" if row.eps else "none: standard training",
        "clean accuracy": f"{row.clean_accuracy:.2f} %, {row.evidence}",
        "file": f"{row.file} ({size if row.size else 'about ' + size})",
        "weights": f"{status}: {_MEANING[status]}",
        "sha256": row.sha256 or "declared by the hub",
        "source": source,
        "recipe": row.recipe,
        "training": row.training,
        "preprocessing": f"resize {round(preprocessing.input_size[-1] / preprocessing.crop_pct)} {preprocessing.interpolation}, "
        f"crop {preprocessing.input_size[-1]}, mean {preprocessing.mean}, std {preprocessing.std}",
        "licence": row.licence,
    }
    for key, text in lines.items():
        if text:
            click.echo(f"{key + ':':<16}{text}")
    for m in facts["measured"]:
        attack = "clean" if m["attack"] == "none" else f"{m['attack']} {m['norm']} eps {m['eps']:g}"
        click.echo(f"{'measured:':<16}{attack}: {m['accuracy']:.2f} % ({m['correct']:,} of {m['n']:,}, {m['data']}, {m['code']})")
    click.echo(f"\nmodel = robust_zoo.create_model({row.name!r})\nlogits = robust_zoo.pixel_model(model.eval())(images)  # [0, 1]")
