"""`robust-zoo attack`: adversarial versions of a user's own images, with what the model says before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_zoo.errors import UsageError
from robust_zoo.factory import create_model
from robust_zoo.files import replace_file, storage
from robust_zoo.pixels import pixel_model
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.attacks.pictures import adversarial_pictures, check_has_target, targeted_pictures
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.class_names import class_names, label_of
from robust_zoo.training.data.dataset import evenly
from robust_zoo.training.data.fit import check_classifies
from robust_zoo.training.data.unlabelled import Unlabelled, load, open_unlabelled
from robust_zoo.training.distributed import device_of
from robust_zoo.training.evaluation.attack_files import REPORT, SHEET, outputs, read_saved, save
from robust_zoo.training.evaluation.attacked import Attacked, report, sheet
from robust_zoo.training.evaluation.threats import own_threat
from robust_zoo.training.figures.tiles import as_image
from robust_zoo.weights.exported import checkpoint_of

__all__ = ["Attacked", "Attempt", "attack_each", "attack_images", "load"]

_PIXELS = 2 * 224 * 224  # of a batch: with a ResNet-50's passes 1.2 GB in all
_MOST = 64  # images of one
_SHEET_ROWS = 32  # images on the sheet at most


@dataclass(frozen=True)
class Attempt:
    """An attack that is ready to run: everything was checked, nothing was computed.

    Attributes:
        checkpoint: Whose model.
        images: What is attacked.
        saved: Where the adversarial version of each goes.
        out: The folder of all that is written.
        threat: Norm and radius.
        attack: Its name.
        target: The label to reach, None for any other than the model's own.
        batch_size: Images attacked at a time.
        device: Where.
    """

    checkpoint: Checkpoint
    images: Unlabelled
    saved: Sequence[Path]
    out: Path
    threat: ThreatModel
    attack: str
    target: int | None
    batch_size: int
    device: torch.device

    @property
    def target_name(self) -> str:
        """The class to reach, "" for any other."""
        return "" if self.target is None else class_names(self.checkpoint.collection.dataset)[self.target]

    @property
    def report(self) -> Path:
        """The file that says what became of each image of a folder."""
        return self.out / REPORT

    def __iter__(self) -> Iterator[Attacked]:
        """Attacks batch by batch: each image once it is written and judged; then the sheet, and a folder's report."""
        model = pixel_model(create_model(self.checkpoint, device=self.device)).eval()
        model.requires_grad_(False)  # or what the parameters' gradients need would be kept of each pass
        count = len(self.images)
        on_sheet = {*evenly(count, _SHEET_ROWS)}
        folded = folded_model(model, self.images.batch(range(1)).to(self.device)).model
        lines, kept = [], []
        for first in range(0, count, self.batch_size):
            rows = range(first, min(first + self.batch_size, count))
            for row, one in zip(rows, self._batch(model, folded, rows), strict=True):
                lines.append(one.line)
                kept += [one] if row in on_sheet else []
                yield one
        save(sheet(kept), self.out / SHEET)
        if self.images.folder:
            replace_file(self.report, report(lines), "give another directory with -o")

    def _batch(self, model: nn.Module, folded: nn.Module, rows: Sequence[int]) -> list[Attacked]:
        names = class_names(self.checkpoint.collection.dataset)
        images = self.images.batch(rows)
        some = images.to(self.device)
        before, sure = _says(model, some)
        labels = before.to(self.device)
        if self.target is None:
            adv_images = adversarial_pictures(folded, some, labels, self.threat, self.attack)
        else:
            targets = torch.full_like(labels, self.target)
            adv_images = targeted_pictures(folded, some, targets, self.threat, self.attack)
        saved = [self.saved[row] for row in rows]
        for pixels, file in zip(adv_images.cpu(), saved, strict=True):
            with storage(file, "give another directory with -o"):
                file.parent.mkdir(parents=True, exist_ok=True)
            save(as_image(pixels), file)
        adv_images = torch.stack([read_saved(file) for file in saved])
        after, then = _says(model, adv_images.to(self.device))
        fooled = (before != after) & (torch.tensor(self.target is None) | (after == (self.target or 0)))
        return [
            Attacked(
                self.images.names[row],
                file,
                images[i].clone(),  # a view would keep its batch in memory
                adv_images[i].clone(),
                (names[int(before[i])], sure[i].item()),
                (names[int(after[i])], then[i].item()),
                bool(fooled[i]),
                self.threat,
                self.target_name,
            )
            for i, (row, file) in enumerate(zip(rows, saved, strict=True))
        ]


def attack_each(
    name: str | Checkpoint,
    images: Sequence[Path | str],
    threat: ThreatModel | None,
    attack: str,
    out: Path,
    *,
    target: str | int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
) -> Attempt:
    """Makes an attack ready: going through it attacks, and holds no more than a batch in memory.

    The label attacked is the model's own before the attack. PNGs hold 8 bits per channel, so what is looked for, and
    judged, are images of 8 bits (`attacks.pictures`); what is said is said of the files, read again.

    Args:
        name: A checkpoint's name, a file that robust-zoo wrote, or a checkpoint.
        images: Files of images, as `training.data.decode.decode` reads them; or one folder, tar file or "hfds/NAME",
            of which `evaluate` would take the same images.
        threat: Norm and radius; None means what the checkpoint was trained for.
        attack: A name that `attacks.suites.suite` knows, e.g. "pgd-20".
        out: The folder that the pictures are written to, those of a folder in folders of the same names; made where
            it is not there. It gets the sheet `attack.png`, of at most 32 images evenly spread, and of a folder
            `report.csv`.
        target: The class to reach, by name or number; None for any other than the model's own.
        batch_size: Images attacked at a time; None for 2 at 224 pixels, 64 at 32: little memory, and a CPU is no faster
            with more.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        An `Attempt`: iterable, with an `Attacked` for each image in their order.

    Raises:
        UsageError: A folder is not laid out so, a file is no image or would be written over, the attack is unknown,
            none or has no target, the class is none, or the radius is 0 or the checkpoint has none of its own.
        VerificationFailed: Going through it: an image of the folder cannot be decoded.
        UnknownCheckpoint: No checkpoint has that name.
        StorageError: The folder cannot be written to.

    Example:
        >>> fooled = sum(one.fooled for one in attack_each("resnet50_l2_eps3", ["photos"], None, "pgd-20", Path("out")))
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
    label = None if target is None else label_of(target, checkpoint.collection.dataset, checkpoint.name)
    if label is not None:
        check_has_target(attack)
    opened = open_unlabelled(images, checkpoint.preprocessing)
    saved = outputs(opened, out)
    if opened.folder is None:
        for file in opened.names:  # a few: what is no image is said before the work
            load(file, checkpoint.preprocessing)
    with storage(out, "give another directory with -o"):
        out.mkdir(parents=True, exist_ok=True)
    side = checkpoint.preprocessing.input_size[1]
    size = batch_size or max(1, min(_MOST, _PIXELS // side**2))
    return Attempt(checkpoint, opened, saved, out, threat, attack, label, size, device_of(device))


def attack_images(
    name: str | Checkpoint,
    files: Sequence[Path | str],
    threat: ThreatModel | None,
    attack: str,
    out: Path,
    *,
    target: str | int | None = None,
) -> list[Attacked]:
    """Attacks what the model sees of each image, and keeps all of it; for many see `attack_each`.

    Args:
        name: A checkpoint's name, a file that robust-zoo wrote, or a checkpoint.
        files: As `attack_each` takes them.
        threat: Norm and radius; None means what the checkpoint was trained for.
        attack: As for `attack_each`.
        out: As for `attack_each`.
        target: As for `attack_each`.

    Returns:
        One `Attacked` for each image, in their order.

    Raises:
        ZooError: As `attack_each`, and as going through what it returns.

    Example:
        >>> attack_images("resnet50_l2_eps3", [Path("dog.jpg")], None, "pgd-20", Path("attacked"))
    """
    return [*attack_each(name, files, threat, attack, out, target=target)]


@torch.no_grad()
def _says(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The classes of images, and their probabilities in percent, on the CPU."""
    chances, labels = model(images).softmax(1).cpu().max(1)
    return labels, 100 * chances
