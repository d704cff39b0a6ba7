"""What a fine-tuning starts from: the source's network with a new head, fitted to its features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_zoo.architectures.batch_norm import freeze_batch_norm
from robust_zoo.errors import NewHeadWarning
from robust_zoo.factory import create_model
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.transfer.features import Backbone, features
from robust_zoo.training.transfer.heads import Head
from robust_zoo.training.transfer.network import choose_trainable
from robust_zoo.training.transfer.protocols.linear import PENALTIES, train_heads, with_head
from robust_zoo.training.transfer.tuning.modes import Tuning
from robust_zoo.weights.ensure import Weights


class TunedModel(PixelModel):
    """A pixel-space model of which a part may stay as it is: in eval mode, whatever mode the whole is set to.

    Args:
        model: Takes normalised images; parameters that are not trained ask for no gradient.
        mean: As PixelModel's.
        std: The same.
        frozen_statistics: BatchNorm keeps the source's statistics everywhere.
    """

    def __init__(
        self, model: nn.Module, mean: Sequence[float], std: Sequence[float], *, frozen_statistics: bool
    ) -> None:
        super().__init__(model, mean, std)
        self.frozen_statistics = frozen_statistics

    def train(self, mode: bool = True) -> TunedModel:
        """As nn.Module's, but for what is not trained."""
        super().train(mode)
        for block in self.model.children():
            parameters = list(block.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                block.eval()
        if self.frozen_statistics:
            freeze_batch_norm(self)
        return self


def probe(
    checkpoint: Checkpoint, weights: Weights, train: Dataset, val: Dataset, classes: int, *,
    cache: Path, device: torch.device, progress: bool,
) -> Head:  # fmt: skip
    """A logistic regression on the source's features of the training images; validation images choose its penalty.

    Args:
        checkpoint: The source.
        weights: Its own, verified.
        train: What the head is fitted to.
        val: What its penalty is chosen on.
        classes: K.
        cache: The folder of features.
        device: Where features are computed.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The head, on the network's own features.
    """
    backbone = Backbone(checkpoint, device, weights=weights)
    x, x_val = (
        torch.from_numpy(features(backbone, data, cache, progress="features" if progress else "").copy()).to(device)
        for data in (train, val)
    )
    candidates = [{"penalty": penalty} for penalty in PENALTIES]
    heads = train_heads(x[None], train.labels.to(device), classes, candidates, "lbfgs", 0)
    hits = [int((head(x_val).argmax(1).cpu() == val.labels).sum()) for head in heads]
    return heads[max(range(len(heads)), key=hits.__getitem__)]  # of tied ones the first: the stronger penalty


def probed(checkpoint: Checkpoint, weights: Weights, head: Head) -> nn.Module:
    """The source with that head: what fine-tuning is compared with.

    Args:
        checkpoint: The source.
        weights: Its own, verified.
        head: On its features, on any device.

    Returns:
        Normalised images -> logits, in eval mode.

    Raises:
        UsageError: The network does not end in a linear layer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NewHeadWarning)
        return with_head(checkpoint, Head(head.weight.cpu(), head.bias.cpu()), weights=weights)


def start(
    checkpoint: Checkpoint, weights: Weights, recipe: Tuning, head: Head, dtype: torch.dtype = torch.float32
) -> TunedModel:
    """The model that a fine-tuning begins with.

    Args:
        checkpoint: The source.
        weights: Its own, verified.
        recipe: With the mode.
        head: What `probe` found.
        dtype: In which it is trained.

    Returns:
        The model, on the CPU; what its mode does not train asks for no gradient.

    Raises:
        UsageError: The network has no such part.
    """
    network = probed(checkpoint, weights, head)
    choose_trainable(network.to(dtype), recipe.part)
    p = checkpoint.preprocessing
    return TunedModel(network, p.mean, p.std, frozen_statistics=recipe.row.statistics == "source")


def source_model(checkpoint: Checkpoint, weights: Weights, like: Tensor) -> PixelModel:
    """The source as it is, for objectives that look at its features.

    Args:
        checkpoint: The source.
        weights: Its own, verified.
        like: Of the device and type that it is wanted in.

    Returns:
        [0, 1] images -> logits, in eval mode; its parameters ask for no gradient.
    """
    p = checkpoint.preprocessing
    model = PixelModel(create_model(checkpoint, weights=weights), p.mean, p.std).eval().to(like)
    return model.requires_grad_(False).to(memory_format=torch.channels_last)
