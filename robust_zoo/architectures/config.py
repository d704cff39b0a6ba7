"""config.json of a folder for timm: what timm builds, what it tells the builder, how images are prepared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from timm.models import get_pretrained_cfg, is_model

from robust_zoo.architectures.build import NETWORKS, default_cfg
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.published import FILE
from robust_zoo.registry.rows import Checkpoint


def config_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What config.json says, in the form that timm and transformers read (timm/models/_hub.py).

    `model_args` alone, with `num_classes`, makes the network: transformers hands its builder nothing else. The number
    of classes is not among them, for transformers passes its own beside them (save_for_hf of timm 1.0.31 writes it,
    and transformers 5.24 then fails). Names of ImageNet's classes are left out: both know them.

    Args:
        checkpoint: Whose weights.

    Returns:
        Values that JSON has; the same checkpoint and timm give the same.
    """
    builder, arguments = checkpoint.network.published
    usual = get_pretrained_cfg(builder)
    fixed = {"fixed_input_size": True} if usual and usual.fixed_input_size else {}
    cfg = default_cfg(builder) | fixed | checkpoint.timm_cfg
    names, classes = checkpoint.collection.dataset.class_names, checkpoint.preprocessing.num_classes
    labels = {} if checkpoint.is_encoder or len(names) != classes else {"label_names": list(names)}
    return {
        "architecture": builder,
        "num_classes": classes,
        **labels,
        "model_args": arguments,
        "pretrained_cfg": {key: value for key, value in cfg.items() if value not in (None, "")},
    }


def in_repository(checkpoint: Checkpoint, url: str) -> Checkpoint:
    """A checkpoint as its repository says it: one of a user's own names no path of a disk, and timm's own network.

    Args:
        checkpoint: A row, or of a file that robust-zoo wrote.
        url: The repository's page.

    Returns:
        The same for a row.
    """
    if not checkpoint.is_own_file:
        return checkpoint
    home, network = checkpoint.collection, checkpoint.network
    if network.name not in load_registry().architectures and is_model(network.timm) and network.timm not in NETWORKS:
        network = replace(network, plain_timm=network.timm, plain_arguments=network.arguments)
    return replace(checkpoint, file=FILE, bundled=False, network=network, collection=replace(home, origin=url))
