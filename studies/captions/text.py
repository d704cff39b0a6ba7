"""Words of captions and of other text: tokens, a vocabulary, sentences as tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST = 20  # words of a sentence
EDGE = 0  # before the first word and after the last
NOTHING = -1  # beyond a sentence's end
_TOKEN = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
_FULL_STOP = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)[.!?](?=\W*\s|\W*$)")

Sentence = tuple[str, ...]
"""Words in small letters, without marks."""


def tokens(text: str) -> Sentence:
    """The words of a text: letters and digits of ASCII, with apostrophes and hyphens inside them."""
    return tuple(_TOKEN.findall(text.lower().replace("’", "'")))


def sentences(text: str) -> list[Sentence]:
    """A text's sentences, cut after full stops, question and exclamation marks.

    Args:
        text: Of any length.

    Returns:
        Those of 1 to LONGEST words, in order.
    """
    found = (tokens(part) for part in _FULL_STOP.split(text))
    return [sentence for sentence in found if 0 < len(sentence) <= LONGEST]


@dataclass(frozen=True)
class Vocabulary:
    """Words by number: 0 is EDGE, then `words`; the number after the last stands for any other word.

    That one is read and never written: no network gives it a probability, so that what is measured is how well known
    words are told from each other.

    Attributes:
        words: In the order of their numbers, from 1.
    """

    words: Sentence

    @staticmethod
    def of(captions: Iterable[Sentence], least: int) -> Vocabulary:
        """The words that occur at least so many times, in the order of the alphabet."""
        counts = Counter(word for caption in captions for word in caption)
        return Vocabulary(tuple(sorted(word for word, n in counts.items() if n >= least)))

    @property
    def size(self) -> int:
        """How many there are to write, EDGE among them: the number of an unknown word."""
        return len(self.words) + 1

    def encode(self, captions: Sequence[Sentence]) -> Tensor:
        """Sentences as numbers.

        Args:
            captions: N of them.

        Returns:
            (N, T) int64, each with EDGE at its end and NOTHING beyond; T is one more than the words of the longest.
        """
        number = {word: i for i, word in enumerate(self.words, 1)}
        encoded = torch.full((len(captions), 1 + max(map(len, captions), default=0)), NOTHING)
        for row, caption in zip(encoded, captions, strict=True):
            row[: len(caption) + 1] = torch.tensor([*(number.get(word, self.size) for word in caption), EDGE])
        return encoded

    def decode(self, numbers: Iterable[int]) -> Sentence:
        """Words of numbers, without EDGE."""
        return tuple(self.words[number - 1] for number in numbers)
