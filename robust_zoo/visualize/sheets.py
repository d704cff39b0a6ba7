"""`robust-zoo visualize`: models side by side, a picture and its arrays for each kind."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from robust_zoo import __version__
from robust_zoo.errors import Unavailable, UsageError
from robust_zoo.factory import create_model
from robust_zoo.files import replace_file, storage
from robust_zoo.pixels import pixel_model
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.class_names import class_names, label_of
from robust_zoo.training.data.dataset import evenly
from robust_zoo.training.data.fit import check_classifies
from robust_zoo.training.data.unlabelled import open_unlabelled
from robust_zoo.training.distributed import device_of
from robust_zoo.training.evaluation.attack_files import PICTURES, save
from robust_zoo.training.figures.tiles import Row, draw, draw_bare
from robust_zoo.visualize.beside import standard_of
from robust_zoo.visualize.engine import BATCH_SIZE
from robust_zoo.visualize.kinds import KINDS, kind, search_for
from robust_zoo.visualize.models import Subject
from robust_zoo.visualize.strips import DRAWN, Strip, Wanted
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


def see(
    names: Sequence[str | Checkpoint],
    what: Sequence[str] = (),
    *,
    images: Sequence[Path | str] = (),
    classes: Sequence[int | str] = (),
    n: int = 10,
    seed: int = 0,
    alone: bool = False,
    out: Path = Path("seen"),
    tile: int = 0,
    bare: bool = False,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = False,
) -> list[Path]:
    """Draws what models see, side by side; a robust one beside the standard one of its architecture.

    Args:
        names: Checkpoints by name, files that train or convert wrote, or checkpoints; of one dataset and image size.
        what: Kinds of picture, of `kinds.KINDS`; none means synthesis, or with images all.
        images: Files of images, or one folder as `evaluate` takes it, of which `n` are taken, evenly spread. None
            means, for models of CIFAR-10, the bundled sample.
        classes: To be drawn, by number or name, and in turn what images are made more like; when none, evenly spread
            over all, and for each image the next one's.
        n: Pictures side by side.
        seed: Of noise.
        alone: Leave out the standard model.
        out: A directory, for a picture and the arrays of each kind; or the file of one picture (.png, .webp).
        tile: Pixels of a picture's side; 0 for the image's own or 128, whichever is larger.
        bare: No words and hardly a margin, for pages that say themselves what is seen.
        batch_size: Pictures that are changed at once.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: Whether to show bars on stderr.

    Returns:
        The files that were written: a picture and, in a directory, an .npz for each kind, in their order.

    Raises:
        UsageError: An unknown kind or class, images that are missing or not laid out so, models that cannot stand
            side by side.
        UnknownCheckpoint: No checkpoint has that name.
        Unavailable: No source could serve a model that was named.
        StorageError: The directory cannot be written to.

    Example:
        >>> see(["resnet50_l2_eps3"], ["synthesis"], classes=["goldfish", "tabby"])
    """
    kinds = [*what] or (["synthesis"] if not images else [*KINDS])
    rows = [checkpoint_of(name) for name in names]
    single = out.suffix.lower() in PICTURES
    _check(rows, kinds, out if single else None)
    labels = [label_of(one, rows[0].collection.dataset, rows[0].name) for one in classes]
    given = _given(rows[0], kinds, images, n)
    wanted = Wanted(*given, labels, n, seed, batch_size, progress)
    with storage(out, _NEXT):
        (out.parent if single else out).mkdir(parents=True, exist_ok=True)
    models = _models(rows, device_of(device), alone=alone)
    written = []
    for name in kinds:
        strips = [DRAWN[name](model.subject, wanted) for model in models]
        written.append(out if single else out / f"{name}.png")
        rows_of_tiles = _rows(name, models, strips, wanted)
        side = tile or max(_TILE, rows[0].preprocessing.input_size[1])
        bared = [row.tiles for row in rows_of_tiles]
        save(draw_bare(bared, side, _GAP) if bare else draw(rows_of_tiles, side), written[-1])
        if not single:
            written.append(out / f"{name}.npz")
            replace_file(written[-1], _arrays(name, models, strips, wanted), _NEXT)
    return written


def _check(rows: Sequence[Checkpoint], kinds: Sequence[str], picture: Path | None) -> None:
    for name in kinds:
        kind(name)
    for row in rows:
        check_classifies(row)
        if (row.dataset, row.preprocessing.input_size) != (rows[0].dataset, rows[0].preprocessing.input_size):
            one, other = (f"{r.dataset} at {r.preprocessing.input_size[1]} pixels" for r in (rows[0], row))
            raise UsageError(
                f"{rows[0].name} and {row.name} cannot stand side by side",
                model=row.name,
                expected=f"models of {one}",
                actual=other,
                next=f"robust-zoo visualize {row.name}",
            )
    if picture and len(kinds) > 1:
        raise UsageError(
            f"{picture.name} is one picture",
            source=str(picture),
            expected="one --what for it, or a directory",
            actual=f"{len(kinds)} kinds: {', '.join(kinds)}",
            next=f"--what {kinds[0]}, or -o {picture.with_suffix('')}",
        )


def _given(
    first: Checkpoint, kinds: Sequence[str], images: Sequence[Path | str], n: int
) -> tuple[Tensor, tuple[str, ...], Tensor | None]:
    """The images that the kinds are of, what they are called, and their labels where these are known."""
    size = first.preprocessing.input_size
    needing = [name for name in kinds if KINDS[name].of_images]
    if not needing:
        return torch.zeros(0, *size), (), None
    if images:
        opened = open_unlabelled(images, first.preprocessing)
        if opened.folder and opened.folder.note:
            tqdm.write(opened.folder.note, file=sys.stderr)
        chosen = evenly(len(opened), n)
        pixels, labels = opened.batch(chosen), None
        captions = tuple(opened.names[index].name for index in chosen)
    elif first.dataset == "cifar10" and size == (3, 32, 32):
        sample = cifar10_sample()
        of = torch.tensor(evenly(len(sample), n))
        pixels, labels = sample.images[of].float() / 255, sample.labels[of]
        captions = tuple(class_names(first.collection.dataset)[label] for label in labels.tolist())
    else:
        raise UsageError(
            f"{needing[0]} is of images, and none were given",
            model=first.name,
            expected="--images FOLDER, or --images FILE for each",
            actual="no images",
            next=f"robust-zoo visualize {first.name} --what synthesis   needs none",
        )
    if "interpolation" in kinds and len(pixels) < 2:
        raise UsageError(
            "between two images there is a way, of one there is none",
            expected="two images or more",
            actual=f"{len(pixels)}",
            next="--images FOLDER, or --images FILE twice; or --what inversion",
        )
    return pixels, captions, labels


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


def _arrays(name: str, models: Sequence[Shown], strips: Sequence[Strip], wanted: Wanted) -> bytes:
    """An .npz of the same bytes for the same arrays; "about" says in JSON how they were made."""
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
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # mypy takes a name for allow_pickle
    return content.getvalue()
