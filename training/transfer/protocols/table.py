"""The protocols by name: their settings, read from a file or by default, and how one transfer is run by each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_zoo.errors import UsageError, cannot_read, unknown
from robust_zoo.readers import read_toml
from robust_zoo.threat import ThreatModel
from robust_zoo.training import choices
from robust_zoo.training.attacks.settings import in_words
from robust_zoo.training.detection.folders import open_scenes
from robust_zoo.training.detection.scenes import DetectionTarget
from robust_zoo.training.transfer.about import About
from robust_zoo.training.transfer.cells import images_sha256
from robust_zoo.training.transfer.datasets import open_target
from robust_zoo.training.transfer.features import shrunk
from robust_zoo.training.transfer.kept import keep
from robust_zoo.training.transfer.protocols.detection import Detection, detection
from robust_zoo.training.transfer.protocols.finetune import Finetune, finetune
from robust_zoo.training.transfer.protocols.linear import Linear, linear, robust_accuracy, with_head
from robust_zoo.training.transfer.protocols.salman2020 import Salman2020, salman2020, variants
from robust_zoo.training.transfer.protocols.settings import read
from robust_zoo.training.transfer.protocols.work import Transfer
from robust_zoo.training.transfer.task import Outcome, Target
from robust_zoo.training.version import code_version

ROBUST_IMAGES = 1000  # what the robust accuracy of a transferred model is measured on


@dataclass(frozen=True)
class Protocol:
    """A row of PROTOCOLS.

    Attributes:
        settings: A frozen dataclass of JSON values, with a default for each.
        run: Of a `Transfer` and settings; its outcome.
        variants: Of settings and names of targets; the settings, then those without each quirk that matters. None for a
            protocol without quirks.
        target: What is transferred to.
        open: (name, root, workers=) -> the target of that name.
        alone: A model is trained and tested, and nothing more.
    """

    settings: type
    run: Callable[[Transfer, Any], Outcome]
    variants: Callable[[Any, Sequence[str]], list[Any]] | None = None
    target: type = Target
    open: Callable[..., Target | DetectionTarget] = open_target
    alone: bool = False

    def check(self, target: Target | DetectionTarget, threat: ThreatModel | None, *, keep: bool) -> None:
        """Raises UsageError when a target is of another kind, or more is asked for than is done."""
        asked = [word for word, given in (("--norm", threat is not None), ("--keep", keep)) if given]
        if asked and self.alone:
            raise UsageError(
                "a detector is trained and tested, and nothing more",
                source=target.name,
                expected="--protocol detection without --norm, --eps and --keep",
                actual=" and ".join(asked),
                next="docs/transfer.md, Detection   has lines that train a detector and keep it",
            )
        if not isinstance(target, self.target):
            boxes = self.target is DetectionTarget
            raise UsageError(
                f"{target.name} is not what this protocol transfers to",
                source=target.name,
                expected="images with boxes" if boxes else "images of one class each",
                actual="images of one class each" if boxes else "images with boxes",
                next="leave --suite out, and name a folder by --dataset" if boxes else "--protocol detection",
            )


def _linear(t: Transfer, settings: Linear) -> Outcome:
    outcome, head = linear(t.checkpoint, t.target, settings, cache=t.workspace.cache, **t.options)
    return _ended(outcome, t, settings, lambda: with_head(t.checkpoint, head, weights=t.weights).to(t.device))


def _finetune(t: Transfer, settings: Finetune) -> Outcome:
    outcome, model = finetune(t.checkpoint, t.target, settings, cache=t.workspace.cache, saved=t.saved, **t.options)
    return _ended(outcome, t, settings, lambda: model)


def _salman2020(t: Transfer, settings: Salman2020) -> Outcome:
    if settings.target_statistics and (t.threat is not None or t.kept is not None):
        raise UsageError(
            "robust accuracy is measured, and a model kept, behind the source's statistics",
            model=t.checkpoint.name,
            expected="target_statistics = false in --settings",
            actual="salman2020 with the target's statistics",
            next="put target_statistics = false in a file: --settings FILE.toml",
        )
    outcome, model = salman2020(t.checkpoint, t.target, settings, saved=t.saved, **t.options)
    return _ended(outcome, t, settings, lambda: model)


def _detection(t: Transfer, settings: Detection) -> Outcome:
    outcome, _ = detection(t.checkpoint, t.target, settings, saved=t.saved, **t.options)
    return outcome


def _ended(outcome: Outcome, t: Transfer, settings: Any, model: Callable[[], nn.Module]) -> Outcome:
    """With the robust accuracy of the transferred model among its details, if it is asked for; and the model kept."""
    if t.threat is None and t.kept is None:
        return outcome
    network = model()
    if t.threat is not None:
        outcome.details["robust"] = robust_accuracy(
            network,
            t.checkpoint,
            shrunk(t.target, settings.shrink).test,
            t.threat,
            n=ROBUST_IMAGES,
            progress=t.workspace.progress,
        )
    if t.kept is not None:
        keep(t.kept, network.cpu().to(memory_format=torch.contiguous_format), _about(outcome, t, settings))
    return outcome


def _about(outcome: Outcome, t: Transfer, settings: Any) -> About:
    protocol = next(name for name, row in PROTOCOLS.items() if isinstance(settings, row.settings))
    images, used = f"{t.target.name} test", outcome.details.get("n_train", len(t.target.train))
    metrics = [{"attack": "none", "correct": outcome.correct, "n": outcome.n, "data": images, "code": code_version()}]
    if robust := outcome.details.get("robust"):
        metrics.append({**robust, "data": images, "code": code_version(), "settings": in_words(robust["attack"])})
    return About(
        t.checkpoint, t.weights.sha256, t.target.name, t.target.classes, used, images_sha256(t.target),
        f"{protocol}_seed{t.seed}", ThreatModel(t.checkpoint.norm, 0.0),
        f"Transferred from {t.checkpoint.name} to {t.target.name} by robust-zoo transfer --protocol {protocol}",
        {"protocol": protocol, "settings": asdict(settings), "chosen": outcome.chosen, "seed": t.seed}, metrics,
        note=t.target.note, chosen=_in_words(outcome.chosen),
        tested=_TESTED[getattr(settings, "choose_on_test", False)],
    )  # fmt: skip


_TESTED = {False: About.tested, True: "Test images, on which the best epoch was chosen, as upstream does"}


def _in_words(chosen: Mapping[str, Any]) -> str:
    """What an outcome's settings were chosen to be, as a sentence; "" for none."""
    found = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in chosen.items())
    return f"Chosen: {found}." if found else ""


PROTOCOLS: Mapping[str, Protocol] = {
    "linear": Protocol(Linear, _linear),
    "finetune": Protocol(Finetune, _finetune),
    "salman2020": Protocol(Salman2020, _salman2020, variants),
    "detection": Protocol(Detection, _detection, target=DetectionTarget, open=open_scenes, alone=True),
}
choices.go_together("training/transfer/protocols/table.py", PROTOCOLS, choices.PROTOCOLS)


def settings_for(protocol: str, values: Mapping[str, Any]) -> Any:
    """The protocol's settings with some in place of defaults.

    Args:
        protocol: A name of PROTOCOLS.
        values: By name; JSON values.

    Returns:
        An instance of the protocol's settings.

    Raises:
        UsageError: The protocol or a name is unknown (the closest is in the error), a value is of another type, or
            may not be that.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS, next="--protocol {closest}")
    kind = PROTOCOLS[protocol].settings
    return kind(**read(kind, values))


def load_settings(protocol: str, file: Path | None) -> Any:
    """The protocol's settings with a TOML file's values in place of defaults.

    Args:
        protocol: A name of PROTOCOLS.
        file: None for defaults alone.

    Returns:
        An instance of the protocol's settings.

    Raises:
        UsageError: The file cannot be read, or what `settings_for` refuses.
    """
    if file is None:
        return settings_for(protocol, {})
    next = f"robust-zoo transfer settings {protocol} -o {protocol}.toml   writes one"
    try:
        values = read_toml(file)
    except (OSError, ValueError) as error:
        raise cannot_read(f"settings from {file}", file, "a .toml file", str(error), next) from None
    return settings_for(protocol, values)
