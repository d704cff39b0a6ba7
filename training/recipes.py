"""How checkpoints are trained, as typed values.

A collection names its recipe, a section of checkpoints.toml (`[recipe.salman2020]`); the checkpoint's architecture,
dataset and threat model fill in the rest, so a recipe cannot contradict its checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any

from robust_zoo.errors import cannot_read, closest
from robust_zoo.readers import read_json, read_toml
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.choices import AMOUNT, BELOW_1, COUNT, SEED, Rule, broken, one_of
from robust_zoo.training.objectives import OBJECTIVES, PLAIN, Objective, refused
from robust_zoo.training.recipe_words import FIELDS, bad_field, in_words, no_recipe, threat_of, typed
from robust_zoo.training.schedules import SCHEDULES
from robust_zoo.weights.safetensors_file import read_header

# What is done to training images: all of robustness' transforms of ImageNet, or crops and flips.
AUGMENTS = ("robustness", "crop_flip")
_NUMBERS = ("lr", "momentum", "weight_decay", "attack_steps", "attack_step_size", "trades_beta")
_SQUARED = Rule("a number >= 0.000001", lambda n: 1e-6 <= n < inf)  # its square is a number in fp32
_RULES: Mapping[str, Rule] = (
    dict.fromkeys(("epochs", "batch_size", "accumulation", "step_epochs"), COUNT)
    | {"seed": SEED, **dict.fromkeys(_NUMBERS, AMOUNT)}
    | dict.fromkeys(("arks_sigma", "arks_step"), _SQUARED)
    | dict.fromkeys(("label_smoothing", "ema_decay", "regional_smoothing"), BELOW_1)
)


@dataclass(frozen=True)
class Recipe:
    """One training, complete but for paths and devices.

    Attributes:
        architecture: A name of the registry's architectures.
        dataset: A name of the registry's datasets.
        threat: The norm and radius to train for; eps 0 is standard training.
        epochs: Passes over the training images.
        batch_size: Images per update, over all devices.
        lr: The highest learning rate.
        schedule: A name of SCHEDULES: "step" (x 0.1 every `step_epochs`), "onecycle" or "cosine".
        augment: A name of AUGMENTS: "robustness" (all of robustness' transforms of ImageNet) or "crop_flip".
        step_epochs: Epochs between the drops of the "step" schedule.
        momentum: Of SGD.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: On every parameter.
        attack_steps: Gradient steps of the attack on each batch.
        attack_step_size: A fraction of eps.
        random_start: Whether the attack begins at a random point of the ball.
        seed: Of the first weights, the order of images, augmentation and random starts.
        objective: A name of OBJECTIVES: "adversarial" (Madry et al. 2018), or one that reads some of the next four.
        trades_beta: The weight of TRADES' second term.
        arks_sigma: The width of ARKS' kernel, an L2 distance in place of a radius; it scales with the root of the
            number of pixels: 0.3 at 32 px is 2.1 at 224.
        arks_step: The size of ARKS' steps, in units of arks_sigma^2.
        regional_smoothing: What a point at the radius loses of its label; in [0, 1).
        label_smoothing: In [0, 1).
        ema_decay: Of an exponential moving average of the weights, which is then what is measured and exported; 0:
            none.
        accumulation: Parts a batch is computed in; BatchNorm sees a part at a time.
        sync_bn: BatchNorm statistics over all devices; without it each device's own, and the first one's are kept.

    Raises:
        UsageError: The values make no training.
    """

    architecture: str
    dataset: str
    threat: ThreatModel
    epochs: int
    batch_size: int
    lr: float
    schedule: str
    augment: str
    step_epochs: int = 30
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    attack_steps: int = 3
    attack_step_size: float = 2 / 3
    random_start: bool = False
    seed: int = 0
    objective: str = "adversarial"
    trades_beta: float = 6.0
    arks_sigma: float = 0.3
    arks_step: float = 0.5
    regional_smoothing: float = 0.2
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    accumulation: int = 1
    sync_bn: bool = False

    def __post_init__(self) -> None:
        # Read now: a row that a user adds is a name from then on.
        names = {"schedule": one_of(SCHEDULES), "augment": one_of(AUGMENTS), "objective": one_of(OBJECTIVES)}
        for field, value, expected in broken(self, {**names, **_RULES}):
            raise bad_field(field, value, expected)
        if self.batch_size % self.accumulation:
            raise bad_field("accumulation", self.accumulation, f"a divisor of batch_size ({self.batch_size})")
        for field, expected in refused(self):
            raise bad_field(field, getattr(self, field), expected)

    @property
    def objective_row(self) -> Objective:
        """What is minimised; at eps 0 that is standard training, whatever the objective."""
        return OBJECTIVES[self.objective if self.threat.eps else PLAIN]

    @property
    def passes(self) -> int:
        """Forward-sized pieces of work per image and epoch: a forward, a backward to the input and one to the
        weights count one each (the count of performance tables such as Wong et al. 2020's)."""
        row = self.objective_row
        return row.passes + (row.attack_passes + 2 * self.attack_steps if self.threat.eps else 0)

    def watched(self, epoch: int) -> ThreatModel:
        """What the run's health is measured under: what it trains for.

        Args:
            epoch: Which was done, from 1.

        Returns:
            The threat model; with eps 0 clean accuracy alone.
        """
        return self.threat

    def at(self, progress: float) -> Recipe:
        """The recipe as it is at a moment of the training: the same throughout.

        Args:
            progress: In epochs (fractional, 0 <= progress <= epochs).

        Returns:
            The recipe of the next update.
        """
        return self

    def learning_rate(self, progress: float) -> float:
        """The learning rate at a moment of the training.

        Args:
            progress: In epochs (fractional, 0 <= progress <= epochs).

        Returns:
            The rate of the next update.
        """
        return self.lr * SCHEDULES[self.schedule].factor(progress / self.epochs, int(progress // self.step_epochs))

    @property
    def in_words(self) -> str:
        """A line of a card: the attack, if there is one, and how it is learnt."""
        return in_words(self)

    @property
    def sha256(self) -> str:
        """Of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """All values, as `from_dict` takes them; equal recipes give equal text."""
        return json.dumps(asdict(self), sort_keys=True)


def recipe_for(checkpoint: Checkpoint) -> Recipe:
    """The recipe that reproduces a checkpoint: its collection's, with its own architecture, dataset and threat.

    Args:
        checkpoint: From the registry (robust_zoo.get).

    Returns:
        The complete recipe; a UsageError where none is known.

    Example:
        >>> recipe_for(robust_zoo.get("resnet50_l2_eps3")).attack_steps
        3
    """
    recipes = load_registry().recipes
    if checkpoint.recipe not in recipes:
        raise no_recipe(checkpoint, recipes)
    values = {name: value for name, value in recipes[checkpoint.recipe].items() if name != "note"}
    threat = {"norm": checkpoint.norm, "eps": f"{checkpoint.eps!r}/1"}  # a fraction: the value, whatever the norm
    whose = {"architecture": checkpoint.architecture, "dataset": checkpoint.dataset, "threat": threat}
    return from_dict(values | whose, source=f"recipe.{checkpoint.recipe}")


def from_dict(values: dict[str, Any], base: Recipe | None = None, *, source: str = "") -> Recipe:
    """A recipe from plain values.

    Args:
        values: By field; `threat` is a table {norm, eps}, and an eps may be a fraction ("8/255").
        base: The recipe that `values` override; None where they are all of one.
        source: The file they are from, for errors.

    Returns:
        The recipe.

    Raises:
        UsageError: A field is unknown (the error names the closest), a value has the wrong type, or the values make no
            training.
    """
    types: dict[str, Any] = {field.name: field.type for field in fields(Recipe)}
    clean: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            raise bad_field(name, value, f"a field of Recipe; closest: {closest(name, types)[0]}", source)
        if name == "dataset" and base and value != base.dataset:
            raise bad_field(
                name, value, f"{base.dataset}, which is the checkpoint's; another dataset is another checkpoint", source
            )
        if name == "threat":
            clean[name] = threat_of(value, base.threat if base else None, source)
        else:
            clean[name] = typed(name, value, types[name], source)
    try:
        return replace(base, **clean) if base else Recipe(**clean)
    except TypeError as error:  # a whole recipe that lacks fields
        raise bad_field("recipe", "incomplete", str(error), source) from None


def load_overrides(path: Path, base: Recipe) -> Recipe:
    """A recipe from a file.

    Args:
        path: A TOML file of some fields, or an exported .safetensors file with a whole recipe in its header.
        base: What the fields of a TOML file override.

    Returns:
        The recipe.

    Raises:
        UsageError: The file cannot be read or names what no recipe has.
    """
    try:
        if path.suffix == ".safetensors":
            recipe = from_dict(read_json(read_header(path)["recipe"]), source=str(path))
            from_dict({"dataset": recipe.dataset}, base, source=str(path))  # of the same, or this says so
            return recipe
        return from_dict(read_toml(path, finite=False), base, source=str(path))
    except (OSError, KeyError, ValueError) as error:  # ValueError: not TOML, not JSON, not UTF-8
        expected = "a .toml file of recipe fields, or a .safetensors file that robust-zoo train exported"
        raise cannot_read(f"a recipe from {path}", path, expected, error, FIELDS) from None
