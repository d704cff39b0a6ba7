"""What becomes of an image under attacks, as a number: the stage that broke it, or one of these. No torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

ROBUST, WRONG = -1, -2  # withstood all of them; wrong without any
CHUNK = 1000  # images that are attacked together: survivors of a stage fill the next one's batches


def by_stage(names: Iterable[str], broken_by: np.ndarray) -> dict[str, int]:
    """How many images each stage broke.

    Args:
        names: Of the stages, in order.
        broken_by: (n,) every image's fate.

    Returns:
        Counts by the stages' names.
    """
    return {name: int((broken_by == i).sum()) for i, name in enumerate(names)}
