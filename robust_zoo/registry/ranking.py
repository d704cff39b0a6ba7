"""Which checkpoint is best under corruptions, by what was measured. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from robust_zoo.registry.corruptions import Corruptions
from robust_zoo.registry.rows import Checkpoint

Ranking = dict[str, list[tuple[Checkpoint, Corruptions]]]


def ranked(checkpoints: Iterable[Checkpoint]) -> Ranking:
    """Checkpoints by their mean accuracy under corruptions; figures on other images are never mixed.

    Args:
        checkpoints: Any; those that were not measured are left out.

    Returns:
        By the images, in words: the checkpoints and their figures, the best first.
    """
    found: Ranking = {}
    for checkpoint in checkpoints:
        for figure in checkpoint.corruptions:
            found.setdefault(figure.data, []).append((checkpoint, figure))
    return {data: sorted(pairs, key=lambda pair: -pair[1].mean) for data, pairs in sorted(found.items())}
