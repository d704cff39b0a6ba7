"""The standard model that a robust one is shown beside."""

from __future__ import annotations

from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint


def standard_of(checkpoint: Checkpoint) -> Checkpoint | None:
    """The checkpoint of standard training that differs least from a robust one.

    Args:
        checkpoint: Any.

    Returns:
        One of the same architecture, dataset and image size, of the same collection where there is one; None where
        there is none, or where the checkpoint is of standard training itself.
    """
    if not checkpoint.eps:
        return None
    names = list_models(architecture=checkpoint.architecture, dataset=checkpoint.dataset, eps=0)
    rows = [row for row in map(get, names) if row.preprocessing.input_size == checkpoint.preprocessing.input_size]
    return min(rows, key=lambda row: row.collection.name != checkpoint.collection.name, default=None)
