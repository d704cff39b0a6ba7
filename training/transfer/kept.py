"""A kept network as files: its weights, which say all that a row holds; its card; config.json, for timm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from robust_zoo.architectures.config import config_of, in_repository
from robust_zoo.files import GO_ON, replace_file, storage
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.published import FILE
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.transfer.about import About
from robust_zoo.training.transfer.card import card
from robust_zoo.weights.exported import exported
from robust_zoo.weights.safetensors_file import write_safetensors


@dataclass(frozen=True)
class Kept:
    """What `keep` wrote.

    Attributes:
        checkpoint: What the file is.
        before: Figures of the source.
        after: The same of the file.
    """

    checkpoint: Checkpoint
    before: tuple[Measurement, ...]
    after: tuple[Measurement, ...]


def keep(folder: Path, network: nn.Module, about: About, before: Sequence[dict[str, Any]] = ()) -> Kept:
    """Writes ``model.safetensors``, ``card.md`` and, last, ``config.json``.

    Args:
        folder: Where; made where it is not there.
        network: Normalised images -> logits, on the CPU; its tensors are written in fp32.
        about: What the file says.
        before: Figures of the source for the card, in the fields of `about.metrics`; () where there are none.

    Returns:
        The checkpoint that the file is, and its figures.

    Raises:
        StorageError: The disk refuses.
    """
    with storage(folder, GO_ON):
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.float() if v.is_floating_point() else v for k, v in network.state_dict().items()}
        write_safetensors(folder / FILE, state, about.header)
    made = exported(folder / FILE)
    olds, news = (
        tuple(Measurement(weights_sha256=sha256, **m) for m in found)
        for sha256, found in ((about.source_sha256, before), (str(made.sha256), about.metrics))
    )
    told = in_repository(made, "" if about.source.is_own_file else about.source.collection.origin)
    config = json.dumps(config_of(told), indent=2, ensure_ascii=False) + "\n"
    for name, text in (("card.md", card(made, about, olds, news)), ("config.json", config)):
        replace_file(folder / name, text.encode(), GO_ON)
    return Kept(made, olds, news)
