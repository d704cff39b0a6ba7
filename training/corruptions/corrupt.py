"""Images as a corruption leaves them. What is random is a function of seed, image, corruption and severity alone."""

from __future__ import annotations

import zlib

import numpy as np

from robust_zoo.training.corruptions.functions import FUNCTIONS, rounded
from robust_zoo.training.corruptions.kinds import KINDS

VERSION = 1  # of what the functions do; another is another figure


def rng_of(kind: str, severity: int, index: int, seed: int) -> np.random.Generator:
    """The generator of one image.

    Args:
        kind: A name of `kinds.OWN`.
        severity: 1 to 5.
        index: Of the image in its set.
        seed: Of the whole set.

    Returns:
        It, the same whatever was drawn before.
    """
    return np.random.default_rng([seed % 2**64, index, zlib.crc32(kind.encode()), severity])


def corrupt(image: np.ndarray, kind: str, severity: int, *, index: int = 0, seed: int = 0) -> np.ndarray:
    """A corrupted version of an image, by our own code; the strengths are those of CIFAR-10-C and ImageNet-C.

    Args:
        image: (H, W, 3) uint8, square.
        kind: A name of `kinds.OWN`.
        severity: 0 to 5; 0 is the image itself.
        index: Of the image in its set: with seed, kind and severity it decides what is random.
        seed: Of the whole set.

    Returns:
        (H, W, 3) uint8.

    Example:
        >>> corrupt(np.full((32, 32, 3), 100, np.uint8), "contrast", 5)[0, 0].tolist()
        [100, 100, 100]
    """
    if severity == 0:
        return image
    strength = KINDS[kind].strength(severity, len(image))
    return rounded(FUNCTIONS[kind](image / 255, rng_of(kind, severity, index, seed), *strength))
