"""Names of attacks, image sets, checks and protocols, and what each is; what values may be. No torch, no work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from robust_zoo.errors import ZooError


@dataclass(frozen=True)
class ImageSet:
    """What figures are measured on.

    Attributes:
        classes: The dataset that a checkpoint must be of; empty for any.
        title: What its figures carry, after the checkpoint's dataset where they can be of any.
        where: What --data is to hold; empty for what comes with the package.
        images: How many there are, 0 where that is the user's.
        table: The name of TABLES that a figure on it is; empty for an accuracy, clean or under an attack.
    """

    classes: str
    title: str
    where: str
    images: int = field(default=0, kw_only=True)
    table: str = field(default="", kw_only=True)

    @property
    def about(self) -> str:
        """Title and place, for --help."""
        return ": ".join(filter(None, (self.title, self.where)))


CORRUPTIONS, CUES = "corruptions", "cue-conflict"
# evaluation.tables has what each adds up to: several accuracies that make one figure.
TABLES = {
    CORRUPTIONS: "under each corruption at each severity",
    CUES: "by the shape of what is shown, and by its texture",
}

# evaluation.datasets opens each.
IMAGE_SETS = {
    "sample": ImageSet("cifar10", "cifar10 bundled sample", "", images=1_000),
    "cifar10": ImageSet("cifar10", "cifar10 test", "an .npz with x_test and y_test", images=10_000),
    "cifar10.1": ImageSet("cifar10", "cifar10.1 v6", "cifar10.1_v6_data.npy and cifar10.1_v6_labels.npy", images=2_000),
    "imagenet": ImageSet("imagenet", "imagenet validation", "the 50,000 validation images", images=50_000),
    "robustbench": ImageSet("imagenet", "imagenet robustbench", "the 50,000 validation images", images=5_000),
    "imagenetv2": ImageSet("imagenet", "imagenetv2", "one of its three folders of 0 ... 999", images=10_000),
    "cifar10-c": ImageSet(
        "cifar10", "cifar10-c", "gaussian_noise.npy and so on, and labels.npy", images=10_000, table=CORRUPTIONS
    ),
    "imagenet-c": ImageSet(
        "imagenet", "imagenet-c", "gaussian_noise/1/n01440764 and so on", images=50_000, table=CORRUPTIONS
    ),
    "cue-conflict": ImageSet("imagenet", "cue-conflict", "airplane1-bicycle2.png and so on", images=1_200, table=CUES),
    "folder": ImageSet("", "folder", "folders, or a tar file, with the names of the model's classes"),
    "numbered": ImageSet("", "folder", "the same with the classes' numbers"),
}

# attacks.settings has the stages of each; PGD's steps and restarts are a part of its name.
ATTACKS = {
    "none": "clean accuracy",
    "fgsm": "one step of the whole radius",
    "apgd-ce": "Auto-PGD on the cross entropy",
    "apgd-t": "Auto-PGD towards nine classes",
    "fab-t": "FAB towards nine classes",
    "square": "without gradients",
    "autoattack": "the four before it, in sequence",
}
# training.corruptions makes them: no attack, as no model is asked.
CORRUPTED = {CORRUPTIONS: "noise, blur, weather: our own versions of 14 at 5 severities"}
PGD = {"pgd-20": "any number of steps", "pgd-20x5": "five random restarts"}

# attacks.precision sets each: what products of fp32 numbers are rounded to.
FP32, TF32 = "fp32", "tf32"
PRECISIONS = {FP32: "all bits", TF32: "ten, on CUDA alone: about three times as fast there"}

# evaluation.checks carries each out: when a figure means nothing.
CHECKS = {
    "not-in-eval": "BatchNorm or dropout is in training mode",
    "probabilities": "the output is probabilities, whose gradients vanish",
    "random-output": "the same images give other logits each time",
    "zero-gradients": "the loss has no gradient, so gradient attacks stand still",
    "false-gradients": "a tiny step along the gradient lowers the loss",
    "robust-without-bound": "images stay right under a change of all pixels",
    "noise-as-strong": "random noise of 8/255 does as much as PGD",
    "black-box-stronger": "Square, without gradients, breaks what APGD could not",
    "normalised-twice": "the model is better with one normalisation undone",
}

# transfer.protocols.table carries each out.
PROTOCOLS = {
    "linear": "logistic regression on cached features, chosen on validation images",
    "finetune": "training all or a part of the network, chosen on validation images",
    "salman2020": "as the paper, quirks included",
    "detection": "a detector on it; --dataset is a folder of COCO's or VOC's layout",
}

# plan.kinds has what each takes.
WORK = {
    "train": "its recipe",
    "evaluate": "clean accuracy",
    "fixed-feature": "transfers as the paper's: 150 epochs of the last layer",
    "full-network": "transfers as the paper's: 150 epochs of everything",
    "linear": "transfers by logistic regression, features computed once",
}


def go_together(module: str, rows: Iterable[str], names: Iterable[str]) -> None:
    """That a table of what is done has a row for each name here, and no other.

    Args:
        module: Which has the table.
        rows: The names in it.
        names: Those here.

    Raises:
        ZooError: A name without its row, or a row without its name.
    """
    if alone := set(rows) ^ set(names):
        raise ZooError(
            f"only in one of training/choices.py and {module}: {', '.join(sorted(alone))}",
            source=module,
            expected=f"a row for each of {', '.join(names)}",
            actual=f"rows for {', '.join(rows)}",
            next="add the name, or the row",
        )


@dataclass(frozen=True)
class Rule:
    """What a value may be.

    Attributes:
        words: In words.
        holds: Whether one of the right type is so.
    """

    words: str
    holds: Callable[[Any], bool]


LARGEST_SEED = (1 << 32) - 1  # torch's CPU generator looks at no more bits
SEED = Rule(f"a whole number from 0 to {LARGEST_SEED}", lambda n: 0 <= n <= LARGEST_SEED)
COUNT = Rule("a whole number >= 1", lambda n: n >= 1)
AMOUNT = Rule("a number >= 0", lambda n: 0 <= n < inf)
AMOUNTS = Rule("a list of numbers >= 0, one or more", lambda ns: bool(ns) and all(map(AMOUNT.holds, ns)))
BELOW_1 = Rule("a number in [0, 1)", lambda n: 0 <= n < 1)
SHRINK = Rule("0, or a whole number of pixels from 2 to 4,096", lambda n: n == 0 or 2 <= n <= 4096)
PART = Rule("a number between 0 and 1", lambda n: 0 < n < 1)


def one_of(words: Iterable[str]) -> Rule:
    """One of these words."""
    allowed = tuple(words)
    return Rule(f"one of {', '.join(allowed)}", allowed.__contains__)


def broken(values: object, rules: Mapping[str, Rule]) -> Iterator[tuple[str, Any, str]]:
    """What a dataclass has that it may not have.

    Args:
        values: The dataclass; None is no value.
        rules: By the field's name.

    Yields:
        The field, its value, and the rule in words.
    """
    for name, rule in rules.items():
        value = getattr(values, name)
        if value is not None and not rule.holds(value):
            yield name, value, rule.words
