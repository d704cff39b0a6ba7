from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from robust_zoo.describe import all_of, megabytes, promise, size_text
from robust_zoo.registry.rows import DATA, Checkpoint
from robust_zoo.text import printable
from robust_zoo.weights.cache import cache_root, local_directories, read_receipt, weights_path
from robust_zoo.weights.exported import checkpoint_of
from robust_zoo.weights.first_seen import Seen, noted
from robust_zoo.weights.verify import state_of
from robust_zoo.weights.whereabouts import is_overheard

_MEANING = {
    "bundled": "comes with the package",
    "pinned": "must have the sha256 below, whatever source serves them",
    "converted": "must have the sha256 below when they are converted, whatever source serves them",
    "hub-declared": "must have the sha256 that the hub records at the pinned revision",
    "unverified": "no public hash: refused until robust-zoo download --allow-unverified notes it (first-seen)",
}
_NO_HASH = {"hub-declared": "declared by the hub"}


@click.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(name: str, as_json: bool) -> None:
    """Show everything known of one checkpoint. NAME may be spelled as upstream does, or be a file of your own.

    \b
    robust-zoo info resnet50_l2_eps3
    robust-zoo info resnet50_linf_eps4.0.ckpt --json

    In JSON, status is what the checkpoint promises (bundled, pinned, hub-declared or unverified), sources are in the
    order in which they are tried, cached is null, or where the weights lie and how far their origin was proven, and
    first_seen is null, or what was noted when no public hash was known. Nothing is hashed here; robust-zoo verify does
    that, and so does every use.
    """
    checkpoint = checkpoint_of(name)
    seen = noted(checkpoint, cache_root())
    facts = all_of(checkpoint) | {"sources": _sources(checkpoint), "cached": _cached(checkpoint, seen)}
    facts["first_seen"] = asdict(seen) | {"path": str(seen.path)} if seen else None
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    preprocessing, status, cached = checkpoint.preprocessing, promise(checkpoint), facts["cached"]
    threat = (
        f"{checkpoint.norm}, eps {checkpoint.threat.radius} of images in [0, 1]"
        if checkpoint.eps
        else "none: standard training"
    )
    lines: list[tuple[str, Any]] = [
        ("name", checkpoint.name),
        ("collection", checkpoint.collection.title),
        ("paper", facts["paper"]),
        ("architecture", f"{checkpoint.architecture} (timm: {checkpoint.network.built})"),
        ("parameters", f"{checkpoint.network.parameters:,}"),
        ("dataset", checkpoint.dataset),
        ("kind", f"encoder: embeddings of {preprocessing.num_classes} numbers" if checkpoint.is_encoder else ""),
        ("threat model", threat),
        (
            "clean accuracy",
            checkpoint.evidence
            if checkpoint.clean_accuracy is None
            else f"{checkpoint.clean_accuracy:.2f} %, {checkpoint.evidence}",
        ),
        ("file", f"{checkpoint.file} ({size_text(checkpoint)})"),
        ("weights", f"{status}: {_meaning(checkpoint, status)}"),
        ("sha256", " from ".join(filter(None, [checkpoint.sha256, checkpoint.sha256_from])) or _NO_HASH.get(status)),
        ("revision", facts["revision"]),
        ("published", _published(checkpoint)),
        ("converted", checkpoint.converted_sha256 and f"sha256 {checkpoint.converted_sha256}"),
        *(("source", source) for source in facts["sources"]),
        ("cached", f"{cached['path']} ({cached['state']})" if cached else "no"),
        ("first seen", f"{seen.date} from {seen.source}, sha256 {seen.sha256}" if seen else ""),
        (
            "behaviour",
            f"recorded; robust-zoo verify {checkpoint.handle} --deep compares"
            if checkpoint.fingerprint
            else "not verified: no logits of the authors' own code were compared",
        ),
        ("recipe", checkpoint.recipe and f"{checkpoint.recipe}, {checkpoint.threat}"),
        ("training", checkpoint.training),
        (
            "preprocessing",
            f"resize {preprocessing.resize} {preprocessing.interpolation}"
            f"{'' if preprocessing.crop_mode == 'center' else ' (both sides)'}, "
            f"crop {preprocessing.input_size[-1]}, mean {preprocessing.mean}, std {preprocessing.std}",
        ),
        ("licence", " from ".join(filter(None, [checkpoint.licence, checkpoint.licence_from]))),
        ("RobustBench", checkpoint.robustbench),
        ("note", checkpoint.note),
    ]
    for f in checkpoint.reported:
        if f is not checkpoint.clean:
            images = f" ({f.n:,} images)" if f.n else ""
            lines.append(("reported", f"{f.title}: {f.value:.2f} %{images}, by {f.by}"))
    for m in checkpoint.measured:
        lines.append(("measured", f"{m.title}: {m.accuracy:.2f} % ({m.correct:,} of {m.n:,}, {m.data}, {m.code})"))
    for c in checkpoint.corruptions:
        low, high = c.interval
        lines.append(("corruptions", f"{c.mean:.2f} % on average ({low:.1f}-{high:.1f}; {c.n:,}, {c.data}, {c.code})"))
    for key, text in lines:
        if text:
            click.echo(f"{key + ':':<16}{printable(text, limit=None)}")
    click.echo(f"\nmodel = robust_zoo.create_model({checkpoint.handle!r})")
    click.echo(f"{checkpoint.gives} = robust_zoo.pixel_model(model.eval())(images)  # images: (B, 3, H, W) in [0, 1]")


def _meaning(checkpoint: Checkpoint, status: str) -> str:
    if checkpoint.is_own_file:
        return "a file of your own"
    if not checkpoint.has_public_hash and is_overheard(checkpoint):
        return "plain http, and no hash of them is known: nothing is taken from there"
    return _MEANING["converted" if status == "pinned" and not checkpoint.sha256 else status]


def _published(checkpoint: Checkpoint) -> str:
    """Where the converted file can be had as it is."""
    published = checkpoint.published
    return f"{published.repo} at {published.revision} ({megabytes(published.size)})" if published else ""


def _sources(checkpoint: Checkpoint) -> list[str]:
    """Where weights are looked for, without what is secret in an address."""
    from robust_zoo.weights.sources import mirrors, sources_for

    directories = local_directories()
    planned = sources_for(checkpoint, directories=directories, extra_mirrors=mirrors(), offline=False)
    return [source.location for source in planned]


def _cached(checkpoint: Checkpoint, seen: Seen | None) -> dict[str, str] | None:
    """Where the weights lie and what their receipt says; nothing is hashed, so that `info` is quick on 1.8 GB."""
    if checkpoint.bundled:
        return {"path": str(DATA / checkpoint.file), "state": "pinned"}
    for root in (cache_root(), *local_directories()):
        path = weights_path(root, checkpoint.name)
        if path.is_file():
            receipt = read_receipt(root, checkpoint.name)
            state = state_of(checkpoint, receipt, root, seen) if receipt else "no receipt"
            return {"path": str(path), "state": state}
    return None
