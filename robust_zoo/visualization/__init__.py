"""What a network sees: images changed until it says what it is asked for. Names load when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "Search": "kinds",
    "as_pictures": "saliency",
    "gradients": "saliency",
    "interpolate": "changes",
    "invert": "changes",
    "maximise": "changes",
    "more_like": "changes",
    "synthesise": "changes",
}
__all__ = [*_EXPORTS]

if TYPE_CHECKING:
    from robust_zoo.visualization.changes import interpolate, invert, maximise, more_like, synthesise
    from robust_zoo.visualization.kinds import Search
    from robust_zoo.visualization.saliency import as_pictures, gradients


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
