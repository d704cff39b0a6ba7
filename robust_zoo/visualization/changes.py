"""What images become: classes out of noise, images with the features of others, one feature at its most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robust_zoo.errors import UsageError
from robust_zoo.visualization.engine import BATCH_SIZE, CLASS, FEATURES, ONE_FEATURE, change, noise
from robust_zoo.visualization.kinds import Search, search_for
from robust_zoo.visualization.models import Features, Model, Subject, subject


def synthesise(
    model: Model,
    classes: Sequence[int | str] | Tensor,
    *,
    images: Tensor | None = None,
    search: Search | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: str = "",
) -> Tensor:
    """Draws what a model takes for a class: noise, changed until the class is certain (Santurkar et al. 2019).

    It is PGD in L2 towards the class, on the cross-entropy, in a large ball around the start. The paper begins at a
    sample of a Gaussian of the class's training images; this begins at grey noise, which knows of no image.

    Args:
        model: A checkpoint's name, a file that robust-zoo wrote, or a model of [0, 1] images or timm's.
        classes: One for each picture: numbers, or names where the model is named.
        images: (N, C, H, W) float in [0, 1], where to begin instead of at noise; one for each class.
        search: Else that of the paper for images of this size.
        seed: Of the noise. A picture depends on it and on its place, not on the others.
        batch_size: Pictures at once.
        progress: The label of a bar on stderr.

    Returns:
        (N, C, H, W) in [0, 1], on the CPU.

    Raises:
        UsageError: A class that the model does not have, images of another number or not in [0, 1].
        UnknownCheckpoint: No checkpoint has that name.

    Example:
        >>> pictures = synthesise("resnet50_l2_eps3", ["goldfish", "tabby"])
    """
    of = subject(model)
    labels = of.labels(classes)
    starts = _starts(images, len(labels), of, seed)
    search = search or search_for("synthesis", starts.shape[-1])
    return change(of.pixels, starts, labels, CLASS, search, batch_size=batch_size, progress=progress)


def more_like(
    model: Model,
    images: Tensor,
    classes: Sequence[int | str] | Tensor,
    *,
    search: Search | None = None,
    batch_size: int = BATCH_SIZE,
    progress: str = "",
) -> Tensor:
    """Makes images more like classes: what would have to change in them (Engstrom et al. 2019; Santurkar et al. 2019).

    Args:
        model: As for `synthesise`.
        images: (N, C, H, W) float in [0, 1], of the size that the model takes.
        classes: One for each image, as for `synthesise`.
        search: Else what changes an image of this size visibly.
        batch_size: Images at once.
        progress: The label of a bar on stderr.

    Returns:
        (N, C, H, W) in [0, 1], on the CPU.

    Raises:
        ZooError: As `synthesise`.
    """
    search = search or search_for("more-like", images.shape[-1])
    return synthesise(model, classes, images=images, search=search, batch_size=batch_size, progress=progress)


def maximise(
    model: Model,
    features: Sequence[int],
    *,
    images: Tensor | None = None,
    search: Search | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: str = "",
) -> Tensor:
    """Draws what excites single features most, those that the last layer is given (Engstrom et al. 2019, section 4.2).

    Args:
        model: As for `synthesise`, timm's.
        features: The number of a feature for each picture, from 0.
        images: (N, C, H, W) float in [0, 1], where to begin instead of at noise.
        search: Else as for `synthesise`.
        seed: Of the noise.
        batch_size: Pictures at once.
        progress: The label of a bar on stderr.

    Returns:
        (N, C, H, W) in [0, 1], on the CPU.

    Raises:
        ZooError: As `synthesise`; a UsageError for a model without such a feature.
    """
    of, wanted = subject(model), torch.as_tensor(features, dtype=torch.int64)
    starts = _starts(images, len(wanted), of, seed)
    count = of.features(starts[:1]).shape[1]
    if not ((wanted >= 0) & (wanted < count)).all():
        raise UsageError(
            "there is no such feature", expected=f"0 to {count - 1}", actual=str(wanted.tolist()), next="features=[0]"
        )
    search = search or search_for("feature", starts.shape[-1])
    model = Features(of.pixels)
    return change(model, starts, wanted, ONE_FEATURE, search, batch_size=batch_size, progress=progress)


def invert(
    model: Model,
    images: Tensor,
    *,
    starts: Tensor | None = None,
    search: Search | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: str = "",
) -> Tensor:
    """Looks for images with the features of others: what a model keeps of them (Engstrom et al. 2019, section 4.1).

    Args:
        model: As for `synthesise`, timm's.
        images: (N, C, H, W) float in [0, 1], whose features are wanted.
        starts: (N, C, H, W) float in [0, 1], where to begin instead of at noise.
        search: Else any distance, in as many steps as lead there.
        seed: Of the noise.
        batch_size: Images at once.
        progress: The label of a bar on stderr.

    Returns:
        (N, C, H, W) in [0, 1], on the CPU.

    Raises:
        ZooError: As `maximise`.
    """
    of = subject(model)
    starts = noise(len(images), images.shape[1:], seed) if starts is None else _images(starts, len(images))
    search = search or search_for("inversion", images.shape[-1])
    targets, model = of.features(images, batch_size), Features(of.pixels)
    return change(model, starts, targets, FEATURES, search, batch_size=batch_size, progress=progress)


def interpolate(
    model: Model,
    images: Tensor,
    others: Tensor,
    *,
    count: int = 8,
    search: Search | None = None,
    batch_size: int = BATCH_SIZE,
    progress: str = "",
) -> Tensor:
    """Goes from images to others on a straight line in feature space (Engstrom et al. 2019, section 4.3).

    Args:
        model: As for `synthesise`, timm's.
        images: (N, C, H, W) float in [0, 1], where the ways begin.
        others: (N, C, H, W) float in [0, 1], towards whose features they lead.
        count: Images on each way; the k-th of them is looked for, beginning at the image, at k / (count + 1) of it.
        search: Else any distance, in as many steps as lead there.
        batch_size: Images at once.
        progress: The label of a bar on stderr.

    Returns:
        (N, count, C, H, W) in [0, 1], on the CPU: what lies between, the ends left out.

    Raises:
        ZooError: As `maximise`.
    """
    of, others = subject(model), _images(others, len(images))
    first, last = of.features(images, batch_size), of.features(others, batch_size)
    share = (torch.arange(1, count + 1) / (count + 1)).to(first).view(1, -1, 1)
    targets = (first[:, None] + share * (last - first)[:, None]).flatten(0, 1)
    search = search or search_for("interpolation", images.shape[-1])
    starts, model = images.repeat_interleave(count, dim=0), Features(of.pixels)
    found = change(model, starts, targets, FEATURES, search, batch_size=batch_size, progress=progress)
    return found.unflatten(0, (len(images), count))


def _starts(images: Tensor | None, count: int, of: Subject, seed: int) -> Tensor:
    return noise(count, of.shape, seed) if images is None else _images(images, count)


def _images(images: Tensor, count: int) -> Tensor:
    if len(images) != count or not count:
        raise UsageError(
            "not one image for each",
            expected=f"{count} images (N, C, H, W)" if count else "an image or more",
            actual=f"{len(images)}",
            next="give as many images as there are classes, features or others",
        )
    return images
