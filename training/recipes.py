"""How checkpoints are trained, as typed values.

A collection names its recipe, a section of checkpoints.toml (`[recipe.salman2020]`); the row's architecture,
dataset and threat model fill in the rest, so a recipe can not contradict its checkpoint.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint, load_recipes
from robust_zoo.threat import ThreatModel, parse_eps
from robust_zoo.weights.safetensors_file import read_header

_FRACTION = re.compile(r"\d+/[1-9]\d*")
_CHOICES = {
    "schedule": ("step", "onecycle", "cosine"),
    "augment": ("robustness", "crop_flip"),
    "objective": ("adversarial", "trades"),
}


@dataclass(frozen=True)
class Recipe:
    """One training, complete but for paths and devices. Raises UsageError for values that make no training.

    threat: eps 0 is standard training. batch_size: images an update, over all devices.
    schedule: "step" (x 0.1 every `step_epochs`), "onecycle" (linear up to `lr` over the first quarter of the run,
        linear down to 0; Smith 2018) or "cosine" (to 0; Loshchilov & Hutter 2017).
    attack_step_size: a fraction of eps.
    objective: "adversarial" (Madry et al. 2018) or "trades" with `trades_beta` (Zhang et al. 2019).
    ema_decay: of an exponential moving average of the weights, which is then what is measured and exported; 0: none.
    accumulation: parts a batch is computed in; BatchNorm sees a part at a time.
    sync_bn: BatchNorm statistics over all devices; without it each device's own, and the first one's are kept.
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
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    accumulation: int = 1
    sync_bn: bool = False

    def __post_init__(self) -> None:
        for field, allowed in _CHOICES.items():
            if getattr(self, field) not in allowed:
                raise _bad(field, getattr(self, field), f"one of {', '.join(allowed)}")
        for field in ("epochs", "batch_size", "accumulation", "step_epochs"):
            if getattr(self, field) < 1:
                raise _bad(field, getattr(self, field), "a whole number >= 1")
        for field in ("lr", "momentum", "weight_decay", "attack_steps", "attack_step_size", "trades_beta", "seed"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise _bad(field, getattr(self, field), "a number >= 0")
        for field in ("label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, field) < 1:
                raise _bad(field, getattr(self, field), "a number in [0, 1)")
        if self.batch_size % self.accumulation:
            raise _bad("accumulation", self.accumulation, f"a divisor of batch_size ({self.batch_size})")

    @property
    def passes(self) -> int:
        """Forward-sized pieces of work an image and epoch: a forward, a backward to the input and one to the
        weights count one each (the count of performance tables such as Wong et al. 2020's)."""
        update = 6 if self.objective == "trades" and self.threat.eps else 3
        if not self.threat.eps:
            return update
        return 2 * self.attack_steps + update + (1 if self.objective == "trades" else 0)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def recipe_for(checkpoint: Checkpoint) -> Recipe:
    """The recipe that reproduces a checkpoint: its collection's, with the row's architecture, dataset and threat."""
    values = {name: value for name, value in load_recipes()[checkpoint.recipe].items() if name != "note"}
    threat = {"norm": checkpoint.norm, "eps": f"{checkpoint.eps!r}/1"}  # a fraction: the value, whatever the norm
    whose = {"architecture": checkpoint.architecture, "dataset": checkpoint.dataset, "threat": threat}
    return from_dict(values | whose, source=f"recipe.{checkpoint.recipe}")


def from_dict(values: dict[str, Any], base: Recipe | None = None, *, source: str = "") -> Recipe:
    """A recipe from plain values: all of one (`base` None), or overrides of `base`.

    `threat` is a table {norm, eps}; an eps may be a fraction ("8/255").

    Raises UsageError naming an unknown field and its closest match, or a value of the wrong type.
    """
    types: dict[str, Any] = {field.name: field.type for field in fields(Recipe)}
    clean: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1, cutoff=0.0)[0]
            raise _bad(name, value, f"a field of Recipe; closest: {near}", source)
        if name == "threat":
            clean[name] = _threat(value, base, source)
        else:
            clean[name] = _typed(name, value, types[name], source)
    try:
        return replace(base, **clean) if base else Recipe(**clean)
    except TypeError as error:  # a whole recipe that lacks fields
        raise _bad("recipe", "incomplete", str(error), source) from None


def load_overrides(path: Path, base: Recipe) -> Recipe:
    """`base` with the values of a TOML file, or the whole recipe in the header of an exported .safetensors file.

    Raises UsageError when the file can not be read or names what no recipe has.
    """
    try:
        if path.suffix == ".safetensors":
            return from_dict(json.loads(read_header(path)["recipe"]), source=str(path))
        return from_dict(tomllib.loads(path.read_text(encoding="utf-8")), base, source=str(path))
    except (OSError, KeyError, ValueError) as error:  # ValueError: not TOML, not JSON, not UTF-8
        raise UsageError(
            f"cannot read a recipe from {path}",
            source=str(path),
            expected="a .toml file of recipe fields, or a .safetensors file that robust-zoo train exported",
            actual=f"{type(error).__name__}: {error}",
            next="robust-zoo recipe NAME   shows the fields",
        ) from None


def _threat(value: Any, base: Recipe | None, source: str) -> ThreatModel:
    if not isinstance(value, dict) or set(value) - {"norm", "eps"}:
        raise _bad("threat", value, 'a table such as {norm = "linf", eps = "8/255"}', source)
    norm = value.get("norm", base.threat.norm if base else None)
    eps = value.get("eps", base.threat.eps if base else None)
    if eps is None or norm is None:
        raise _bad("threat", value, "both norm and eps", source)
    return ThreatModel(norm, parse_eps(eps, norm))


def _typed(name: str, value: Any, kind: str, source: str) -> Any:
    """A value of the field's type; for a float a whole number or a fraction ("2/3") will do."""
    if kind == "float" and (type(value) is int or (type(value) is str and _FRACTION.fullmatch(value))):
        return float(Fraction(value))
    if type(value).__name__ != kind:
        raise _bad(name, value, f"a value of type {kind}", source)
    return value


def _bad(field: str, value: Any, expected: str, source: str = "") -> UsageError:
    return UsageError(
        f"no recipe has {field} = {value!r}",
        source=source,
        expected=f"{field}: {expected}",
        actual=repr(value),
        next="robust-zoo recipe NAME   shows the fields",
    )
