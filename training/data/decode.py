"""The one place where a user's image is decoded: bytes -> (3, H, W) uint8, the same for every verb."""

from __future__ import annotations

import io
import re
import warnings
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from robust_zoo.errors import VerificationFailed

# No EPS, PDF or SVG, which are programs rather than pixels; HEIF is there where a plugin has registered it
_FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000", "TGA", "ICO", "QOI",
)  # fmt: skip
_MOST_PIXELS = 2 * 89_478_485  # where Pillow raises its DecompressionBombError
_LONGEST = 256  # sides: a shorter side of 256 makes 2**24 pixels of such a strip
MOST_BYTES = 1 << 30  # of an image's file: the largest picture of 16 bits has about so many
_ORIENTATION = 0x0112  # EXIF's tag
_MEND = "save it in 8 bits and at a usual size"


class _Unfit(ValueError):
    """A sound file whose pixels are not a picture's."""


@cache
def endings() -> frozenset[str]:
    """The endings of files that are images which can be decoded here, in small letters (".jpg")."""
    Image.init()
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in _FORMATS)


def decode(content: bytes, name: str) -> Tensor:
    """Decodes an image.

    What EXIF says of the image's orientation is applied. Pixels of 16 bits are scaled by 65535, floating ones are
    taken to be in [0, 1]; transparency is left out, as by Pillow's convert("RGB"); of an animation it is the first
    frame.

    Args:
        content: The file's bytes.
        name: What the error calls the image.

    Returns:
        (3, H, W) uint8, RGB.

    Raises:
        VerificationFailed: The image is damaged or cut, too large to be a picture, or has values that are no colours.
    """
    try:
        with warnings.catch_warnings():  # Pillow's on large images; torchvision's on TorchCodec, which is not there yet
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=_known())
            _check_size(*image.size)
            if image.format in ("JPEG", "MPO"):
                encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
                return decode_image(encoded, mode=ImageReadMode.RGB, apply_exif_orientation=True)
            pixels = np.array(_eight_bits(_upright(image)))
    except Exception as error:  # Pillow's plugins and torchvision raise a dozen kinds, EOFError and struct.error too
        raise VerificationFailed(
            f"cannot decode {name}",
            source=name,
            expected="a sound image, of colours in 8 or 16 bits, or floating in [0, 1]",
            actual=_words(content, error),
            next=f"{_MEND if isinstance(error, _Unfit) else 'put a sound copy in its place'}, or take the file away",
        ) from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _known() -> list[str]:
    endings()  # Pillow's plugins are loaded
    return [kind for kind in _FORMATS if kind in Image.OPEN]


def _check_size(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise _Unfit(f"{width} x {height} pixels; at most {_MOST_PIXELS:,} are decoded")
    if max(width, height) > _LONGEST * min(width, height):
        raise _Unfit(f"{width} x {height} pixels: one side is more than {_LONGEST} times the other")


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # Pillow turns a TIFF here, and takes the tag away
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # of a sound image whose EXIF is not
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _eight_bits(image: Image.Image) -> Image.Image | np.ndarray:
    """Of any mode: RGB, or (H, W, 3) uint8."""
    if image.mode == "F":
        values, top = np.asarray(image), 1
        if not (values.min() >= 0 and values.max() <= 1):  # NaN is neither
            raise _Unfit(f"floating pixels from {values.min():.4g} to {values.max():.4g}")
    elif image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values, top = np.asarray(image), 65535
    elif image.mode == "I":
        raise _Unfit("integer pixels of 32 bits, whose range the file does not say")
    else:
        return image.convert("RGB")
    grey = np.rint(values.astype(np.float64) * (255 / top)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _words(content: bytes, error: Exception) -> str:
    if not content:
        return "an empty file"
    if isinstance(error, Image.UnidentifiedImageError):  # it would name a BytesIO
        return f"no image of a known format; the file begins {content[:8]!r}"
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r"^\w+, \S+:\d+, ", "", said)  # torchvision's function and the line that it stopped at
