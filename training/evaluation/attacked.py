"""What became of an image that was attacked: as a value, as a line of a report, as a row of a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from robust_zoo.text import printable
from robust_zoo.threat import NORMS, ThreatModel
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.figures.tiles import Row, draw

_TILE = 224  # pixels of an image on the sheet
_SLACK = 2e-6  # of float32, in which sizes are computed


@dataclass(frozen=True)
class Attacked:
    """One image before and after the attack.

    Attributes:
        file: Where the image comes from; of a folder, its path in it.
        saved: The file that its adversarial version was written to.
        image: (3, H, W) in [0, 1], as the checkpoint sees it.
        adv_image: (3, H, W) in [0, 1], in steps of 1/255: `saved`, read again.
        before: The model's class of `image` and its probability in percent.
        after: The same of `adv_image`.
        fooled: Whether the two classes differ, and with a target whether the second is the one.
        threat: What the attack was allowed.
        target: The class that it was to reach; "" for any other.
    """

    file: Path
    saved: Path
    image: Tensor
    adv_image: Tensor
    before: tuple[str, float]
    after: tuple[str, float]
    fooled: bool
    threat: ThreatModel
    target: str = ""

    @property
    def sizes(self) -> dict[str, float]:
        """The change's size in every norm, by the norm's name; pixels are in [0, 1]."""
        delta = (self.adv_image - self.image)[None]
        return {norm: rules(norm).size(delta).item() for norm in NORMS}

    @property
    def beyond(self) -> float:
        """By how much the change is larger than the radius; 0.0 within it, but for float32's rounding."""
        excess = self.sizes[self.threat.norm] - self.threat.eps
        return excess if excess > _SLACK else 0.0

    @property
    def line(self) -> tuple[object, ...]:
        """Of the report: what was said before and after, and how much changed."""
        (before, sure), (after, then) = self.before, self.after
        sizes = (f"{self.sizes[norm]:.6f}" for norm in NORMS)
        said = (before, f"{sure:.1f}", after, f"{then:.1f}", self.target, "yes" if self.fooled else "no")
        return (self.file.as_posix(), self.saved, *said, *sizes)


_COLUMNS = ("image", "saved", "before", "before %", "after", "after %", "target", "fooled", *NORMS)


def report(lines: Iterable[Sequence[object]]) -> bytes:
    """What changed, as CSV under a header.

    Args:
        lines: Each an `Attacked.line`.

    Returns:
        The file's content; sizes are of pixels in [0, 1].
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_COLUMNS, *([printable(value) for value in line] for line in lines)])
    return out.getvalue().encode()


def sheet(shown: Sequence[Attacked]) -> Image.Image:
    """Draws a row for each image: as it is, adversarial, and the change magnified to the full range around grey.

    Args:
        shown: The images, from the top down.

    Returns:
        The picture, with what the model says under each tile; an image that fools it has a frame.
    """
    rows = []
    for one in shown:
        delta = one.adv_image - one.image
        largest = max(delta.abs().max().item(), 1e-12)
        captions = (
            f"{one.before[1]:.0f} % {one.before[0]}",
            f"{one.after[1]:.0f} % {one.after[0]}",
            f"change x {0.5 / largest:.0f}" if one.fooled else "the attack failed",
        )
        pixels = (one.image, one.adv_image, delta / (2 * largest) + 0.5)
        aimed = f", to be called {one.target}" if one.target else ""
        title = f"{one.file.name}: as it is, attacked within {one.threat}{aimed}, and the change"
        rows.append(Row(title, pixels, captions, (False, one.fooled, False)))
    return draw(rows, _TILE)
