"""Features of a model without its head, extracted once and kept on disk for every head that is trained on them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from robust_zoo.architectures.batch_norm import adapt
from robust_zoo.errors import damaged
from robust_zoo.factory import create_model
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.families import Preprocessing
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.data.dataset import Batches, Dataset, Images
from robust_zoo.training.data.encoded import EncodedImages
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.transfer.feature_files import kept, store
from robust_zoo.training.transfer.task import Target
from robust_zoo.views import View
from robust_zoo.weights.ensure import Weights, ensure

_FORMAT = 3  # of the cache: raised when the same settings come to mean other features
CPU = torch.device("cpu")


def as_files(data: Dataset, view: View) -> ImageFiles:
    """Any dataset with ImageNet's transforms: random resized crops and flips to train on, a centre crop to test.

    Args:
        data: Images in memory or files.
        view: What of an image is tested on, and the size of the crops.

    Returns:
        The same images, in the same order, as files; shrunk ones stay so.
    """
    if isinstance(data, Images):
        names = [str(i) for i in range(len(data))]
        data = ImageFiles(EncodedImages(names, [0] * len(names), data.labels, (), partial(_encoded, data.images)))
    assert isinstance(data, ImageFiles)
    return replace(data, view=view, augment="crop_flip")


def shrunk(target: Target, side: int) -> Target:
    """A target without its finer grain (Salman et al. 2020, section 4.3).

    Args:
        target: What is transferred to.
        side: The shorter side, in pixels, that every image is brought to before anything else; 0 for none.

    Returns:
        The same images, so; 0 gives `target`.
    """
    if not side:
        return target
    splits = {"train": target.train, "val": target.val, "test": target.test}
    small = {split: data and replace(as_files(data, View()), shrink=side) for split, data in splits.items()}
    return replace(target, **small)  # type: ignore[arg-type]


def _encoded(images: Tensor, index: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(images[index].permute(1, 2, 0).numpy()).save(out, "PNG", compress_level=0)
    return out.getvalue()


def batches_for(data: Dataset, preprocessing: Preprocessing, size: int, *, view: int = 0, seed: int = 0) -> Batches:
    """Every image in order, as a model of that preprocessing takes it.

    Args:
        data: The images.
        preprocessing: Of the checkpoint.
        size: Images per batch.
        view: 0 is the image (shorter side resized, centre crop), 1 its mirror image, 2 and up are random crops and
            flips, another for each (seed, view, index).
        seed: Of the random views.

    Yields:
        Images (B, 3, S, S) in [0, 1], and labels (B,).
    """
    side = preprocessing.input_size[1]
    if not (isinstance(data, Images) and data.images.shape[-2:] == (side, side)):
        data = as_files(data, View.of(preprocessing))
    indices = [index for index in torch.arange(len(data)).split(size) if len(index)]
    loaded = data.train_batches(indices, seed=seed, epoch=view, device=CPU) if view > 1 else data.batches(size)
    for images, labels in loaded:
        yield (images.flip(-1) if view == 1 else images), labels


def read_through(data: Dataset, preprocessing: Preprocessing) -> None:
    """Decodes every image of files once, so that a damaged one is known before what it would be wasted on.

    Args:
        data: The images; those in memory are sound.
        preprocessing: Of the checkpoint.

    Raises:
        VerificationFailed: A file cannot be decoded; the error names it.
    """
    if not isinstance(data, Images):
        for _ in batches_for(data, preprocessing, 250):
            pass


@dataclass(frozen=True)
class Backbone:
    """A checkpoint's network without its head, in eval mode: [0, 1] images -> (B, D) pooled features.

    Attributes:
        checkpoint: Whose network it is.
        device: Where the network is.
        adapt: BatchNorm statistics are those of these images instead of the source's (Li et al. 2017, AdaBN).
        bf16: Autocast; features are float32 either way.
        weights: Verified already; the checkpoint's when None.
    """

    checkpoint: Checkpoint
    device: torch.device = CPU
    adapt: Dataset | None = None
    bf16: bool = False
    weights: Weights | None = None

    @cached_property
    def verified(self) -> Weights:
        """The weights that were given, or the checkpoint's."""
        return self.weights or ensure(self.checkpoint)

    @property
    def key(self) -> dict[str, object]:
        """What the features depend on, but for the images."""
        return {
            "weights": self.verified.sha256,
            "preprocessing": asdict(self.checkpoint.preprocessing),
            "bn": self.adapt.sha256 if self.adapt is not None else "source",
            "bf16": self.bf16,
            "format": _FORMAT,
        }

    @cached_property
    def model(self) -> nn.Module:
        """Made at first use: a sweep whose features are all cached builds no network."""
        bare = create_model(self.checkpoint, weights=self.verified, num_classes=0, device=self.device)
        model = PixelModel(bare, self.checkpoint.preprocessing.mean, self.checkpoint.preprocessing.std).eval()
        model.to(memory_format=torch.channels_last)
        if self.adapt is not None:
            adapt(model, batches_for(self.adapt, self.checkpoint.preprocessing, 250), self.device)
        side = self.checkpoint.preprocessing.input_size[1]
        example = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        return folded_model(model, example.to(self.device)).model

    def features(self, batches: Batches) -> Iterator[Tensor]:
        """(B, D) float32 on the CPU for each batch of [0, 1] images."""
        for images, _ in batches:
            images = images.to(self.device, memory_format=torch.channels_last)
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                yield self.model(images).float().cpu()


def features(
    backbone: Backbone,
    data: Dataset,
    cache: Path,
    *,
    view: int = 0,
    seed: int = 0,
    batch_size: int = 250,
    progress: str = "",
) -> np.ndarray:
    """The features of every image, (N, D) float32, mapped from the cache and computed when they are not there.

    The cache's key holds the sha256 of the weights and of every image's content, the preprocessing and the view, so
    what changed is never served as it was. A file ends with the hash of its bytes, and one that was cut or changed is
    made again. Each writer fills a file of its own and gives it its name when it is whole: parallel ones do the work
    twice at worst.

    Args:
        backbone: The network.
        data: The images.
        cache: The folder of features; made where it is not there.
        view: Of each image, as in `batches_for`.
        seed: Of the random views.
        batch_size: Images per batch.
        progress: A label for a progress bar on stderr, "" for none.

    Returns:
        (N, D) float32, read-only.

    Raises:
        StorageError: The disk refuses; errors of weights and of damaged images come as they are.
    """
    randomness = {"view": view} | ({"seed": seed} if view > 1 else {})
    key = backbone.key | randomness | {"images": data.sha256}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    file = cache / f"{backbone.checkpoint.name}-{name[:32]}.npy"
    found = kept(file, len(data))
    if found is None:
        batches = batches_for(data, backbone.checkpoint.preprocessing, batch_size, view=view, seed=seed)
        with tqdm(total=len(data), unit="img", desc=progress, disable=not progress, leave=False) as bar:
            store(backbone.features(batches), len(data), file, bar.update)
        found = kept(file, len(data))
    if found is None:
        raise damaged(
            "features that were written a moment ago are",
            file,
            "the same bytes",
            "others, or nothing",
            model=backbone.checkpoint.name,
            next="look at the disk, then give the same command again",
        )
    return found
