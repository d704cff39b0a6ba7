"""Before any socket is opened: a process with timm alone loads the folder, and its network gives what ours gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torchvision.transforms.v2 import functional as F

from robust_zoo.errors import VerificationFailed
from robust_zoo.factory import create_model
from robust_zoo.publishing import stranger
from robust_zoo.publishing.folder import Folder
from robust_zoo.registry.load import load_registry
from robust_zoo.text import printable
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.views import transform
from robust_zoo.weights.contained import import_path

IMAGES = 2  # bundled ones: as PNG files, so that timm's own transform is a part of what is compared
TIME_LIMIT = 1800  # seconds; the largest network takes some of them on one core


def rehearse(folder: Folder, out: Path) -> None:
    """That the folder is what it says, for whoever loads it without this package.

    timm's `local-dir:` reads it, in a process where robust_zoo is not imported; for networks that plain timm does not
    build, where it was asked to `register_with_timm()` first. Images, transform and network are timm's own, and the
    numbers that come out must be ours, bit for bit.

    Args:
        folder: What was written.
        out: Where.

    Raises:
        VerificationFailed: It does not load, or gives something else.
    """
    with TemporaryDirectory(prefix="robust-zoo-") as scratch:
        images = _images(Path(scratch))
        ours = _ours(folder)
        request = {
            "path": import_path(),
            "folder": str(out.absolute()),
            "register": not folder.checkpoint.network.plain_timm,
            "images": [str(path) for path in images],
            "threads": torch.get_num_threads(),
        }
        theirs = _asked(request, folder, out)
    if theirs != ours:
        raise _failed(folder, out, f"{_shown(ours)}, as robust_zoo computes", _shown(theirs))


def _images(scratch: Path) -> list[Path]:
    paths = [scratch / f"{number}.png" for number in range(IMAGES)]
    for path, image in zip(paths, cifar10_sample(per_class=1).images, strict=False):
        F.to_pil_image(image).save(path)
    return paths


def _ours(folder: Folder) -> list[list[float]]:
    """What robust_zoo's own model gives."""
    model = create_model(folder.checkpoint, weights=folder.weights).eval()
    # In storage of their own, as timm's: where tensors begin at other addresses, kernels add in another order.
    model.load_state_dict({key: tensor.clone() for key, tensor in model.state_dict().items()}, assign=True)
    prepare = transform(folder.checkpoint)
    sample = cifar10_sample(per_class=1).images[:IMAGES]
    with torch.inference_mode():
        return [model(prepare(F.to_pil_image(image))[None])[0].tolist() for image in sample]


def _asked(request: dict[str, Any], folder: Folder, out: Path) -> list[list[float]]:
    """What the other process says."""
    try:
        child = subprocess.run(
            [sys.executable, "-I", stranger.__file__],
            cwd=Path(sys.executable).anchor,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise _failed(folder, out, f"an answer within {TIME_LIMIT} s", "none yet") from None
    if child.returncode:
        said = (child.stderr.strip().splitlines() or [f"exit {child.returncode}"])[-1]
        raise _failed(folder, out, "that it loads", printable(said, limit=600))
    return json.loads(child.stdout.splitlines()[-1])["gives"]


def _shown(gives: list[list[float]]) -> str:
    first = ", ".join(f"{number:.6g}" for number in gives[0][:3]) if gives else ""
    return f"{len(gives)} x {len(gives[0]) if gives else 0} numbers: {first}, ..."


def _failed(folder: Folder, out: Path, expected: str, actual: str) -> VerificationFailed:
    name, network = folder.checkpoint.name, folder.checkpoint.network
    who = "timm alone" if network.plain_timm else "timm, told of our networks by register_with_timm()"
    return VerificationFailed(
        f"{name}: {who} does not make the same network of the folder; nothing was sent",
        model=f"{name} ({network.published[0]})",
        source=str(out),
        expected=expected,
        actual=actual,
        next=f"correct plain_timm and plain_arguments of [architecture.{network.name}] in the registry"
        if network.name in load_registry().architectures
        else f"{network.name} has no row of its own in the registry: give it one, [architecture.{network.name}]",
    )
