"""A trained model -> a safetensors file with its provenance in the header; a row for checkpoints.toml and a card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_zoo.cards.card import card_files
from robust_zoo.files import GO_ON, replace_file
from robust_zoo.names import within
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.rows import Checkpoint, checkpoint_name
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.accuracy import pgd_accuracy
from robust_zoo.training.attacks.settings import in_words
from robust_zoo.training.data.dataset import Dataset, spread
from robust_zoo.training.distributed import ALONE, World
from robust_zoo.training.recipe_words import note_of
from robust_zoo.training.recipes import Recipe, recipe_for
from robust_zoo.training.signals import Stopped
from robust_zoo.training.version import code_version
from robust_zoo.weights.exported import network_of
from robust_zoo.weights.safetensors_file import write_safetensors

Measured = list[dict[str, Any]]
Poll = Callable[..., None] | None

PGD_STEPS = 20
_CURVE_IMAGES = 1000


def export(
    model: nn.Module,
    checkpoint: Checkpoint,
    recipe: Recipe,
    train: Dataset,
    measured: Measured,
    out: Path,
    *,
    how: str,
    hours: float,
) -> Path:
    """Writes `<name>.safetensors`, `row.toml`, `card.md` and its picture `card.svg` under `out`.

    Args:
        model: The bare network (not the pixel-space wrapper), on the CPU.
        checkpoint: With the name and collection of what is exported (`as_trained`).
        recipe: How it was trained.
        train: The training images.
        measured: From `measure`.
        out: The folder, which must be there.
        how: In words, on what it was trained.
        hours: What it took; they stand in row and card only, so that two runs of one recipe on one machine give the
            same file.

    Returns:
        The weights' path.
    """
    header = {
        "name": checkpoint.name,
        "architecture": checkpoint.architecture,
        "dataset": checkpoint.dataset,
        "norm": checkpoint.norm,
        "eps": repr(checkpoint.eps),
        "licence": checkpoint.licence,
        "preprocessing": json.dumps(asdict(checkpoint.preprocessing), sort_keys=True),
        "recipe": recipe.to_json(),
        "recipe_sha256": recipe.sha256,
        "seed": str(recipe.seed),
        "training_data_sha256": train.sha256,
        "metrics": json.dumps(measured, sort_keys=True),
        "code": code_version(),
        "training": how,
    }
    header |= {"note": checkpoint.note} if checkpoint.note else {}
    path = within(out, f"{checkpoint.name}.safetensors")
    sha256 = write_safetensors(path, model.state_dict(), header)
    exported = replace(
        checkpoint,
        file=path.name,
        sha256=sha256,
        size=path.stat().st_size,
        training=f"{how}, {hours:.2f} hours",
        measured=tuple(Measurement(weights_sha256=sha256, **values) for values in measured),
    )
    replace_file(out / "row.toml", row_toml(exported).encode(), GO_ON)
    for file, text in card_files(exported, recipe, "card").items():
        replace_file(out / file, text.encode(), GO_ON)
    return path


def as_trained(checkpoint: Checkpoint, recipe: Recipe) -> Checkpoint:
    """The checkpoint that a run makes.

    A checkpoint that others published does not become this run: what is made says that it was trained here.

    Args:
        checkpoint: The one whose training is repeated or varied.
        recipe: How the run trains.

    Returns:
        A checkpoint of the same collection, or of a "custom" one for another recipe; without weights yet.
    """
    home_recipe = replace(recipe_for(checkpoint), architecture=recipe.architecture, threat=recipe.threat)
    own = recipe == home_recipe  # the collection's, perhaps at another radius
    network = checkpoint.network
    if recipe.architecture != network.name:
        network = network_of(recipe.architecture)
    home = checkpoint.collection
    name = checkpoint_name(recipe.architecture, home.dataset, recipe.threat, variant="" if own else "custom")
    if checkpoint.sources or not own:
        home = replace(
            home,
            name=f"{'robust_zoo' if own else 'custom'}_{home.dataset.name}",
            title="Trained with robust_zoo",
            paper="",
            citation="",
            in_names="",
            sources=(),
            format=load_registry().formats["bare"],
            recipe=home.recipe if own else "custom",
            origin="this run",
        )
    return Checkpoint(  # made anew: what is known of other weights does not hold of these
        name=name,
        collection=home,
        network=network,
        threat=recipe.threat,
        file=checkpoint.file,
        sources=(),
        format=home.format,
        preprocessing=checkpoint.preprocessing,
        licence=checkpoint.licence,
        licence_from=checkpoint.licence_from if checkpoint.bundled and own else "",
        variant="" if own else "custom",
        note=note_of(recipe),
        bundled=checkpoint.bundled and own,
    )


def measure(
    model: nn.Module, checkpoint: Checkpoint, data: Dataset, *, world: World = ALONE, poll: Poll = None
) -> Measured:
    """Clean and PGD-20 accuracy on `data` at the trained radius (for eps 0: at the norm's usual one), and the curve of
    PGD-20 accuracy over other radii on 1,000 of the images.

    Args:
        model: Pixel-space.
        checkpoint: With the threat model and the dataset.
        data: The test images.
        world: The processes; each takes its share.
        poll: Called between attack steps; may raise.

    Returns:
        The fields of `Measurement`s, but for the weights' hash; clean accuracy first.

    Raises:
        Stopped: On every rank, when `poll` does on one.
    """
    dataset = checkpoint.collection.dataset
    threat = checkpoint.threat if checkpoint.eps else dataset.usual_threat(checkpoint.norm)
    some = spread(data, _CURVE_IMAGES)

    def accuracy(images: Dataset, threat: ThreatModel, steps: int) -> dict[str, Any]:
        reason, hits = "", 0
        share = images.subset(torch.arange(world.rank, len(images), world.size))
        label = f"PGD-{PGD_STEPS} {threat}" if steps else "clean accuracy"
        try:
            progress = label if world.first else ""
            hits = pgd_accuracy(model, share, threat, steps=steps, progress=progress, poll=poll).correct
        except Stopped as stopped:
            reason = str(stopped)
        world.all_stop(reason)
        which = dataset.split if images is data else f"{dataset.split}, evenly spread"
        attacked = {"norm": threat.norm, "eps": threat.eps, "settings": in_words(f"pgd-{steps}")} if steps else {}
        return {
            "attack": f"pgd-{steps}" if steps else "none",
            "correct": int(world.sum(hits)[0]),
            "n": len(images),
            "data": f"{dataset.name} {which}",
            "code": code_version(),
            **attacked,
        }

    curve = [ThreatModel(threat.norm, eps) for eps in dataset.curve_eps[threat.norm]]
    return [
        accuracy(data, threat, 0),
        accuracy(data, threat, PGD_STEPS),
        *(accuracy(some, radius, PGD_STEPS) for radius in curve),
    ]


def row_toml(checkpoint: Checkpoint) -> str:
    """The checkpoint as a row of checkpoints.toml.

    Args:
        checkpoint: With the sha256 of its weights, and what was measured.

    Returns:
        TOML, with an empty line between tables.
    """
    values = {
        "name": checkpoint.name,
        "collection": checkpoint.collection.name,
        "architecture": checkpoint.architecture,
        "norm": checkpoint.norm,
        "eps": checkpoint.threat.toml,
        "file": checkpoint.file,
        "sha256": checkpoint.sha256,
        "size": checkpoint.size,
        **({"bundled": True} if checkpoint.bundled else {}),
        "training": checkpoint.training,
    }
    lines = ["[[checkpoint]]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    for m in checkpoint.measured:
        fields = {k: v for k, v in asdict(m).items() if v not in (None, "")}
        if m.threat:
            fields["eps"] = m.threat.toml
        lines += ["", "[[checkpoint.measured]]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]
    return "\n".join(lines) + "\n"
