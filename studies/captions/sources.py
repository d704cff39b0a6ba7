"""What the study reads: pictures with captions, glosses, novels, of three packages of Debian's."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from robust_zoo.errors import ZooError, cannot_read
from robust_zoo.readers import Malformed, read_bytes, read_text
from studies.captions.text import Sentence, sentences
from studies.debian import unpack

PACKAGES = ("tuxpaint-stamps-default", "wordnet-base", "r-cran-janeaustenr")
GLOSSES = Path("usr/share/wordnet")
NOVELS = Path("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
WITHOUT = "symbols"  # letters, digits, coins
SIDE = 64  # pixels of a picture; the networks take 32
_PARTS = ("noun", "verb", "adj", "adv")
_LARGEST = 1 << 26  # bytes of a file or of what is packed in it
_TEXTS, _TEXT, _LACKS = 16, 9, -1  # R's types: texts, one of them; the length of one that is missing


@dataclass(frozen=True)
class Stamps:
    """Pictures with a caption each.

    Attributes:
        images: (N, 3, SIDE, SIDE) uint8, on white.
        captions: N of them.
    """

    images: Tensor
    captions: list[Sentence]


def stamps(folder: Path) -> Stamps:
    """Pictures of Tux Paint's layout: NAME.png beside NAME.txt, whose first line is a caption in English.

    Args:
        folder: Of stamps; what lies in WITHOUT is left out, as is a picture without a text, one that was there before
            to the pixel, and one whose caption's first sentence has no word or too many.

    Returns:
        What there is, in the order of paths.

    Raises:
        ZooError: A text is no text, a picture none, or there is none at all.
    """
    found: dict[bytes, tuple[np.ndarray, Sentence]] = {}
    for file in sorted(folder.rglob("*.png")):
        text = file.with_suffix(".txt")
        if file.relative_to(folder).parts[0] != WITHOUT and text.is_file():
            first, *_ = [*sentences(_first_line(text)), ()]
            if first:
                pixels = _on_white(file)
                found.setdefault(pixels.tobytes(), (pixels, first))
    if not found:
        raise _unread("pictures with captions", folder, "NAME.png beside NAME.txt", "none")
    images = torch.from_numpy(np.stack([pixels for pixels, _ in found.values()]))
    return Stamps(images.permute(0, 3, 1, 2).contiguous(), [caption for _, caption in found.values()])


def _first_line(file: Path) -> str:
    try:
        return read_text(file).partition("\n")[0]
    except (Malformed, OSError) as error:
        raise _unread("a caption", file, "a line of English, then other languages", error) from error


def _on_white(file: Path) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8, the whole picture in the middle."""
    try:
        with Image.open(io.BytesIO(read_bytes(file, _LARGEST))) as image:
            drawn = image.convert("RGBA")
    except (Malformed, UnidentifiedImageError, OSError, SyntaxError) as error:
        raise _unread("a picture", file, "a PNG file", error) from error
    ground = Image.new("RGBA", (max(drawn.size), max(drawn.size)), "white")
    ground.alpha_composite(drawn, ((ground.width - drawn.width) // 2, (ground.height - drawn.height) // 2))
    return np.asarray(ground.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def glosses(folder: Path) -> list[Sentence]:
    """WordNet's definitions and examples.

    Args:
        folder: Of data.noun and the like; a line is a synset, its gloss stands after "|", parts of it between ";".

    Returns:
        Parts of 2 words and more, in order.

    Raises:
        ZooError: A file is missing, or has no gloss.
    """
    found = []
    for part in _PARTS:
        file = folder / f"data.{part}"
        try:
            lines = read_text(file, _LARGEST).splitlines()
        except (Malformed, OSError) as error:
            raise _unread("glosses", file, "WordNet's data files", error) from error
        of_part = [s for line in lines for text in line.partition("|")[2].split(";") for s in sentences(text)]
        if not of_part:
            raise _unread("glosses", file, 'lines with a gloss after "|"', "none")
        found += [sentence for sentence in of_part if len(sentence) > 1]
    return found


def novels(file: Path) -> list[Sentence]:
    """Sentences of the texts in a file of R's: chunks of a length and that many packed bytes, a vector of lines each.

    Args:
        file: Rdata.rdb.

    Returns:
        Those of 3 words and more, in order.

    Raises:
        ZooError: It is no such file.
    """
    try:
        texts = [" ".join(_strings(chunk)) for chunk in _chunks(read_bytes(file, _LARGEST))]
    except (Malformed, OSError, zlib.error, struct.error, UnicodeDecodeError) as error:
        raise _unread("novels", file, "R's data, packed by zlib", error) from error
    found = [sentence for text in texts for sentence in sentences(text) if len(sentence) > 2]
    if not found:
        raise _unread("novels", file, "R's data, packed by zlib", "no sentences")
    return found


def _chunks(content: bytes) -> Iterator[bytes]:
    while content:
        (length,) = struct.unpack_from(">I", content)
        unpacker = zlib.decompressobj()
        chunk = unpacker.decompress(content[4:], min(length, _LARGEST))
        if not (unpacker.eof and len(chunk) == length):
            raise Malformed(f"a chunk that is not of {length:,} bytes")
        yield chunk
        content = unpacker.unused_data


def _strings(chunk: bytes) -> Iterator[str]:
    """The strings of a character vector, in R's format 3 (R Internals, section 1.8, "Serialization Formats")."""
    kind, version, _, _, coding = struct.unpack_from(">2siiii", chunk)
    if (kind, version) != (b"X\n", 3):
        raise Malformed(f"R's format {version} where 3 is wanted")
    at = 18 + coding
    flags, count = struct.unpack_from(">II", chunk, at)
    if flags & 0xFF != _TEXTS:
        raise Malformed("no texts")
    at += 8
    for _ in range(count):
        flags, length = struct.unpack_from(">Ii", chunk, at)
        if flags & 0xFF != _TEXT or length < _LACKS or at + 8 + max(length, 0) > len(chunk):
            raise Malformed(f"no text at byte {at:,}")
        at += 8
        if length > 0:
            yield chunk[at : at + length].decode()
            at += length


def _unread(what: str, source: Path, expected: str, cause: Exception | str) -> ZooError:
    return cannot_read(what, source, expected, cause, next=unpack(PACKAGES))
