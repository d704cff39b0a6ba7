"""What each corruption does to an image: (H, W, 3) float64 in [0, 1], square, its strength and a generator -> the same.

Values may leave [0, 1]; whoever calls them clips and rounds to 8 bits.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from robust_zoo.training.choices import go_together
from robust_zoo.training.corruptions.kinds import OWN
from robust_zoo.training.corruptions.operators import both, clouds, defocus, gaussian, sample, streak, zoom

Corruption = Callable[..., np.ndarray]
"""(image, rng, *strength) -> image."""
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _gaussian_noise(image: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    return image + deviation * rng.standard_normal(image.shape)


def _shot_noise(image: np.ndarray, rng: np.random.Generator, photons: float) -> np.ndarray:
    return rng.poisson(image * photons) / photons


def _impulse_noise(image: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Half of the share becomes 0, half 1."""
    drawn = rng.random(image.shape)
    return np.where(drawn < share, drawn < share / 2, image)


def _defocus_blur(image: np.ndarray, rng: np.random.Generator, radius: float, edge: float) -> np.ndarray:
    return defocus(image, radius, edge)


def _glass_blur(image: np.ndarray, rng: np.random.Generator, sigma: float, far: int, rounds: int) -> np.ndarray:
    """A blur, pixels that change places with neighbours, the blur again."""
    side = len(image)
    blur = gaussian(side, sigma)
    places = exchanged(side, far, rounds, rng)
    return both(blur, both(blur, image).reshape(-1, 3)[places].reshape(image.shape))


def exchanged(side: int, far: int, rounds: int, rng: np.random.Generator) -> list[int]:
    """Pixels of an image after each changed places with a neighbour, from the last to the first.

    Args:
        side: Of the image.
        far: How many rows and columns away a neighbour is at most; those of the edges have none.
        rounds: How often.
        rng: Draws the neighbours.

    Returns:
        A permutation of range(side * side).
    """
    places = list(range(side * side))
    inner = range(side - 1 - far, far - 1, -1)
    for _ in range(rounds):
        steps = iter((rng.integers(-far, far, (len(inner) ** 2, 2), endpoint=True) @ [side, 1]).tolist())
        for row in inner:
            for here in range(row * side + side - 1 - far, row * side + far - 1, -1):
                there = here + next(steps)
                places[here], places[there] = places[there], places[here]
    return places


def _motion_blur(image: np.ndarray, rng: np.random.Generator, length: float, sigma: float) -> np.ndarray:
    return streak(image, length, sigma, rng.uniform(-45, 45))


def _zoom_blur(image: np.ndarray, rng: np.random.Generator, zooms: int, step: float) -> np.ndarray:
    """The mean of the image, twice, and of its zooms."""
    zoomed = sum(both(zoom(len(image), 1 + i * step), image) for i in range(1, zooms + 1))
    return (2 * image + zoomed) / (zooms + 2)


def _snow(
    image: np.ndarray, rng: np.random.Generator, mean: float, deviation: float, factor: float, threshold: float,
    length: float, sigma: float, share: float,
) -> np.ndarray:  # fmt: skip
    """Flakes that fall, on an image that is paler for them; the same flakes once more, turned around."""
    side = len(image)
    flakes = both(zoom(side, factor), rng.normal(mean, deviation, (side, side)))
    flakes = streak(np.where(flakes < threshold, 0, flakes).clip(0, 1), length, sigma, rng.uniform(45, 135))
    pale = np.maximum(image, (image @ _GREY)[..., None] * 1.5 + 0.5)
    return share * image + (1 - share) * pale + (flakes + flakes[::-1, ::-1])[..., None]


def _fog(image: np.ndarray, rng: np.random.Generator, amount: float, decay: float) -> np.ndarray:
    return fogged(image, clouds(len(image), decay, rng), amount)


def fogged(image: np.ndarray, field: np.ndarray, amount: float) -> np.ndarray:
    """Fog that is added, and the whole made as dark as the image was.

    Args:
        image: (H, W, 3) in [0, 1].
        field: (H, W) in [0, 1], how thick it is.
        amount: Of it, where the field is 1.

    Returns:
        (H, W, 3).
    """
    brightest = image.max()
    return (image + amount * field[..., None]) * brightest / max(brightest + amount, 1e-12)


def _brightness(image: np.ndarray, rng: np.random.Generator, added: float) -> np.ndarray:
    """To the value of HSV; hue and saturation stay."""
    value = image.max(2, keepdims=True)
    brighter = np.minimum(value + added, 1)
    return np.where(value > 0, image * brighter / np.maximum(value, 1e-12), brighter)


def _contrast(image: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    mean = image.mean((0, 1), keepdims=True)
    return mean + factor * (image - mean)


def _elastic_transform(
    image: np.ndarray, rng: np.random.Generator, amplitude: float, deviation: float, shift: float
) -> np.ndarray:
    """An affine map that moves three corners of the inner square, and a smooth displacement of each pixel."""
    side = len(image)
    inner = side / 3
    corners = np.array([[inner, inner], [-inner, inner], [-inner, -inner]])
    moved = corners + rng.uniform(-shift * side, shift * side, corners.shape)
    back = np.linalg.solve(np.c_[moved, np.ones(3)], corners)  # (row, column, 1) as it is seen -> where it was
    blur = gaussian(side, deviation * side)
    row, column = (both(blur, rng.uniform(-1, 1, (side, side))) * amplitude * side for _ in range(2))
    centre = side / 2 - 0.5
    y, x = np.mgrid[:side, :side] - centre
    seen = np.stack([y + row, x + column, np.ones_like(x)], -1) @ back + centre
    return sample(image, seen[..., 0], seen[..., 1])


def _pixelate(image: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    side = len(image)
    picture, fewer = Image.fromarray(rounded(image)), int(side * share)
    box = Image.Resampling.BOX
    return np.asarray(picture.resize((fewer, fewer), box).resize((side, side), box)) / 255


def _jpeg_compression(image: np.ndarray, rng: np.random.Generator, quality: int) -> np.ndarray:
    content = io.BytesIO()
    Image.fromarray(rounded(image)).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content)) / 255


def rounded(image: np.ndarray) -> np.ndarray:
    """An image of [0, 1] in 8 bits; what is beyond is cut off."""
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


_FUNCTIONS = (
    _gaussian_noise, _shot_noise, _impulse_noise, _defocus_blur, _glass_blur, _motion_blur, _zoom_blur, _snow, _fog,
    _brightness, _contrast, _elastic_transform, _pixelate, _jpeg_compression,
)  # fmt: skip
FUNCTIONS: Mapping[str, Corruption] = {function.__name__[1:]: function for function in _FUNCTIONS}
go_together("training/corruptions/functions.py", FUNCTIONS, OWN)
