"""Adversarially robust ImageNet weights, verified, as timm models. Names are loaded when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
"""Of the package, as `robust-zoo --version` prints it."""

_EXPORTS = {
    "Checkpoint": "registry.rows",
    "ThreatModel": "threat",
    "ZooError": "errors",
    "create_model": "factory",
    "detection_backbone": "training.detection.backbone",
    "finetune": "training.transfer.tuning.run",
    "get": "registry.lookup",
    "list_models": "registry.lookup",
    "pixel_model": "pixels",
    "register_with_timm": "hub",
    "transform": "views",
    "visualize": "visualization.sheets",
}
__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from robust_zoo.errors import ZooError
    from robust_zoo.factory import create_model
    from robust_zoo.hub import register_with_timm
    from robust_zoo.pixels import pixel_model
    from robust_zoo.registry.lookup import get, list_models
    from robust_zoo.registry.rows import Checkpoint
    from robust_zoo.threat import ThreatModel
    from robust_zoo.training.detection.backbone import detection_backbone
    from robust_zoo.training.transfer.tuning.run import finetune
    from robust_zoo.views import transform
    from robust_zoo.visualization.sheets import visualize


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
