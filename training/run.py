"""One training from a name to an export: recipe -> loop -> measured -> safetensors, row of checkpoints.toml, card."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from tqdm import tqdm

from robust_zoo.architectures.build import build
from robust_zoo.errors import UsageError
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import several
from robust_zoo.training.attacks.precision import products_in, require_precision
from robust_zoo.training.checkpoint_files import newest_whole, read_checkpoint
from robust_zoo.training.choices import FP32, TF32
from robust_zoo.training.data.dataset import Dataset, load_npz
from robust_zoo.training.data.fit import check_fits
from robust_zoo.training.distributed import World, has_native_bf16, join_world
from robust_zoo.training.export import as_trained, export, measure
from robust_zoo.training.log import write_status
from robust_zoo.training.loop import train_model
from robust_zoo.training.machine import FP64, NUMBERS, Machine, Settings
from robust_zoo.training.recipes import Recipe, load_overrides, recipe_for
from robust_zoo.training.run_lock import lock
from robust_zoo.training.signals import Interrupt, Stopped
from robust_zoo.training.steps.ways import WAYS
from robust_zoo.training.version import code_version


def plan_training(name: str, overrides: Path | None = None) -> tuple[Checkpoint, Recipe]:
    """What a training makes and by which recipe.

    Args:
        name: A checkpoint's.
        overrides: A file of recipe values (`load_overrides`); None for the registered recipe.

    Returns:
        The checkpoint that the run makes, without weights yet, and its recipe.
    """
    checkpoint = get(name)
    recipe = recipe_for(checkpoint)
    if overrides:
        recipe = load_overrides(overrides, recipe)
    return as_trained(checkpoint, recipe), recipe


def train(
    name: str, data: str | Path, out: Path, *, overrides: Path | None = None, machine: Machine = Machine()
) -> Path:
    """Trains a checkpoint by its recipe, measures it and exports it. Under torchrun every process calls this.

    Args:
        name: The checkpoint's.
        data: An .npz with x_train, y_train, x_test, y_test for small datasets; for ImageNet a directory with train and
            val folders or tar shards, or "hfds/NAME" (see training.data.folders).
        out: The run's directory; a run that was cut off goes on from its last checkpoint.
        overrides: A file of recipe values (robust_zoo.training.recipes.load_overrides); None for the registered recipe.
        machine: Where and how to run.

    Returns:
        The path of the exported weights, a .safetensors file; a row for checkpoints.toml and a card lie beside it.

    Raises:
        UsageError: This cannot be trained so.
        Stopped: After a signal; the same call goes on.
        VerificationFailed: The training diverges, or an image cannot be decoded.
        StorageError: The disk is full or refuses.

    Example:
        >>> train("resnet18_x0_25_cifar10_l2_eps0_5", "cifar10.npz", Path("run"))
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
        if world.first and machine.progress:
            for split, data_of in (("training", train_data), ("test", test_data)):
                if note := getattr(getattr(data_of, "source", None), "note", ""):
                    tqdm.write(f"{split} images: {note}", file=sys.stderr)
        model, bf16 = untrained(checkpoint, recipe, world, machine.precision)
        settings = settings_of(machine, bf16)
        if not bf16:  # which has no products of fp32 numbers
            stack.enter_context(products(machine.precision, world.device))
        trained = train_model(
            model, recipe, train_data, test_data, out, world=world, interrupt=interrupt, settings=settings
        )
        return _finish(trained, checkpoint, recipe, train_data, test_data, out, world, interrupt, settings)


def products(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Within it products of fp32 numbers are made as a training's precision says.

    Args:
        precision: As Machine has it.
        device: Where it trains.

    Returns:
        A context; a UsageError where the device does not know the precision.
    """
    require_precision(precision, device)
    return products_in(TF32 if precision == TF32 else FP32)


def settings_of(machine: Machine, bf16: bool) -> Settings:
    """What of a machine the loop is told.

    Args:
        machine: As a user has it.
        bf16: Whether its precision comes to bf16 autocast (`untrained`).

    Returns:
        The settings of the run.
    """
    m = machine
    numbers: Any = {"tf32": m.precision == TF32, "fp64": m.precision == FP64}
    return Settings(bf16, m.save_seconds, m.log_steps, m.progress, compile=m.compile, workers=m.workers, **numbers)


def untrained(checkpoint: Checkpoint, recipe: Recipe, world: World, precision: str) -> tuple[PixelModel, bool]:
    """The pixel-space model that a training begins with.

    Args:
        checkpoint: With the network and its preprocessing.
        recipe: With the seed of the first weights.
        world: With the device.
        precision: As Machine has it.

    Returns:
        The model, on the CPU, and whether it is to run under bf16 autocast.
    """
    torch.manual_seed(recipe.seed)
    network = build(checkpoint.network.timm, num_classes=checkpoint.preprocessing.num_classes)
    if precision == FP64:
        network = network.double()
    native = world.device.type == "cuda" or has_native_bf16()
    pixels = PixelModel(network, checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
    return pixels, native if precision == "auto" else precision == "bf16"


def open_split(data: str | Path, split: str, checkpoint: Checkpoint, recipe: Recipe, workers: int) -> Dataset:
    """The images of a checkpoint's dataset.

    Args:
        data: As `train` takes it.
        split: "train" or "test".
        checkpoint: With the classes and the preprocessing.
        recipe: With the augmentation.
        workers: Processes that read images from the disk.

    Returns:
        The images of the split.

    Raises:
        UsageError: They cannot be read, have more classes than the network, or cannot be augmented as the recipe says.
    """
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
        from robust_zoo.training.data.encoded import counted
        from robust_zoo.training.data.folders import open_source
        from robust_zoo.training.data.image_files import ImageFiles
        from robust_zoo.views import View

        source = open_source(data, "train" if split == "train" else "val")
        if split == "train":
            counted(source, data)
        view = View.of(checkpoint.preprocessing)
        images = ImageFiles(source, view, augment=recipe.augment, workers=workers)
    check_fits(images, checkpoint, str(data))
    return images


def check_same_classes(train_data: Dataset, test_data: Dataset) -> None:
    """Makes sure that a label means the same class in both splits; in-memory data has no folders to compare.

    Args:
        train_data: The training images.
        test_data: The test images.

    Raises:
        UsageError: The folders of the two splits are not the same classes.
    """
    from robust_zoo.training.data.folders import check_classes, check_classes_differ
    from robust_zoo.training.data.image_files import ImageFiles

    if isinstance(train_data, ImageFiles) and isinstance(test_data, ImageFiles):
        check_classes(train_data.source, test_data.source)
        check_classes_differ(train_data.source, train_data.source.names[0])


def _finish(
    model: nn.Module,
    checkpoint: Checkpoint,
    recipe: Recipe,
    train_data: Dataset,
    test_data: Dataset,
    out: Path,
    world: World,
    interrupt: Interrupt,
    settings: Settings,
) -> Path:
    """Measures the trained model on all ranks; the first one exports it."""
    try:
        with products_in(FP32):
            measured = measure(model, checkpoint, test_data, world=world, poll=interrupt.poll)
    except Stopped as stopped:
        if world.first:
            write_status(out, "stopped", reason=str(stopped))
        raise
    path = out / f"{checkpoint.name}.safetensors"
    if world.first:
        content, _ = newest_whole(out)
        progress = read_checkpoint(content or bytearray())["progress"]
        hours, way = progress["seconds"] / 3600, WAYS[progress["way"]].words
        on_gpus = world.device.type == "cuda"
        where = several(world.size, "GPU") if on_gpus else several(torch.get_num_threads(), "CPU thread")
        how = (
            f"{recipe.epochs} epochs on {len(train_data):,} {checkpoint.dataset} training images, on {where} "
            f"in {NUMBERS[settings.numbers]}{f', {way}' if way else ''}, {code_version()}"
        )
        network = cast(PixelModel, model).model.cpu().to(memory_format=torch.contiguous_format)
        export(network, checkpoint, recipe, train_data, measured, out, how=how, hours=hours)
        write_status(out, "finished", weights=path.name)
    return path
