"""The protocols by name: their settings, read from a file or by default, and how one transfer is run by each."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_zoo.errors import UsageError, cannot_read, closest, unknown
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.transfer.protocols.finetune import Finetune, finetune
from robust_zoo.training.transfer.protocols.linear import Linear, linear, robust_accuracy, with_head
from robust_zoo.training.transfer.protocols.salman2020 import Salman2020, salman2020
from robust_zoo.training.transfer.task import Outcome, Target
from robust_zoo.weights.ensure import Weights

ROBUST_IMAGES = 1000  # what the robust accuracy of a transferred model is measured on
_HELP = "robust-zoo transfer --help"


@dataclass(frozen=True)
class Workspace:
    """Where the work is done; nothing here changes a result.

    out: of cells. cache: of features. device: "auto", "cpu", "cuda" or "cuda:N". jobs: processes.
    """

    out: Path
    cache: Path
    device: str = "auto"
    jobs: int = 1
    progress: bool = True


@dataclass(frozen=True)
class Transfer:
    """One transfer, but for its protocol.

    threat: also measure the PGD-20 accuracy of the transferred model under it. device: what workspace.device is here.
    """

    checkpoint: Checkpoint
    weights: Weights
    target: Target
    seed: int
    threat: ThreatModel | None
    workspace: Workspace
    device: torch.device


@dataclass(frozen=True)
class Protocol:
    """A row of PROTOCOLS. settings: a frozen dataclass of JSON values. run(transfer, settings) -> its outcome."""

    settings: type
    run: Callable[[Transfer, Any], Outcome]
    about: str


def _linear(t: Transfer, settings: Linear) -> Outcome:
    outcome, head = linear(
        t.checkpoint,
        t.target,
        settings,
        weights=t.weights,
        cache=t.workspace.cache,
        seed=t.seed,
        device=t.device,
        progress=t.workspace.progress,
    )
    return _attacked(outcome, t, lambda: with_head(t.checkpoint, head, weights=t.weights).to(t.device))


def _finetune(t: Transfer, settings: Finetune) -> Outcome:
    outcome, model = finetune(
        t.checkpoint,
        t.target,
        settings,
        weights=t.weights,
        cache=t.workspace.cache,
        seed=t.seed,
        device=t.device,
        progress=t.workspace.progress,
    )
    return _attacked(outcome, t, lambda: model)


def _salman2020(t: Transfer, settings: Salman2020) -> Outcome:
    if t.threat is not None and settings.target_statistics:
        raise UsageError(
            "robust accuracy is measured behind the source's statistics",
            model=t.checkpoint.name,
            expected="target_statistics = false in --settings",
            actual="salman2020 with the target's statistics",
        )
    outcome, model = salman2020(
        t.checkpoint, t.target, settings, weights=t.weights, seed=t.seed, device=t.device, progress=t.workspace.progress
    )
    return _attacked(outcome, t, lambda: model)


def _attacked(outcome: Outcome, t: Transfer, model: Callable[[], nn.Module]) -> Outcome:
    """With the robust accuracy of the transferred model among its details, if it is asked for."""
    if t.threat is not None:
        outcome.details["robust"] = robust_accuracy(
            model(), t.checkpoint, t.target.test, t.threat, n=ROBUST_IMAGES, progress=t.workspace.progress
        )
    return outcome


PROTOCOLS: Mapping[str, Protocol] = {
    "linear": Protocol(Linear, _linear, "logistic regression on cached features, chosen on validation images"),
    "finetune": Protocol(Finetune, _finetune, "training all or a part of the network, chosen on validation images"),
    "salman2020": Protocol(Salman2020, _salman2020, "as the paper, quirks included"),
}


def settings_for(protocol: str, values: Mapping[str, Any]) -> Any:
    """The protocol's settings with `values` in place of defaults.

    Raises UsageError for an unknown protocol or field, naming the closest, and for a value of another type.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS, next="--protocol {closest}")
    kind = PROTOCOLS[protocol].settings
    default = kind()
    known = [f.name for f in fields(kind)]
    for name, value in values.items():
        wanted = getattr(default, name, None)
        if name not in known:
            raise UsageError(
                f"{protocol} has no setting {name!r}",
                expected=f"one of {', '.join(known)}; closest: {closest(name, known)[0]}",
                actual=f"{name} = {value!r}",
                next=_HELP,
            )
        if (
            wanted is not None
            and type(value) is not type(wanted)
            and not (type(wanted) is float and type(value) is int)
        ):
            raise UsageError(
                f"{name} = {value!r} is of another type",
                expected=f"a {type(wanted).__name__}, e.g. {wanted!r}",
                actual=type(value).__name__,
                next=_HELP,
            )
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def load_settings(protocol: str, file: Path | None) -> Any:
    """The protocol's settings with a TOML file's values in place of defaults; `settings_for`'s errors."""
    if file is None:
        return settings_for(protocol, {})
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise cannot_read(f"settings from {file}", file, "a .toml file", str(error), _HELP) from None
    return settings_for(protocol, values)
