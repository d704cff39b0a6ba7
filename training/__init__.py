"""Adversarial training, robust evaluation and transfer; shipped as `robust_zoo.training`. Names load when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {  # name -> the module that has it, and what it is called there where that differs
    "EvaluationPlan": "evaluation.run",
    "Machine": "machine",
    "Recipe": "recipes",
    "TransferPlan": "transfer.sweep",
    "Workspace": "transfer.protocols.work",
    "apgd": "attacks.apgd",
    "attack_each": "evaluation.attack_images",
    "attack_images": "evaluation.attack_images",
    "cifar10_sample": "data.cifar10_sample",
    "evaluate": "evaluation.run",
    "fab_targeted": "attacks.fab",
    "pgd": "attacks.pgd",
    "pgd_accuracy": "attacks.accuracy",
    "recipe_for": "recipes",
    "recommend": "transfer.recommend",
    "square": "attacks.square",
    "train": "run",
    "transfer_models": "transfer.sweep:transfer",
}
__all__ = [*_EXPORTS]

if TYPE_CHECKING:
    from robust_zoo.training.attacks.accuracy import pgd_accuracy
    from robust_zoo.training.attacks.apgd import apgd
    from robust_zoo.training.attacks.fab import fab_targeted
    from robust_zoo.training.attacks.pgd import pgd
    from robust_zoo.training.attacks.square import square
    from robust_zoo.training.data.cifar10_sample import cifar10_sample
    from robust_zoo.training.evaluation.attack_images import attack_each, attack_images
    from robust_zoo.training.evaluation.run import EvaluationPlan, evaluate
    from robust_zoo.training.machine import Machine
    from robust_zoo.training.recipes import Recipe, recipe_for
    from robust_zoo.training.run import train
    from robust_zoo.training.transfer.protocols.work import Workspace
    from robust_zoo.training.transfer.recommend import recommend
    from robust_zoo.training.transfer.sweep import TransferPlan
    from robust_zoo.training.transfer.sweep import transfer as transfer_models


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, called = _EXPORTS[name].partition(":")
    value = getattr(import_module(f"{__name__}.{module}"), called or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
