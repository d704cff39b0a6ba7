"""The likeliest caption of an image, by beam search."""

from __future__ import annotations

import torch
from torch import Tensor

from studies.captions.merge import Captioner
from studies.captions.text import EDGE, LONGEST

Written = tuple[list[int], float]
"""Words, and the log probability that they and the end after them have together."""


@torch.no_grad()
def write(net: Captioner, image: Tensor | None, width: int, longest: int = LONGEST) -> Written:
    """Writes a caption.

    A sentence that ended leaves the beam, which narrows by one; the search is over when no other can become likelier
    than the likeliest that ended.

    Args:
        net: In eval mode.
        image: (width of images,); None where there are none.
        width: Sentences that are kept at a time; 1 is greedy.
        longest: Words, at most.

    Returns:
        The likeliest that ended; after `longest` words a sentence must.
    """
    ended: list[Written] = []
    words = torch.empty(1, 0, dtype=torch.int64)
    scores, states = torch.zeros(1), net.language(torch.tensor([[EDGE]]))[:, -1]
    for _ in range(longest + 1):
        images = image.expand(len(states), -1) if image is not None else None
        logp = net.beside(images, states[:, None])[:, 0].log_softmax(1)
        total = (scores[:, None] + logp).flatten()
        if words.shape[1] == longest:
            total = torch.where(torch.arange(len(total)) % logp.shape[1] == EDGE, total, -torch.inf)
        scores, chosen = total.topk(min(width - len(ended), int((total > -torch.inf).sum())))
        parents, last = chosen // logp.shape[1], chosen % logp.shape[1]
        over = last == EDGE
        ended += [(words[i].tolist(), score) for i, score in zip(parents[over], scores[over].tolist(), strict=True)]
        live = ~over
        if not live.any() or (ended and scores[live].max() <= max(score for _, score in ended)):
            break
        parents, last, scores = parents[live], last[live], scores[live]
        words = torch.cat((words[parents], last[:, None]), 1)
        states = net.language(last[:, None], states[parents])[:, -1]
    return max(ended, key=lambda one: one[1])
