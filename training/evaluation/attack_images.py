"""`robust-zoo attack`: adversarial versions of a user's own images, with what the model says before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from robust_zoo.errors import UsageError, VerificationFailed, cannot_read
from robust_zoo.factory import create_model
from robust_zoo.files import storage
from robust_zoo.pixels import pixel_model
from robust_zoo.readers import read_bytes
from robust_zoo.registry.families import Preprocessing
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS, ThreatModel
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.attacks.pictures import adversarial_pictures
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.class_names import class_names
from robust_zoo.training.data.decode import MOST_BYTES, decode
from robust_zoo.training.data.fit import check_classifies
from robust_zoo.training.evaluation.attack_files import SHEET, outputs, read_saved, save
from robust_zoo.training.evaluation.threats import own_threat
from robust_zoo.training.figures.tiles import Row, as_image, draw
from robust_zoo.views import View
from robust_zoo.weights.exported import checkpoint_of

_TILE = 224  # pixels of an image on the sheet
_BATCH = 16  # images attacked at a time
_SLACK = 2e-6  # of float32, in which sizes are computed


@dataclass(frozen=True)
class Attacked:
    """One image before and after the attack.

    Attributes:
        file: Where the image comes from.
        saved: The file that its adversarial version was written to.
        image: (3, H, W) in [0, 1], as the checkpoint sees it.
        adv_image: (3, H, W) in [0, 1], in steps of 1/255: `saved`, read again.
        before: The model's class of `image` and its probability in percent.
        after: The same of `adv_image`.
        fooled: Whether the two classes differ.
        threat: What the attack was allowed.
    """

    file: Path
    saved: Path
    image: Tensor
    adv_image: Tensor
    before: tuple[str, float]
    after: tuple[str, float]
    fooled: bool
    threat: ThreatModel

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


def attack_images(
    name: str | Checkpoint, files: Sequence[Path], threat: ThreatModel | None, attack: str, out: Path
) -> list[Attacked]:
    """Attacks what the model sees of each image; writes a PNG of each and the sheet `attack.png` to `out`.

    The label attacked is the model's own before the attack. PNGs hold 8 bits per channel, so what is looked for, and
    judged, are images of 8 bits (`attacks.pictures`); what is said is said of the files, read again.

    Args:
        name: A checkpoint's name, a file that train or convert wrote, or a checkpoint.
        files: Images, as `training.data.decode.decode` reads them.
        threat: Norm and radius; None means what the checkpoint was trained for.
        attack: A name that `attacks.suites.suite` knows, e.g. "pgd-20".
        out: The folder that the pictures are written to; made where it is not there.

    Returns:
        One `Attacked` for each file, in their order.

    Raises:
        UsageError: A file is no image or would be written over, the attack is unknown or none, or the radius is 0 or
            the checkpoint has none of its own.
        UnknownCheckpoint: No checkpoint has that name.
        StorageError: The folder cannot be written to.

    Example:
        >>> attack_images("resnet50_l2_eps3", [Path("dog.jpg")], None, "pgd-20", Path("attacked"))
    """
    checkpoint = checkpoint_of(name)
    check_classifies(checkpoint)
    threat = threat or own_threat(checkpoint, f"attack {checkpoint.name} IMAGE")
    if not suite(attack) or not threat.eps:
        raise UsageError(
            "nothing would change",
            model=checkpoint.name,
            expected="an attack and a radius above 0",
            actual=f"--attack {attack}, {threat}",
            next=f"robust-zoo attack {checkpoint.name} IMAGE --attack pgd-20 --norm linf --eps 4/255",
        )
    saved, sheet_file = outputs(files, out), out / SHEET
    images = torch.stack([load(file, checkpoint.preprocessing) for file in files])
    with storage(out, "give another directory with -o"):
        out.mkdir(parents=True, exist_ok=True)
    model = pixel_model(create_model(checkpoint)).eval()
    for first in range(0, len(files), _BATCH):
        some = images[first : first + _BATCH]
        with torch.no_grad():
            labels = model(some).argmax(1)
        adv_images = adversarial_pictures(model, some, labels, threat, attack)
        for pixels, file in zip(adv_images, saved[first : first + _BATCH], strict=True):
            save(as_image(pixels), file)
    adv_images = torch.stack([read_saved(file) for file in saved])
    labels, before = _says(model, images, checkpoint)
    adv_labels, after = _says(model, adv_images, checkpoint)
    fooled = (labels != adv_labels).tolist()
    columns = (files, saved, images, adv_images, before, after, fooled, [threat] * len(files))
    shown = [Attacked(*values) for values in zip(*columns, strict=True)]
    save(sheet(shown), sheet_file)
    return shown


def load(file: Path, p: Preprocessing) -> Tensor:
    """Reads an image as the checkpoint wants it: resized, centre crop.

    Args:
        file: An image.
        p: The checkpoint's preprocessing: the crop's side S and the part of the image that it is.

    Returns:
        (3, S, S) in [0, 1], in steps of 1/255.

    Raises:
        UsageError: There is no such file, or it is no image that can be decoded.
    """
    try:
        image = decode(read_bytes(file, MOST_BYTES), str(file))
    except (OSError, ValueError) as error:
        raise cannot_read(file.name, file, "an image", error, "name files of images that are there") from None
    except VerificationFailed as error:
        raise UsageError(f"{file} is not an image that can be decoded", **error.fields) from None
    return View.of(p)(image).float() / 255


@torch.no_grad()
def _says(model: nn.Module, images: Tensor, checkpoint: Checkpoint) -> tuple[Tensor, list[tuple[str, float]]]:
    """The classes of images, and for each its class's name and probability in percent."""
    chances, labels = torch.cat([model(some).softmax(1) for some in images.split(_BATCH)]).max(1)
    names = class_names(checkpoint.collection.dataset)
    return labels, [(names[int(k)], 100 * float(p)) for k, p in zip(labels, chances, strict=True)]


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
        title = f"{one.file.name}: as it is, attacked within {one.threat}, and the change"
        rows.append(Row(title, pixels, captions, (False, one.fooled, False)))
    return draw(rows, _TILE)
