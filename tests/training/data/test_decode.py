"""One decoder for every verb: values are kept whatever the format, EXIF turns an image, what is no picture is named."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.training.data.decode import decode, endings
from robust_zoo.training.data.encoded import is_image
from robust_zoo.training.data.folders import open_folder
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.evaluation.attack_images import load
from robust_zoo.views import View

GREY = (np.add.outer(np.arange(32), np.arange(32)) * 4).astype(np.uint8)  # 0 to 248
SIXTEEN = GREY.astype(np.uint16) * 257
FLOAT = GREY.astype(np.float32) / 255
CIFAR = get("resnet18_x0_25_cifar10_l2_eps0_5")


def of(pixels, kind="PNG", mode=None, **how):
    out = io.BytesIO()
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    (image.convert(mode) if mode else image).save(out, kind, **how)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


KEPT = {
    "8-bit.png": of(GREY),
    "16-bit.png": of(SIXTEEN),
    "16-bit.tif": of(SIXTEEN, "TIFF"),
    "16-bit-colours.png": png(
        32, 32, 16, 2, b"".join(b"\0" + row.repeat(3).astype(">u2").tobytes() for row in SIXTEEN)
    ),
    "16-bit.pgm": b"P5 32 32 65535\n" + SIXTEEN.astype(">u2").tobytes(),
    "float.tiff": of(FLOAT, "TIFF"),
    "float.pfm": b"Pf\n32 32\n-1.0\n" + FLOAT[::-1].astype("<f4").tobytes(),
    "palette.png": of(GREY, mode="P"),
    "palette.gif": of(GREY, "GIF"),
    "alpha.png": of(Image.merge("LA", [Image.fromarray(GREY)] * 2)),
    "colours-alpha.png": of(Image.merge("RGBA", [Image.fromarray(GREY)] * 4)),
    "colours.bmp": of(GREY, "BMP", "RGB"),
    "colours.ppm": of(GREY, "PPM", "RGB"),
    "colours.webp": of(GREY, "WEBP", "RGB", lossless=True),
    "colours.jp2": of(GREY, "JPEG2000", "RGB"),
    "inks.tif": of(GREY, "TIFF", "CMYK"),
    "best.jpg": of(GREY, "JPEG", "RGB", quality=100),
    "inks.jfif": of(GREY, "JPEG", "CMYK", quality=100),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_every_format_keeps_its_values(name, tmp_path):
    """The same ramp in each; alike where a folder is read and where `attack` reads a file."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(KEPT[name])
    found = decode(KEPT[name], name)
    error = (found.int() - torch.from_numpy(GREY).int()).abs().max()
    assert found.shape == (3, 32, 32) and found.dtype == torch.uint8 and is_image(name)
    assert error <= (2 if name.endswith((".jpg", ".jfif")) else 0)
    assert torch.equal(ImageFiles(open_folder(tmp_path), view=View(32, 32)).decode(0), found)
    assert torch.equal((load(tmp_path / "a" / name, CIFAR.preprocessing) * 255).round().byte(), found)


def test_one_bit_is_black_and_white():
    found = decode(of(np.kron(np.eye(2), np.ones((4, 4))) > 0), "x.png")
    assert found.unique().tolist() == [0, 255] and found[0, 0, 0] == 255 and found[0, 0, 7] == 0


TURNS = {
    1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2), 6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: np.rot90,
}  # fmt: skip  # the eight of EXIF 2.3, section 4.6.4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_turns_an_image_once(kind, orientation):
    rows, columns = np.mgrid[0:48, 0:40].astype(np.uint8)
    pixels, exif = np.stack([rows * 5, columns * 6, rows * 0 + 90], 2), Image.Exif()
    exif[0x0112] = orientation
    how = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    found = decode(of(pixels, kind, exif=exif, **how), "x").permute(1, 2, 0).numpy().astype(int)
    expected = TURNS[orientation](pixels.astype(int))
    assert found.shape == expected.shape and np.abs(found - expected).max() <= (4 if kind == "JPEG" else 0)


def huge_jpeg():
    content = bytearray(of(GREY, "JPEG"))
    place = content.find(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", 65000, 65000)
    return bytes(content)


BAD = {
    "empty.png": (b"", "an empty file"),
    "page.jpg": (b"<!DOCTYPE html><html>", "no image of a known format"),
    "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no image of a known format"),
    "bomb.png": (png(30000, 30000, 8, 2, bytes(100)), "900000000 pixels"),
    "bomb.jpg": (huge_jpeg(), "4225000000 pixels"),
    "strip.png": (of(np.zeros((1, 1000), np.uint8)), "one side is more than 256 times the other"),
    "bright.tif": (of(GREY.astype(np.float32), "TIFF"), "floating pixels from 0 to 248"),
    "negative.tif": (of(FLOAT - 0.5, "TIFF"), "floating pixels from -0.5"),
    "nan.tif": (of(np.where(GREY == 0, np.nan, FLOAT).astype(np.float32), "TIFF"), "floating pixels from nan"),
    "wide.tif": (of(GREY.astype(np.int32), "TIFF"), "32 bits"),
} | {
    f"cut.{kind.lower()}": (of(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), kind)[:-900], "")
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_decoded_is_named(name, tmp_path):
    content, said = BAD[name]
    with pytest.raises(VerificationFailed, match=f"cannot decode {name}") as error:
        decode(content, name)
    assert said in error.value.actual and error.value.expected and error.value.next
    assert "/" not in error.value.actual.replace("<!DOCTYPE html>", "")  # no path of where torchvision was built
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name} is not an image"):
        load(tmp_path / name, CIFAR.preprocessing)


def test_endings_are_those_that_can_be_decoded():
    assert {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"} <= endings()
    assert not endings() & {".pdf", ".eps", ".svg", ".mpg", ".txt", ".db", ""}
    assert is_image("x/1.JPEG") and not is_image("x/._1.jpg") and not is_image("@eaDir/1.jpg")
