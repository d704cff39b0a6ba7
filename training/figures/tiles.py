"""Rows of images with words above and below them: the pictures of `robust-zoo attack` and `robust-zoo demo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from robust_zoo.text import printable

TEXT = 20  # pixels: still read where the picture is shown at half its size
LINE = 28  # of a line of text
GAP = 10  # between tiles
_FRAME = 4  # within the gap
_INK, _MARK = "#1a1a1a", "#b00020"


@dataclass(frozen=True)
class Row:
    """Images side by side.

    Attributes:
        title: Above them; "" for a row that goes on from the one before.
        tiles: Each (3, H, W) in [0, 1].
        captions: Below each; empty for none at all.
        marked: Which of them get a frame, and their captions the frame's colour.
    """

    title: str
    tiles: Sequence[Tensor]
    captions: Sequence[str] = ()
    marked: Sequence[bool] = ()


def draw(rows: Sequence[Row], side: int) -> Image.Image:
    """Draws rows from the top down.

    Args:
        rows: As many tiles in each.
        side: Pixels of a tile's height and width.

    Returns:
        The picture, of the same bytes for the same rows.
    """
    heights = [side + LINE * (bool(row.title) + bool(row.captions)) + 2 * GAP for row in rows]
    width = max(len(row.tiles) for row in rows) * (side + GAP) + GAP
    canvas = Image.new("RGB", (width, sum(heights)), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        pen.text((GAP, top + 2), fit(row.title, font, width - 2 * GAP), fill=_INK, font=font)
        for column, pixels in enumerate(row.tiles):
            left, under = GAP + column * (side + GAP), top + LINE * bool(row.title) + GAP // 2
            marked = bool(row.marked) and row.marked[column]
            if marked:
                edge = (left - _FRAME, under - _FRAME, left + side + _FRAME - 1, under + side + _FRAME - 1)
                pen.rectangle(edge, fill=_MARK)
            canvas.paste(as_image(pixels).resize((side, side), Image.Resampling.NEAREST), (left, under))
            if row.captions:
                words = fit(row.captions[column], font, side)
                pen.text((left, under + side + 3), words, fill=_MARK if marked else _INK, font=font)
        top += height
    return canvas


def draw_bare(rows: Sequence[Sequence[Tensor]], side: int, gap: int) -> Image.Image:
    """Draws tiles alone, for pages that say in words of their own what they are.

    Args:
        rows: From the top down, as many tiles in each: (3, H, W) in [0, 1].
        side: Pixels of a tile's height and width.
        gap: Pixels between two.

    Returns:
        The picture, of the same bytes for the same tiles.
    """
    step = side + gap
    canvas = Image.new("RGB", (max(map(len, rows)) * step - gap, len(rows) * step - gap), "white")
    for row, tiles in enumerate(rows):
        for column, pixels in enumerate(tiles):
            tile = as_image(pixels).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(tile, (column * step, row * step))
    return canvas


def fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Cuts a text to a width, with dots for what is left out.

    Args:
        text: Any text.
        font: What it is written in.
        width: In pixels.

    Returns:
        It, printable.
    """
    shown = kept = printable(text, limit=200)
    while kept and font.getlength(shown) > width:
        kept = kept[:-1]
        shown = kept.rstrip() + "..."
    return shown


def as_image(pixels: Tensor) -> Image.Image:
    """An image of 8 bits.

    Args:
        pixels: (3, H, W) in [0, 1].

    Returns:
        It, each value rounded to a step of 1/255.
    """
    return Image.fromarray((pixels.permute(1, 2, 0) * 255).round().byte().numpy())
