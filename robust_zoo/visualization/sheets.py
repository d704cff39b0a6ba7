"""`robust_zoo.visualize`: models side by side, a picture and its arrays for each kind."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from robust_zoo import __version__
from robust_zoo.errors import Unavailable
from robust_zoo.factory import create_model
from robust_zoo.files import replace_file, storage
from robust_zoo.pixels import pixel_model
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS
from robust_zoo.training.data.class_names import label_of
from robust_zoo.training.distributed import device_of
from robust_zoo.training.evaluation.attack_files import PICTURES, encode, save
from robust_zoo.training.figures.tiles import Row, draw, draw_bare
from robust_zoo.visualization.beside import standard_of
from robust_zoo.visualization.engine import BATCH_SIZE
from robust_zoo.visualization.given import check, images_for
from robust_zoo.visualization.kinds import KINDS, search_for
from robust_zoo.visualization.models import Subject
from robust_zoo.visualization.strips import DRAWN, Strip, Wanted
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.exported import checkpoint_of

_TILE = 128  # pixels of a tile at least
_GAP = 2  # between bare ones
_NEXT = "give another directory with -o"


@dataclass(frozen=True)
class Shown:
    """A model among others.

    Attributes:
        checkpoint: Which.
        subject: Its network.
        sha256: Of its weights.
    """

    checkpoint: Checkpoint
    subject: Subject
    sha256: str

    def title(self, seen: str) -> str:
        """Of a row: how the model was trained, what is seen, and its name; "" for a row that goes on from another."""
        threat = self.checkpoint.threat
        how = f"Robust model, {NORMS[threat.norm].label} {threat.radius}" if threat.eps else "Standard model"
        return f"{how}: {seen} ({self.checkpoint.name})" if seen else ""


@dataclass(frozen=True)
class Sheet:
    """What models see, of one kind.

    Attributes:
        kind: Its name.
        picture: The models' rows below each other; a notebook shows it.
        arrays: What is in it, as numbers: by model's name (N, ..., 3, S, S) in [0, 1], by NAME_labels or NAME_features
            what was asked for, and "images" and "about" (JSON: weights, seed, how far was searched).
        files: What was written: the picture and, in a directory, an .npz of the arrays.
    """

    kind: str
    picture: Image.Image
    arrays: dict[str, np.ndarray]
    files: tuple[Path, ...] = ()

    def _repr_png_(self) -> bytes:
        return encode(self.picture, ".png")


def visualize(
    names: str | Path | Checkpoint | Sequence[str | Path | Checkpoint],
    what: str | Sequence[str] = (),
    *,
    images: Sequence[Path | str] = (),
    classes: Sequence[int | str] = (),
    n: int = 10,
    seed: int = 0,
    alone: bool = False,
    out: str | Path | None = None,
    tile: int = 0,
    bare: bool = False,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = False,
) -> dict[str, Sheet]:
    """Draws what models see, side by side; a robust one beside the standard one of its architecture.

    Args:
        names: A checkpoint by name, a file that robust-zoo wrote, or a checkpoint; or several of one
            dataset and image size.
        what: Kinds of picture, of `kinds.KINDS`; none means synthesis, or with images all.
        images: Files of images, or one folder as `evaluate` takes it, of which `n` are taken, evenly spread. None
            means, for models of CIFAR-10, the bundled sample.
        classes: To be drawn, by number or name, and in turn what images are made more like; when none, evenly spread
            over all, and for each image the next one's.
        n: Pictures side by side.
        seed: Of noise.
        alone: Leave out the standard model.
        out: A directory, for a picture and the arrays of each kind; or the file of one picture (.png, .webp); None to
            write nothing.
        tile: Pixels of a picture's side; 0 for the image's own or 128, whichever is larger.
        bare: No words and hardly a margin, for pages that say themselves what is seen.
        batch_size: Pictures that are changed at once.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: Whether to show bars on stderr.

    Returns:
        A `Sheet` for each kind, by its name, in their order.

    Raises:
        UsageError: An unknown kind or class, images that are missing or not laid out so, models that cannot stand
            side by side.
        UnknownCheckpoint: No checkpoint has that name.
        Unavailable: No source could serve a model that was named.
        StorageError: The directory cannot be written to.

    Example:
        >>> robust_zoo.visualize("resnet50_l2_eps3", classes=["goldfish", "tabby"])["synthesis"].picture.show()
    """
    kinds = [what] if isinstance(what, str) else [*what] or (["synthesis"] if not images else [*KINDS])
    rows = [checkpoint_of(name) for name in ([names] if isinstance(names, str | Path | Checkpoint) else names)]
    place = None if out is None else Path(out)
    single = place is not None and place.suffix.lower() in PICTURES
    check(rows, kinds, place if single else None)
    labels = [label_of(one, rows[0].collection.dataset, rows[0].name) for one in classes]
    given = images_for(rows[0], kinds, images, n)
    wanted = Wanted(*given, labels, n, seed, batch_size, progress)
    if place:
        with storage(place, _NEXT):
            (place.parent if single else place).mkdir(parents=True, exist_ok=True)
    models = _models(rows, device_of(device), alone=alone)
    side = tile or max(_TILE, rows[0].preprocessing.input_size[1])
    sheets = {}
    for name in kinds:
        strips = [DRAWN[name](model.subject, wanted) for model in models]
        tiles = _rows(name, models, strips, wanted)
        picture = draw_bare([row.tiles for row in tiles], side, _GAP) if bare else draw(tiles, side)
        sheet = Sheet(name, picture, _arrays(name, models, strips, wanted))
        sheets[name] = _written(sheet, place, single=single) if place else sheet
    return sheets


def _written(sheet: Sheet, out: Path, *, single: bool) -> Sheet:
    if single:
        save(sheet.picture, out)
        return replace(sheet, files=(out,))
    picture, numbers = out / f"{sheet.kind}.png", out / f"{sheet.kind}.npz"
    save(sheet.picture, picture)
    content = io.BytesIO()  # the same bytes for the same arrays
    np.savez_compressed(content, **sheet.arrays)  # type: ignore[arg-type]  # mypy takes a name for allow_pickle
    replace_file(numbers, content.getvalue(), _NEXT)
    return replace(sheet, files=(picture, numbers))


def _models(rows: Sequence[Checkpoint], device: torch.device, *, alone: bool) -> list[Shown]:
    beside = standard_of(rows[0]) if len(rows) == 1 and not alone else None
    found = [_shown(row, device) for row in rows]
    if beside:
        try:
            found.insert(0, _shown(beside, device))
            tqdm.write(f"beside it: {beside.name}, of standard training (--alone leaves it out)", file=sys.stderr)
        except Unavailable as error:
            tqdm.write(f"without {beside.name} beside it: {error.message}", file=sys.stderr)
    return found


def _shown(row: Checkpoint, device: torch.device) -> Shown:
    weights = ensure(row)
    model = pixel_model(create_model(row, weights=weights, device=device)).eval().requires_grad_(False)
    return Shown(row, Subject(model, row), weights.sha256)


def _rows(name: str, models: Sequence[Shown], strips: Sequence[Strip], wanted: Wanted) -> list[Row]:
    rows = []
    if KINDS[name].of_images and name != "interpolation":  # which has them in its own rows
        rows.append(Row("The images", [*wanted.images], wanted.captions))
    for model, strip in zip(models, strips, strict=True):
        rows += [replace(row, title=model.title(row.title)) for row in strip.rows]
    return rows


def _arrays(name: str, models: Sequence[Shown], strips: Sequence[Strip], wanted: Wanted) -> dict[str, np.ndarray]:
    """What a sheet shows; "about" says in JSON how it was made."""
    search = search_for(name, wanted.images.shape[-1]) if KINDS[name].small else None
    about = {
        "kind": name,
        "weights": {model.checkpoint.name: model.sha256 for model in models},
        "search": asdict(search) if search else None,
        "seed": wanted.seed,
        "robust_zoo": __version__,
    }
    arrays: dict[str, np.ndarray] = {"about": np.array(json.dumps(about))}
    if KINDS[name].of_images:
        arrays["images"] = wanted.images.numpy()
    for model, strip in zip(models, strips, strict=True):
        named: dict[str, Tensor] = {"": strip.found} | {f"_{key}": value for key, value in strip.others.items()}
        arrays |= {f"{model.checkpoint.name}{key}": value.numpy() for key, value in named.items()}
    return arrays
