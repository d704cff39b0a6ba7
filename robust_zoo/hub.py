"""The same names elsewhere: as torch.hub entry points, and as timm models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint

# timm looks here for the cfgs of the functions that register_with_timm() hands to it.
default_cfgs: dict[str, Any] = {}


def entry_points(*, pretrained: bool = True) -> dict[str, Callable[..., Any]]:
    """One function per checkpoint, `name(pretrained=..., **kwargs)`; kwargs are those of create_model.

    Args:
        pretrained: What the functions' own `pretrained` is when it is not given.

    Returns:
        The functions by the checkpoints' names.
    """
    return {name: _entry_point(get(name), pretrained) for name in list_models()}


def _entry_point(checkpoint: Checkpoint, default: bool) -> Callable[..., Any]:
    def entry(pretrained: bool = default, **kwargs: Any) -> Any:
        from robust_zoo.factory import create_model

        return create_model(checkpoint.name, pretrained, **kwargs)

    entry.__name__ = entry.__qualname__ = checkpoint.name
    entry.__module__ = __name__
    clean = checkpoint.clean_accuracy
    figure = "" if clean is None else f"{clean:.2f} % clean accuracy on {checkpoint.dataset}, "
    entry.__doc__ = (
        f"{checkpoint.architecture}, {checkpoint.threat}: {figure}{checkpoint.evidence}.\n\n"
        "pretrained: load the verified weights. kwargs: those of robust_zoo.create_model and timm.create_model."
    )
    return entry


def register_with_timm() -> None:
    """Makes every checkpoint, and every architecture timm lacks, a timm model name.

    Afterwards `timm.create_model` loads the same verified weights; as everywhere in timm, pretrained defaults to False.
    A repository that `timm.models.save_for_hf` wrote of an architecture timm lacks is loaded after this call alone, for
    importing robust_zoo registers nothing. Calling it again changes nothing.

    Example:
        >>> register_with_timm()
        >>> model = timm.create_model("resnet50_l2_eps3", pretrained=True)
    """
    from timm.models import generate_default_cfgs, is_model, register_model

    from robust_zoo.architectures.build import register_architectures

    register_architectures()
    new = {name: entry for name, entry in entry_points(pretrained=False).items() if not is_model(name)}
    default_cfgs.update(generate_default_cfgs({name: _timm_cfg(get(name)) for name in new}))
    for entry in new.values():
        register_model(entry)


def _timm_cfg(checkpoint: Checkpoint) -> dict[str, Any]:
    """What timm may know of a checkpoint before it is built: preprocessing, and that there are weights (a URL)."""
    origin = checkpoint.collection.origin
    return asdict(checkpoint.preprocessing) | {"url": origin, "license": checkpoint.licence, "origin_url": origin}
