"""BLEU and CIDEr-D of the captions study against pycocoevalcap's, on random captions."""

from __future__ import annotations

import numpy as np
import pytest

from studies.captions import scores

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("seed", range(30))
def test_scores_are_pycocoevalcaps(seed: int) -> None:
    """Captions of no word to twelve, some of them near their reference, with many words or few."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    rng = np.random.default_rng(seed)
    words = np.array([f"w{i}" for i in range(rng.choice([3, 10, 100]))])
    references, written = [], []
    for _ in range(rng.integers(2, 60)):
        reference = tuple(map(str, rng.choice(words, rng.integers(1, 13))))
        other = tuple(map(str, rng.choice(words, rng.integers(0, 13))))
        references.append(reference)
        written.append([reference, reference[1:], reference[:3] + other, other][rng.integers(4)])
    theirs = [{i: [" ".join(caption)] for i, caption in enumerate(those)} for those in (references, written)]
    bleu, _ = Bleu(4).compute_score(*theirs, verbose=0)
    cider, _ = Cider().compute_score(*theirs)
    assert scores.bleu(written, references) == pytest.approx(bleu, abs=1e-9, rel=0)
    assert scores.cider(written, references) == pytest.approx(cider, abs=1e-9, rel=0)
