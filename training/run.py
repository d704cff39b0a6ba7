"""One training from a name to an exported row: recipe -> loop -> measured -> safetensors, row and card."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from robust_zoo.architectures.build import build
from robust_zoo.errors import UsageError
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.checkpoint import lock, newest_whole, read_checkpoint
from robust_zoo.training.data.dataset import Dataset, load_npz
from robust_zoo.training.distributed import World, join_world
from robust_zoo.training.export import as_trained, export, measure
from robust_zoo.training.log import write_status
from robust_zoo.training.loop import Settings, has_native_bf16, train_model
from robust_zoo.training.recipes import Recipe, load_overrides, recipe_for
from robust_zoo.training.signals import Interrupt, Stopped
from robust_zoo.training.version import code_version


@dataclass(frozen=True)
class Machine:
    """Where and how a training runs; nothing here changes what is trained.

    precision: "fp32", "bf16" (autocast), "fp64" (to compare runs), or "auto": bf16 on a GPU and on CPUs that multiply
    it natively, else fp32. workers: processes that read images from the disk.
    """

    device: str = "auto"
    precision: str = "auto"
    workers: int = 4
    save_seconds: float = 600.0
    log_steps: int = 10
    progress: bool = True


def plan_training(name: str, overrides: Path | None = None) -> tuple[Checkpoint, Recipe]:
    """What a training makes and by which recipe: the registered one, or with the values of a file."""
    checkpoint = get(name)
    recipe = recipe_for(checkpoint)
    if overrides:
        recipe = load_overrides(overrides, recipe)
    return as_trained(checkpoint, recipe), recipe


def train(
    name: str, data: str | Path, out: Path, *, overrides: Path | None = None, machine: Machine = Machine()
) -> Path:
    """Trains the checkpoint `name` by its recipe, measures it and exports it; returns the weights' path.

    data: an .npz with x_train, y_train, x_test, y_test for small datasets; for ImageNet a directory with train and
    val folders or tar shards, or "hfds/NAME" (see training.sources).
    out: the run's directory; a run that was cut off goes on from its last checkpoint.

    Under torchrun every process calls this. Raises UsageError for what cannot be trained so, Stopped after a signal
    (the same call goes on).
    """
    checkpoint, recipe = plan_training(name, overrides)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        world = stack.enter_context(join_world(machine.device))
        if world.first:
            stack.enter_context(lock(out))
        train_data, test_data = (
            open_split(data, split, checkpoint, recipe, machine.workers) for split in ("train", "test")
        )
        check_same_classes(train_data, test_data)
        model, bf16 = untrained(checkpoint, recipe, world, machine.precision)
        settings = Settings(bf16, machine.save_seconds, machine.log_steps, machine.progress)
        trained = train_model(
            model, recipe, train_data, test_data, out, world=world, interrupt=interrupt, settings=settings
        )
        return _finish(trained, checkpoint, recipe, train_data, test_data, out, world, interrupt, bf16)


def untrained(checkpoint: Checkpoint, recipe: Recipe, world: World, precision: str) -> tuple[PixelModel, bool]:
    """The untrained pixel-space model of a checkpoint, and whether it is to run under bf16 autocast."""
    torch.manual_seed(recipe.seed)
    network = build(checkpoint.network.timm, num_classes=checkpoint.preprocessing.num_classes)
    if precision == "fp64":
        network = network.double()
    native = world.device.type == "cuda" or has_native_bf16()
    pixels = PixelModel(network, checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
    return pixels, native if precision == "auto" else precision == "bf16"


def open_split(data: str | Path, split: str, checkpoint: Checkpoint, recipe: Recipe, workers: int) -> Dataset:
    """The "train" or "test" images of a checkpoint's dataset.

    Raises UsageError when they cannot be read, or are not as many classes as the network's.
    """
    classes = checkpoint.preprocessing.num_classes
    if str(data).endswith(".npz"):
        if recipe.augment != "crop_flip":
            raise UsageError(
                f"augment = {recipe.augment!r} is for image files",
                model=checkpoint.name,
                source=str(data),
                expected="augment: crop_flip, for images in an .npz",
                actual=recipe.augment,
                next='put augment = "crop_flip" in a recipe file: robust-zoo train NAME --recipe FILE.toml',
            )
        images: Dataset = load_npz(Path(data), split)
    else:
        from robust_zoo.training.data.folders import open_source
        from robust_zoo.training.data.image_files import ImageFiles

        size = checkpoint.preprocessing.input_size[-1]
        source = open_source(data, "train" if split == "train" else "val")
        images = ImageFiles(
            source,
            size=size,
            resize=round(size / checkpoint.preprocessing.crop_pct),
            augment=recipe.augment,
            workers=workers,
        )
    highest = int(images.labels.max()) + 1
    if highest > classes:
        raise UsageError(
            f"{checkpoint.name} has {classes} classes",
            model=checkpoint.name,
            source=str(data),
            expected=f"labels 0 to {classes - 1}",
            actual=f"labels up to {highest - 1}",
            next="give the dataset that the checkpoint is of",
        )
    return images


def check_same_classes(train_data: Dataset, test_data: Dataset) -> None:
    """Raises UsageError when the folders of the two splits are not the same classes; in-memory data has none."""
    from robust_zoo.training.data.folders import check_classes
    from robust_zoo.training.data.image_files import ImageFiles

    if isinstance(train_data, ImageFiles) and isinstance(test_data, ImageFiles):
        check_classes(train_data.source, test_data.source)


def _finish(
    model: nn.Module,
    checkpoint: Checkpoint,
    recipe: Recipe,
    train_data: Dataset,
    test_data: Dataset,
    out: Path,
    world: World,
    interrupt: Interrupt,
    bf16: bool,
) -> Path:
    """Measures the trained model on all ranks; the first one exports it."""
    try:
        measured = measure(model, checkpoint, test_data, world=world, poll=interrupt.poll)
    except Stopped as stopped:
        if world.first:
            write_status(out, "stopped", reason=str(stopped))
        raise
    path = out / f"{checkpoint.name}.safetensors"
    if world.first:
        content, _ = newest_whole(out)
        hours = read_checkpoint(content or b"")["progress"]["seconds"] / 3600
        where = f"{world.size} GPU" if world.device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
        how = (
            f"{recipe.epochs} epochs on {len(train_data):,} {checkpoint.dataset} training images, on {where} "
            f"in {'bf16 autocast' if bf16 else 'full precision'}, {code_version()}"
        )
        network = cast(PixelModel, model).model.cpu().to(memory_format=torch.contiguous_format)
        export(network, checkpoint, recipe, train_data, measured, out, how=how, hours=hours)
        write_status(out, "finished", weights=path.name)
    return path
