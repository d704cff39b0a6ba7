"""How captions are scored: BLEU and CIDEr-D as pycocoevalcap gives them, the F1 of words, retrieval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from studies.captions.merge import Captioner
from studies.captions.text import Sentence

ORDERS = 4  # n-grams of 1 to 4 words
_TINY, _SMALL = 1e-15, 1e-9  # pycocoevalcap's, so that nothing is divided by 0
_SIGMA = 6.0  # of lengths, in CIDEr-D's penalty


def grams(sentence: Sentence, order: int) -> Counter[Sentence]:
    """How often each run of `order` words occurs."""
    return Counter(sentence[i : i + order] for i in range(len(sentence) - order + 1))


def bleu(written: Sequence[Sentence], references: Sequence[Sentence]) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus with one reference each (Papineni et al. 2002).

    Args:
        written: N captions, not all empty.
        references: N.

    Returns:
        The geometric means of precisions, times the penalty for short ones.
    """
    lengths = [sum(map(len, captions)) for captions in (written, references)]
    ratio = (lengths[0] + _TINY) / (lengths[1] + _SMALL)
    product, found = 1.0, []
    for order in range(1, ORDERS + 1):
        pairs = [(grams(mine, order), grams(yours, order)) for mine, yours in zip(written, references, strict=True)]
        hits = sum((mine & yours).total() for mine, yours in pairs)
        product *= (hits + _TINY) / (sum(mine.total() for mine, _ in pairs) + _SMALL)
        found.append(product ** (1 / order) * math.exp(min(0.0, 1 - 1 / ratio)))
    return found


def cider(written: Sequence[Sentence], references: Sequence[Sentence]) -> float:
    """CIDEr-D with one reference each (Vedantam et al. 2015); its weights count words in `references`.

    A length is that of a caption's pairs of words, so that one word is as long as none: pycocoevalcap's rule.

    Args:
        written: N captions.
        references: N.

    Returns:
        The mean, of at most 10.
    """
    scores = []
    for order in range(1, ORDERS + 1):
        mine, yours = ([grams(caption, order) for caption in captions] for captions in (written, references))
        seen = Counter(gram for caption in yours for gram in caption)
        rare = {gram: math.log(len(yours) / max(1, seen[gram])) for caption in (*mine, *yours) for gram in caption}
        scores.append([_cosine(*both, rare) for both in zip(mine, yours, strict=True)])
    apart = np.array([max(0, len(a) - 1) - max(0, len(b) - 1) for a, b in zip(written, references, strict=True)])
    return 10 * float((np.mean(scores, 0) * np.exp(-(apart**2) / (2 * _SIGMA**2))).mean())


def _cosine(mine: Counter[Sentence], yours: Counter[Sentence], rare: dict[Sentence, float]) -> float:
    """Of counts weighted by how rare each is; what `mine` has too often counts as often as in `yours`."""
    both = sum(min(mine[gram], yours[gram]) * yours[gram] * rare[gram] ** 2 for gram in mine)
    sizes = [math.sqrt(sum((n * rare[gram]) ** 2 for gram, n in caption.items())) for caption in (mine, yours)]
    return both / math.prod(sizes) if all(sizes) else 0.0


def word_f1(written: Sequence[Sentence], references: Sequence[Sentence]) -> float:
    """The mean F1 of a caption's words, in any order."""
    pairs = list(zip(written, references, strict=True))
    return float(np.mean([2 * (grams(a, 1) & grams(b, 1)).total() / (len(a) + len(b)) for a, b in pairs]))


@torch.no_grad()
def recall(net: Captioner, images: Tensor, words: Tensor, rank: int) -> float:
    """How often a caption's own image is among the `rank` that make it likeliest.

    Args:
        net: In eval mode.
        images: (N, width).
        words: (N, T), their captions.
        rank: Images that count.

    Returns:
        A share; images that make it as likely come before the own one.
    """
    ranks = []
    for own, caption in enumerate(words):
        logp = -net.surprise(images, caption.expand(len(images), -1)).sum(1)
        ranks.append(int((logp >= logp[own]).sum()))
    return float(np.mean([found <= rank for found in ranks]))
