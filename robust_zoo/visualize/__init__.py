"""What a network sees: images changed until it says what it is asked for. Names load when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "Search": "kinds",
    "as_pictures": "input_gradients",
    "gradients": "input_gradients",
    "interpolate": "changes",
    "invert": "changes",
    "maximise": "changes",
    "more_like": "changes",
    "see": "sheets",
    "synthesise": "changes",
}
__all__ = [*_EXPORTS]

if TYPE_CHECKING:
    from robust_zoo.visualize.changes import interpolate, invert, maximise, more_like, synthesise
    from robust_zoo.visualize.input_gradients import as_pictures, gradients
    from robust_zoo.visualize.kinds import Search
    from robust_zoo.visualize.sheets import see


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
