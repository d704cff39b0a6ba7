"""create_model: a name -> the checkpoint -> verified weights -> a timm model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from robust_zoo.architectures.buffers import compute_buffers
from robust_zoo.architectures.build import build, default_cfg
from robust_zoo.errors import NewHeadWarning, UnknownCheckpoint, UsageError, VerificationFailed
from robust_zoo.files import copy_of
from robust_zoo.normalisation import say_channels
from robust_zoo.registry.formats import Architecture
from robust_zoo.registry.lookup import get_architecture
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights import own
from robust_zoo.weights.ensure import Weights, ensure, is_present
from robust_zoo.weights.exported import checkpoint_of
from robust_zoo.weights.safetensors_file import tensors_of


def create_model(
    model_name: str | Checkpoint,
    pretrained: bool = True,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    checkpoint_path: str | Path | None = None,
    cache_dir: str | Path | None = None,
    *,
    checkpoint_ema: bool | None = None,
    weights: Weights | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    features_only: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    map_location: torch.device | str | None = None,
    progress: bool = True,
    **timm_kwargs: Any,
) -> nn.Module:
    """A timm model with the verified weights of a checkpoint; a drop-in for `timm.create_model`.

    The model takes normalised images (B, C, H, W), as every timm model; `model.pretrained_cfg` carries the
    checkpoint's own preprocessing, and `robust_zoo.pixel_model(model)` makes it take [0, 1] images.

    Args:
        model_name: A checkpoint by any spelling of its name ("resnet50_l2_eps3"), the path of a file that robust-zoo
            wrote, or an architecture ("resnet50") when `checkpoint_path` is given or `pretrained` is False.
        pretrained: Load the checkpoint's weights. True here, for the name means weights; timm's default is False.
        pretrained_cfg: Replaces the checkpoint's pretrained_cfg: a dict or timm PretrainedCfg.
        pretrained_cfg_overlay: Overrides entries of the pretrained_cfg.
        checkpoint_path: Load this file instead, in any usual layout; its head and statistics are read from it. An
            OwnFileWarning says what was chosen, converted to float32 or left out.
        cache_dir: Instead of ROBUST_ZOO_CACHE or the platform's user cache.
        checkpoint_ema: Of two sets in the file the averaged one (EMA), or the raw one; None: EMA, with a warning.
        weights: What `robust_zoo.weights.ensure.ensure` verified, for many models of one checkpoint; the model gets a
            copy.
        num_classes: When it differs from the checkpoint's, the head starts at random, and a NewHeadWarning says that
            robustness figures no longer apply. 0 removes the head.
        in_chans: When it differs from the checkpoint's, the first convolution is adapted as timm does, with the same
            warning; the `input_size`, `mean` and `std` of its pretrained_cfg follow.
        features_only: Feature maps instead of logits, as in timm.
        device: Where the model ends up.
        dtype: In which floating-point type.
        map_location: As `device`: torch.hub's word for it.
        progress: Show a bar on stderr while downloading.
        **timm_kwargs: As in timm: out_indices, global_pool, drop_rate, ...

    Returns:
        The model, in training mode as timm's are.

    Raises:
        UnknownCheckpoint: No checkpoint or architecture of that name; the three closest names are in the error.
        UsageError: `weights` of another checkpoint, a tag as `pretrained_cfg`, no file at `checkpoint_path`, or a
            `map_location` that is no device, or another than `device`.
        VerificationFailed: The weights are not the ones promised.
        Unavailable: No source could serve the file.
        Refused: The file is unsafe or malformed.
        StorageError: The disk refused.

    Example:
        >>> model = create_model("resnet50_l2_eps3").eval()
    """
    device = _device(device, map_location)
    checkpoint, network = _resolve(model_name, needs_checkpoint=pretrained and not checkpoint_path)
    cfg = _pretrained_cfg(network, checkpoint, pretrained_cfg)
    state: Callable[[], dict[str, Tensor]] | None = None
    if checkpoint_path:
        whole = num_classes is None and not features_only
        content, found = own.load(Path(checkpoint_path), network, cache_dir, ema=checkpoint_ema, needs_head=whole)
        cfg |= found
        state = partial(tensors_of, content, Path(checkpoint_path))
    elif pretrained and checkpoint:
        state = _state_of(checkpoint, weights, cache_dir, progress)
    changes = {"num_classes": num_classes, "in_chans": in_chans}
    kwargs = dict(network.arguments) | {k: v for k, v in (timm_kwargs | changes).items() if v is not None}
    if features_only:
        kwargs["features_only"] = True
    kwargs |= {"pretrained_cfg": cfg, "pretrained_cfg_overlay": pretrained_cfg_overlay}
    if state is None:
        model = build(network.timm, **kwargs)
    elif features_only or _warn_of_changes(checkpoint.name if checkpoint else network.name, cfg, num_classes, in_chans):
        model = _build_adapted(network, state(), kwargs)
    else:
        model = _build_exact(network, checkpoint.name if checkpoint else network.name, state, kwargs)
    if in_chans is not None:
        say_channels(model.pretrained_cfg, in_chans)
    return model.to(device=device, dtype=dtype)


def _device(device: torch.device | str | None, map_location: Any) -> torch.device | str | None:
    """Where the model ends up, by either word. Raises UsageError when they differ, or it is none."""
    if map_location is None or (device is not None and torch.device(device) == map_location):
        return device
    if device is not None or not isinstance(map_location, torch.device | str):
        raise UsageError(
            "where should the model end up?",
            expected="one device, as map_location= or as device=",
            actual=f"map_location={map_location!r}, device={device!r}",
            next='device="cpu"',
        )
    return map_location


def _resolve(name: str | Checkpoint, *, needs_checkpoint: bool) -> tuple[Checkpoint | None, Architecture]:
    try:
        return (checkpoint := checkpoint_of(name)), checkpoint.network
    except UnknownCheckpoint:
        if needs_checkpoint:
            raise
        return None, get_architecture(str(name))


def _pretrained_cfg(network: Architecture, checkpoint: Checkpoint | None, given: Any) -> dict[str, Any]:
    """The architecture's cfg (first convolution, classifier) under the preprocessing; no address of weights."""
    if isinstance(given, str):
        raise UsageError(
            f"pretrained_cfg={given!r}: a tag names other weights than the checkpoint's",
            expected="a dict or timm PretrainedCfg",
            actual=repr(given),
            next="timm.create_model takes timm's tags; robust_zoo.list_models() lists the weights here",
        )
    if given:
        return dict(given if isinstance(given, dict) else given.to_dict())
    return default_cfg(network.timm) | {"architecture": network.timm} | (checkpoint.timm_cfg if checkpoint else {})


def _warn_of_changes(name: str, cfg: dict[str, Any], num_classes: int | None, in_chans: int | None) -> bool:
    """Whether the model differs from the weights in its head or first layer; warns when something starts at random."""
    head = num_classes is not None and num_classes != cfg["num_classes"]
    stem = in_chans is not None and in_chans != cfg["input_size"][0]
    if head and num_classes:
        warnings.warn(
            f"{name}: the head for {num_classes} classes starts at random (the checkpoint has {cfg['num_classes']}); "
            "robustness figures of the checkpoint do not apply",
            NewHeadWarning,
            stacklevel=3,
        )
    if stem:
        warnings.warn(
            f"{name}: the first convolution was adapted to {in_chans} channels; "
            "robustness figures of the checkpoint do not apply",
            NewHeadWarning,
            stacklevel=3,
        )
    return head or stem


def _state_of(
    checkpoint: Checkpoint, weights: Weights | None, cache_dir: str | Path | None, progress: bool
) -> Callable[[], dict[str, Tensor]]:
    """The checkpoint's tensors, when asked for; a file that is here is read and hashed while the network is built."""
    if weights is not None:  # which others will use too: a model owns its tensors, so it gets a copy
        _check_travelled(weights, checkpoint)
        return lambda: tensors_of(copy_of(weights.content), weights.path)
    if not is_present(checkpoint, cache_dir):  # fetched in this thread, where Ctrl-C ends it
        fetched = ensure(checkpoint, cache_dir=cache_dir, progress=progress)
        return lambda: tensors_of(fetched.content, fetched.path)
    pool = ThreadPoolExecutor(1)
    reading = pool.submit(ensure, checkpoint, cache_dir=cache_dir, progress=progress)
    pool.shutdown(wait=False)
    return lambda: tensors_of(reading.result().content, reading.result().path)


def _check_travelled(weights: Weights, checkpoint: Checkpoint) -> None:
    """Raises UsageError when given weights are those of another checkpoint."""
    name = weights.header.get("name") if isinstance(weights, Weights) else repr(weights)
    if name != checkpoint.name:
        raise UsageError(
            f"these are not the weights of {checkpoint.name}",
            model=checkpoint.name,
            source=str(getattr(weights, "path", "the argument weights=")),
            expected=f"weights=ensure({checkpoint.name!r})",
            actual=f"weights of {name}",
            next=f"robust_zoo.create_model({checkpoint.name!r})   loads its own",
        )


def _build_exact(
    network: Architecture, name: str, state_of: Callable[[], dict[str, Tensor]], kwargs: dict[str, Any]
) -> nn.Module:
    """Nothing to adapt: a model without storage takes the file's tensors as they are, nothing is initialised twice."""
    with torch.device("meta"):
        model = build(network.timm, **kwargs)
    state = state_of()
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:  # a hash that fits does not make them this architecture's
        raise VerificationFailed(
            f"{name}: not the tensors of {network.name}",
            model=name,
            source="weights in a cache, which robust-zoo info shows",
            expected=f"every tensor of {network.name} in its shape, and no other",
            actual="; ".join(line.strip() for line in str(error).splitlines()[1:4])[:400],
            next=f"delete that file, and then: robust-zoo download {name}",
        ) from None
    if not compute_buffers(model):
        model = build(network.timm, **kwargs)
        model.load_state_dict(state, strict=True, assign=True)
    return model


def _build_adapted(network: Architecture, state: dict[str, Tensor], kwargs: dict[str, Any]) -> nn.Module:
    """Another head, other channels or features only: timm's own loading adapts a state dict that it is handed."""
    cfg = kwargs["pretrained_cfg"] | {"state_dict": state}
    model = build(network.timm, **kwargs | {"pretrained": True, "pretrained_cfg": cfg})
    cast(dict[str, Any], model.pretrained_cfg).pop("state_dict", None)
    return model
