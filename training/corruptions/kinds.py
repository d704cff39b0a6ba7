"""Common corruptions by name: how strong each is at each severity, and what AlexNet makes of it. No torch.

The strengths are those that Hendrycks & Dietterich made CIFAR-10-C and ImageNet-C with (https://arxiv.org/abs/1903.12261;
hendrycks/robustness, make_cifar_c.py@ca36008 and make_imagenet_c.py@e0377d4). What is done with them here is our own:
figures on such images never carry the official names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SEVERITIES = (1, 2, 3, 4, 5)
_LARGE_FROM = 128  # pixels of a side


@dataclass(frozen=True)
class Kind:
    """One corruption.

    Attributes:
        small: Its strength at severities 1 to 5, for images of about 32 pixels; () where we have no version of it.
        large: The same for images of about 224.
        alexnet: The error of AlexNet on ImageNet-C, the mean over severities; what a corruption error is relative to.
    """

    small: tuple[tuple[float, ...], ...]
    large: tuple[tuple[float, ...], ...]
    alexnet: float

    def strength(self, severity: int, side: int) -> tuple[float, ...]:
        """What a severity, from 1 to 5, means for images with sides of so many pixels."""
        return (self.small if side < _LARGE_FROM else self.large)[severity - 1]


def _each(*values: float) -> tuple[tuple[float, ...], ...]:
    return tuple((value,) for value in values)


# By the name of the official file or folder, in the official order. The errors of AlexNet are those of
# google-research/augmix@202cf4c, imagenet.py, which took them from hendrycks/robustness.
KINDS: Mapping[str, Kind] = MappingProxyType({
    # deviation
    "gaussian_noise": Kind(
        _each(0.04, 0.06, 0.08, 0.09, 0.10), _each(0.08, 0.12, 0.18, 0.26, 0.38), 0.886428
    ),
    # photons at white
    "shot_noise": Kind(_each(500, 250, 100, 75, 50), _each(60, 25, 12, 5, 3), 0.894468),
    # share of values
    "impulse_noise": Kind(
        _each(0.01, 0.02, 0.03, 0.05, 0.07), _each(0.03, 0.06, 0.09, 0.17, 0.27), 0.922640
    ),
    # radius of the disk, deviation of its edge
    "defocus_blur": Kind(
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        0.819880,
    ),
    # deviation of the blurs, farthest exchange, rounds
    "glass_blur": Kind(
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        0.826268,
    ),
    # length, deviation
    "motion_blur": Kind(
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        0.785948,
    ),
    # how many zooms, step
    "zoom_blur": Kind(
        ((5, 0.01), (10, 0.01), (15, 0.01), (20, 0.01), (25, 0.01)),
        ((10, 0.01), (15, 0.01), (10, 0.02), (12, 0.02), (10, 0.03)),
        0.798360,
    ),
    # flakes' mean, deviation, zoom and threshold, their fall's length and deviation, the image's share
    "snow": Kind(
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        0.866816,
    ),
    # made of photographs, which we do not have
    "frost": Kind((), (), 0.826572),
    # amount, decay of its octaves
    "fog": Kind(
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        0.819324,
    ),
    # added
    "brightness": Kind(_each(0.05, 0.1, 0.15, 0.2, 0.3), _each(0.1, 0.2, 0.3, 0.4, 0.5), 0.564592),
    # factor
    "contrast": Kind(_each(0.75, 0.5, 0.4, 0.3, 0.15), _each(0.4, 0.3, 0.2, 0.1, 0.05), 0.853204),
    # amplitude, deviation, shift of the corners, as shares of the side
    "elastic_transform": Kind(
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
        0.646056,
    ),
    # share of a side
    "pixelate": Kind(
        _each(0.95, 0.9, 0.85, 0.75, 0.65), _each(0.6, 0.5, 0.4, 0.3, 0.25), 0.717840
    ),
    # quality
    "jpeg_compression": Kind(_each(80, 65, 58, 50, 40), _each(25, 18, 15, 10, 7), 0.606500),
})  # fmt: skip
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
OWN = tuple(name for name, kind in KINDS.items() if kind.small)  # which we have a version of
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # of the official sets, beside the fifteen


def mean_corruption_error(accuracies: Mapping[str, float]) -> float:
    """mCE of Hendrycks & Dietterich, section 4.2: errors over severities, each relative to AlexNet's, averaged.

    Args:
        accuracies: For each of KINDS the mean accuracy on ImageNet-C over its severities, in percent.

    Returns:
        In percent; 100 for AlexNet, lower is better.

    Raises:
        KeyError: One of the fifteen is missing: the figure is of all of them.
    """
    return sum((100 - accuracies[name]) / kind.alexnet for name, kind in KINDS.items()) / len(KINDS)
