"""How a checkpoint's network behaves: its fingerprint, computed and compared with the row's.

A hash proves bytes. What no file holds (an activation, an epsilon of LayerNorm, which of two sets of weights was meant)
shows in the logits alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torchvision.transforms.v2 import functional as F

from robust_zoo.errors import VerificationFailed
from robust_zoo.factory import create_model
from robust_zoo.registry.fingerprint import Fingerprint, Response
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.cifar10_sample import cifar10_classes, cifar10_sample
from robust_zoo.views import transform
from robust_zoo.weights.ensure import Weights

IMAGES = 8  # the first CIFAR-10 test image of each of the first so many classes


def fingerprint_of(
    checkpoint: Checkpoint,
    weights: Weights,
    *,
    images: int = IMAGES,
    bar: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Fingerprint:
    """What a checkpoint's network says of the bundled images, as its own preprocessing brings them to its input size.

    In float64 on the CPU, in eval mode, one image at a time: the numbers differ by rounding alone from one machine to
    another. A ResNet-50 takes seconds, the largest models minutes and four times the memory of their file.

    Args:
        checkpoint: The row: architecture, preprocessing.
        weights: Its verified weights.
        images: How many.
        bar: Wraps the images, to show how far it is.

    Returns:
        The fingerprint.

    Raises:
        VerificationFailed: The weights are not this architecture's.
    """
    model = create_model(checkpoint, weights=weights, dtype=torch.float64).eval()
    prepare, sample = transform(checkpoint), cifar10_sample(per_class=1).images[:images]
    responses = []
    with torch.inference_mode():
        for image in bar(sample):
            logits = model(prepare(F.to_pil_image(image))[None].to(torch.float64))[0]
            responses.append(Response.of(logits.tolist()))
    return Fingerprint(tuple(responses))


def check(checkpoint: Checkpoint, recorded: Fingerprint, found: Fingerprint, weights: Weights) -> None:
    """That a network behaves as its row records.

    Args:
        checkpoint: The row.
        recorded: Its fingerprint.
        found: What was computed.
        weights: Of what.

    Raises:
        VerificationFailed: It does not; the error names the first image, and what the likely causes are.
    """
    if (first := recorded.first_other(found)) is None:
        return
    image = f"image {first + 1} of {len(recorded.responses)} ({cifar10_classes()[first]})"
    raise VerificationFailed(
        f"{checkpoint.name}: these weights load, and behave otherwise than recorded",
        model=f"{checkpoint.name} ({weights.path.name})",
        source=str(weights.path),
        expected=f"{image}: {recorded.responses[first]}",
        actual=f"{image}: {found.responses[first]}",
        next="compare its row with the authors' code; likely causes: the activation (GELU, ReLU), an epsilon of "
        "LayerNorm, averaged weights (EMA) instead of raw ones, the order of the classes, the preprocessing; "
        f"robust-zoo info {checkpoint.name}   shows the row",
    )
