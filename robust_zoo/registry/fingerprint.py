"""How a network behaves: its logits on a few bundled images, as a row keeps them and as they are compared. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 1e-6  # of an image's root mean square logit; two processors differ by 1e-12 of it
TOP = 5  # classes that are kept of an image, at most
_WRITTEN = re.compile(r"(?P<top>\d+:\S+(?: \d+:\S+)*) norm (?P<norm>\S+) digest (?P<digest>\S+)")


@dataclass(frozen=True)
class Response:
    """What a network says of one image.

    Attributes:
        top: The classes with the greatest logits, the greatest first, at most TOP: (class, logit).
        norm: Root mean square of all logits.
        digest: Sum of all logits, each times the cosine of its class, over the root of their number: another, when two
            classes change places.
    """

    top: tuple[tuple[int, float], ...]
    norm: float
    digest: float

    @classmethod
    def of(cls, logits: Sequence[float]) -> Response:
        """Of all logits of an image, by class."""
        n = len(logits)
        best = sorted(range(n), key=lambda k: -logits[k])[:TOP]
        norm = math.sqrt(math.fsum(value * value for value in logits) / n)
        digest = math.fsum(value * math.cos(k) for k, value in enumerate(logits)) / math.sqrt(n)
        return cls(tuple((k, logits[k]) for k in best), norm, digest)

    @classmethod
    def parse(cls, text: str) -> Response:
        """As `str` writes it. Raises ValueError."""
        if not (found := _WRITTEN.fullmatch(text)):
            raise ValueError(f"{text!r:.80} is no response")
        pairs = [pair.split(":") for pair in found["top"].split(" ")]
        response = cls(tuple((int(k), float(v)) for k, v in pairs), float(found["norm"]), float(found["digest"]))
        if not all(map(math.isfinite, (response.norm, response.digest, *(v for _, v in response.top)))):
            raise ValueError(f"{text!r:.80} is not finite")
        return response

    def __str__(self) -> str:
        """With nine significant digits: "3:4.12345678 5:2.25 ... norm 1.5 digest -0.25"."""
        top = " ".join(f"{k}:{value:.9g}" for k, value in self.top)
        return f"{top} norm {self.norm:.9g} digest {self.digest:.9g}"

    def is_like(self, other: Response) -> bool:
        """Whether another is the same but for rounding; classes may change places where their logits are equal."""
        near = TOLERANCE * max(self.norm, other.norm)
        ours, theirs = dict(self.top), dict(other.top)
        values = zip(self.top, other.top, strict=False)
        return (
            len(self.top) == len(other.top)
            and all(abs(a - b) <= near for (_, a), (_, b) in values)
            and all(abs(ours[k] - theirs[k]) <= near for k in ours.keys() & theirs.keys())
            and all(abs(ours[k] - self.top[-1][1]) <= near for k in ours.keys() - theirs.keys())
            and abs(self.norm - other.norm) <= near
            and abs(self.digest - other.digest) <= near
        )


@dataclass(frozen=True)
class Fingerprint:
    """What a network says of the bundled images, the first of each of a few classes.

    Attributes:
        responses: To each image, in order.
    """

    responses: tuple[Response, ...]

    @classmethod
    def parse(cls, lines: Sequence[str]) -> Fingerprint:
        """As a row has it, a line an image. Raises ValueError."""
        return cls(tuple(map(Response.parse, lines)))

    @property
    def lines(self) -> list[str]:
        """A text an image, as a row has them."""
        return [str(response) for response in self.responses]

    def first_other(self, found: Fingerprint) -> int | None:
        """The first image to which another's response is not the same.

        Args:
            found: The other.

        Returns:
            Its index, None where all are the same but for rounding.
        """
        pairs = enumerate(zip(self.responses, found.responses, strict=True))
        return next((i for i, (ours, theirs) in pairs if not ours.is_like(theirs)), None)
