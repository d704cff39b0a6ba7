"""The kinds of picture, a row each: what is changed towards what, and how far it is searched. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from robust_zoo.errors import UsageError, unknown

_LARGE = 112  # pixels of an image's side from which the searches are those of ImageNet's 224, not of CIFAR's 32
_ANYWHERE = 1000.0  # a radius that reaches every image from every other, up to 577 x 577 pixels


@dataclass(frozen=True)
class Search:
    """How images are looked for: L2 PGD, that many steps of one length, within a ball around where it begins.

    Attributes:
        eps: The ball's radius, of images in [0, 1].
        step_size: The length of a step, in the same units.
        steps: How many.
    """

    eps: float
    step_size: float
    steps: int

    def __post_init__(self) -> None:
        if not (0 < self.eps < float("inf") and 0 < self.step_size < float("inf") and self.steps >= 1):
            raise UsageError(
                "a search that goes nowhere",
                expected="eps and step_size above 0, steps of 1 or more",
                actual=str(self),
                next="Search(eps=30.0, step_size=0.5, steps=60)   is synthesis at 32 pixels",
            )


@dataclass(frozen=True)
class Kind:
    """One kind of picture.

    Attributes:
        about: For --help.
        of_images: Whether it is of images that are given.
        small: How it is searched at CIFAR's 32 pixels; None where nothing is.
        large: The same at ImageNet's 224.
    """

    about: str
    of_images: bool
    small: Search | None = None
    large: Search | None = None


# Synthesis: Santurkar et al. 2019, table 4. Inversion, interpolation, features: the code of Engstrom et al. 2019, which
# takes 200 to 10,000 steps; here as many as carry an image from one end of the cube to the other, and a few.
KINDS = {
    "synthesis": Kind("a class out of noise", False, Search(30.0, 0.5, 60), Search(40.0, 1.0, 60)),
    "feature": Kind("the noise that excites one feature most", False, Search(30.0, 0.5, 60), Search(40.0, 1.0, 60)),
    "gradient": Kind("which pixels matter for the answer", True),
    "more-like": Kind("made more like another class", True, Search(6.0, 0.2, 60), Search(40.0, 1.0, 60)),
    "inversion": Kind(
        "noise changed until its features are those of an image",
        True,
        Search(_ANYWHERE, 0.1, 300),
        Search(_ANYWHERE, 1.0, 300),
    ),
    "interpolation": Kind(
        "from one image to the next in feature space", True, Search(_ANYWHERE, 0.1, 200), Search(_ANYWHERE, 1.0, 200)
    ),
}


def kind(name: str) -> Kind:
    """A row of `KINDS`.

    Args:
        name: Its name.

    Returns:
        The row.

    Raises:
        UsageError: There is none; the names are in the error.
    """
    if name not in KINDS:
        raise unknown("kind of picture", name, KINDS, next="--what {closest}")
    return KINDS[name]


def search_for(name: str, side: int) -> Search:
    """How far a kind of picture is searched where nothing else is said.

    Args:
        name: A name of `KINDS` that is searched at all.
        side: Of the images, in pixels.

    Returns:
        The row's search for images of that size.
    """
    found = KINDS[name].large if side >= _LARGE else KINDS[name].small
    assert found is not None
    return found
