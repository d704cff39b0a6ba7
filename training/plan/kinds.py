"""The kinds of work that a plan has, a row each: what it takes, the command that does it, whether it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.choices import FP32, IMAGE_SETS, TF32, WORK, go_together
from robust_zoo.training.cost import cost
from robust_zoo.training.plan.found import Found
from robust_zoo.training.plan.rates import Step
from robust_zoo.training.recipes import recipe_for
from robust_zoo.training.transfer.datasets import get_dataset, load_datasets
from robust_zoo.training.transfer.protocols.linear import Linear
from robust_zoo.training.transfer.protocols.salman2020 import Salman2020

_TESTED = 250  # images at a time where nothing is trained


@dataclass(frozen=True)
class Places:
    """Where a plan's commands read and write.

    Attributes:
        data: ImageNet, as `robust-zoo train` takes it; "" where it is not known yet.
        root: The folder of the transfer datasets; None where it is not known yet.
        runs: The folder of runs, cells and settings.
        results: The ledger.
        workers: Processes that read images for a training or a transfer.
    """

    data: str = ""
    root: Path | None = None
    runs: Path = Path("runs")
    results: Path = Path("results")
    workers: int = 4

    def settings(self, kind: str) -> Path:
        """The file of a kind's settings."""
        return self.runs.absolute() / f"{kind}.toml"


@dataclass(frozen=True)
class Work:
    """What a part of a task takes.

    Attributes:
        images: That go through the network, however often.
        passes: Forward-sized pieces of work, over all of them.
    """

    images: int
    passes: int

    def __add__(self, other: Work) -> Work:
        return Work(self.images + other.images, self.passes + other.passes)


@dataclass(frozen=True)
class Kind:
    """A kind of work.

    Attributes:
        needs: The option without which its commands cannot be given: "data" or "root".
        trains: Whether it makes weights, where others take them.
        parts: Of a checkpoint; what can be done and left out on its own. None: the kind is nothing for it.
        work: Of a checkpoint and a part.
        step: Of a checkpoint and the FLOPs of an image; what its speed is looked up by.
        done: Of what was found, a checkpoint and a part.
        command: Of the weights (a name or a file), the checkpoint, the parts and the places; robust-zoo's arguments.
        settings: What a file of settings must say, by name; none for defaults.
    """

    needs: str
    parts: Callable[[Checkpoint], tuple[str, ...]]
    work: Callable[[Checkpoint, str], Work]
    step: Callable[[Checkpoint, float], Step]
    done: Callable[[Found, Checkpoint, str], bool]
    command: Callable[[str, Checkpoint, tuple[str, ...], Places], list[str]]
    trains: bool = False
    settings: Mapping[str, Any] | None = None


def _train_work(checkpoint: Checkpoint, part: str) -> Work:
    c = cost(checkpoint, recipe_for(checkpoint))
    return Work(c.images, c.images * c.passes)


def _train_step(checkpoint: Checkpoint, flops: float) -> Step:
    recipe = recipe_for(checkpoint)
    steps = recipe.attack_steps if recipe.threat.eps else 0
    size, batch = checkpoint.preprocessing.input_size[1], recipe.batch_size // recipe.accumulation
    return Step(checkpoint.architecture, size, batch, steps, "bf16", flops)


def _train_command(weights: str, checkpoint: Checkpoint, parts: tuple[str, ...], places: Places) -> list[str]:
    run = places.runs.absolute() / checkpoint.name
    return ["train", checkpoint.name, "--data", places.data, "--out", str(run), "--workers", str(places.workers)]


def _evaluate_command(weights: str, checkpoint: Checkpoint, parts: tuple[str, ...], places: Places) -> list[str]:
    out = str(places.results.absolute())
    return ["evaluate", weights, "-d", checkpoint.dataset, "--data", places.data, "-a", "none", "--out", out]


def _evaluate_work(checkpoint: Checkpoint, part: str) -> Work:
    images = IMAGE_SETS[checkpoint.dataset].images
    return Work(images, images)


def _evaluated(found: Found, checkpoint: Checkpoint, part: str) -> bool:
    return found.evaluated(checkpoint, IMAGE_SETS[checkpoint.dataset].title, "none")


def _transfer(
    name: str, protocol: str, settings: Any, work: Callable[[int, int], Work], precision: str, batch: int
) -> Kind:
    """A kind of transfer; `work` is of the images to train and to test on."""
    told = {f.name: getattr(settings, f.name) for f in fields(settings) if getattr(settings, f.name) != f.default}

    def of_dataset(checkpoint: Checkpoint, part: str) -> Work:
        dataset = get_dataset(part)
        return work(dataset.train + dataset.val, dataset.test)

    def step(checkpoint: Checkpoint, flops: float) -> Step:
        return Step(checkpoint.architecture, checkpoint.preprocessing.input_size[1], batch, None, precision, flops)

    def command(weights: str, checkpoint: Checkpoint, parts: tuple[str, ...], places: Places) -> list[str]:
        named = [word for part in parts for word in ("--dataset", part)]
        where = ["--root", str((places.root or Path()).absolute()), "--out", str(places.runs.absolute() / "transfer")]
        file = ["--settings", str(places.settings(name))] if told else []
        reading = ["--workers", str(places.workers)]
        return ["transfer", weights, "--protocol", protocol, *file, *named, *where, *reading]

    return Kind(
        "root", lambda checkpoint: (*load_datasets(),), of_dataset, step,
        lambda found, checkpoint, part: found.transferred(checkpoint, part, protocol, settings), command, settings=told,
    )  # fmt: skip


def _salman2020(mode: str, passes: int) -> Kind:
    """The paper's procedure: every epoch trains on all images and looks at the test images."""
    settings = Salman2020(mode)

    def work(train: int, test: int) -> Work:
        return Work(settings.epochs * (train + test), settings.epochs * (passes * train + test))

    return _transfer(mode, "salman2020", settings, work, "bf16", settings.batch_size)


KINDS: Mapping[str, Kind] = {
    "train": Kind(
        "data", lambda checkpoint: ("run",), _train_work, _train_step,
        lambda found, checkpoint, part: checkpoint.name in found.exports, _train_command, trains=True,
    ),
    "evaluate": Kind(
        "data", lambda c: ("clean",) if c.dataset in IMAGE_SETS else (), _evaluate_work,
        lambda c, flops: Step(c.architecture, c.preprocessing.input_size[1], _TESTED, None, FP32, flops),
        _evaluated, _evaluate_command,
    ),
    "fixed-feature": _salman2020("fixed-feature", 1),
    "full-network": _salman2020("full-network", 3),
    "linear": _transfer(
        "linear", "linear", Linear(), lambda train, test: Work(train + test, train + test), TF32, _TESTED
    ),
}  # fmt: skip
go_together("training/plan/kinds.py", KINDS, WORK)
