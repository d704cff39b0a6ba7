"""The merge architecture of Tanti et al.: a language model that never sees the image, and an image beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studies.captions.text import EDGE, NOTHING

EMBEDDING, STATE, IMAGE = 96, 128, 96  # widths
DROPOUT = 0.5  # of what the last layer reads
_IGNORED = -100


class Language(nn.Module):
    """What reads a sentence's beginning, and is transferred: embedding, GRU, and the learned state it starts in.

    Args:
        size: Words that can be written; one more can be read.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size + 1, EMBEDDING)
        self.gru = nn.GRU(EMBEDDING, STATE, batch_first=True)
        self.start = nn.Parameter(torch.zeros(STATE))

    def forward(self, words: Tensor, state: Tensor | None = None) -> Tensor:
        """States after each word.

        Args:
            words: (N, T) int64.
            state: (N, STATE), before the first; `start` when None.

        Returns:
            (N, T, STATE).
        """
        before = self.start.expand(len(words), -1) if state is None else state
        return self.gru(self.embedding(words), before[None].contiguous())[0]


class Captioner(nn.Module):
    """softmax(W [state; relu(V image)] + b): what word comes next.

    Args:
        size: Words that can be written.
        width: Of image vectors; 0 makes it a language model.
        language: Another's, of which this gets a copy; random when None.
        frozen: It stays as it is.
    """

    def __init__(self, size: int, width: int, language: Language | None = None, frozen: bool = False) -> None:
        super().__init__()
        beside = IMAGE if width else 0
        self.image = nn.Sequential(nn.Linear(width, IMAGE), nn.ReLU()) if width else None
        self.last = nn.Linear(STATE + beside, size)
        self.language = copy.deepcopy(language) if language else Language(size)
        self.language.requires_grad_(not frozen)

    def beside(self, images: Tensor | None, states: Tensor) -> Tensor:
        """Logits.

        Args:
            images: (N, width); None where there are none.
            states: (N, T, STATE).

        Returns:
            (N, T, size).
        """
        if self.image is not None:
            seen = self.image(images)
            states = torch.cat((states, seen[:, None].expand(-1, states.shape[1], -1)), 2)
        return self.last(F.dropout(states, DROPOUT, self.training))

    def forward(self, images: Tensor | None, words: Tensor) -> Tensor:
        """Logits of each word of sentences, and of their ends.

        Args:
            images: (N, width); None where there are none.
            words: (N, T), as `Vocabulary.encode` gives them.

        Returns:
            (N, T, size).
        """
        return self.beside(images, self.language(F.pad(words[:, :-1], (1, 0), value=EDGE).clamp(min=EDGE)))

    def surprise(self, images: Tensor | None, words: Tensor) -> Tensor:
        """-log p of each word that is known; 0 for others, (N, T)."""
        logits = self(images, words)
        return F.cross_entropy(logits.mT, targets(words, logits.shape[2]), ignore_index=_IGNORED, reduction="none")


def targets(words: Tensor, size: int) -> Tensor:
    """(N, T): what is to be written, unknown words and what is beyond the end left out."""
    return torch.where((words == NOTHING) | (words >= size), _IGNORED, words)


def mean_surprise(net: Captioner, images: Tensor | None, words: Tensor) -> Tensor:
    """-log p a known word, ends among them: a scalar, whose exponential is the perplexity."""
    return net.surprise(images, words).sum() / (targets(words, net.last.out_features) != _IGNORED).sum()


@dataclass(frozen=True)
class Training:
    """How a network is trained: Adam, and the epoch that the validation sentences like best.

    Attributes:
        rate: Learning rate.
        batch: Sentences a step.
        epochs: At most.
        patience: Epochs without a better one that end it.
    """

    rate: float = 2e-3
    batch: int = 32
    epochs: int = 60
    patience: int = 3


Pairs = tuple[Tensor | None, Tensor]
"""Images (N, width), if any, and encoded sentences (N, T)."""


def seeded(seed: int, make: Callable[[], Captioner]) -> Captioner:
    """A network whose random weights depend on a seed alone."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return make()


def train(net: Captioner, fit: Pairs, check: Pairs, how: Training, seed: int) -> int:
    """Trains a network where it is not frozen.

    Args:
        net: Changed in place, in eval mode afterwards, with the weights of its best epoch.
        fit: What it is trained on.
        check: What epochs are compared on.
        how: Rate, batches, patience.
        seed: Of the order and of dropout.

    Returns:
        How many epochs the kept one had, from 1.
    """
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], how.rate)
    images, words = fit
    best, at, kept = float("inf"), 0, copy.deepcopy(net.state_dict())
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for epoch in range(1, how.epochs + 1):
            net.train()
            for index in torch.randperm(len(words)).split(how.batch):
                optimiser.zero_grad()
                longest = (words[index] != NOTHING).sum(1).max()
                few = images[index] if images is not None else None
                mean_surprise(net, few, words[index, :longest]).backward()
                optimiser.step()
            net.eval()
            with torch.no_grad():
                now = mean_surprise(net, *check).item()
            if now < best:
                best, at, kept = now, epoch, copy.deepcopy(net.state_dict())
            elif epoch - at >= how.patience:
                break
    net.load_state_dict(kept)
    net.eval()
    return at
