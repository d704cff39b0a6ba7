"""Training a network on a target: a model with a new head, what of it is trained, epochs, predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.errors import UsageError
from robust_zoo.factory import create_model
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.dataset import Batches, seed_of
from robust_zoo.weights.ensure import Weights

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters, lr, weight_decay: torch.optim.SGD(
        parameters, lr=lr, weight_decay=weight_decay, momentum=0.9
    ),
    "adamw": lambda parameters, lr, weight_decay: torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay),
}
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (images, labels, indices) -> mean over the batch


@contextmanager
def seeded(seed: int, purpose: int, device: torch.device) -> Iterator[None]:
    """Within it torch's random numbers are a function of a seed, and afterwards they are as if nothing had been drawn.

    Args:
        seed: Of the run.
        purpose: What is drawn, a number of its own.
        device: Whose numbers, besides the CPU's.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(seed, purpose))
        yield


def with_new_head(
    checkpoint: Checkpoint, classes: int, seed: int, device: torch.device, *, weights: Weights | None = None
) -> nn.Module:
    """The checkpoint's network with a head that starts at random.

    Args:
        checkpoint: Whose network it is.
        classes: Outputs of the head.
        seed: The head is a function of it.
        device: Where the network goes.
        weights: Verified already; the checkpoint's when None.

    Returns:
        A model that takes normalised images.
    """
    with seeded(seed, 0x4EAD, device):
        return create_model(checkpoint, weights=weights, num_classes=classes).to(device)


def in_pixels(model: nn.Module, checkpoint: Checkpoint) -> PixelModel:
    """The model behind the checkpoint's normalisation, in the mode it is in: takes [0, 1] images."""
    return PixelModel(model, checkpoint.preprocessing.mean, checkpoint.preprocessing.std).train(model.training)


def choose_trainable(model: nn.Module, part: str) -> list[nn.Parameter]:
    """Freezes all parameters of a network but those of a part.

    Blocks are the network's direct children with parameters (a ResNet's: conv1, bn1, layer1 ... layer4).

    Args:
        model: One of timm's, or with its methods; changed in place.
        part: "all", "head", or "last-K": the head and K blocks before it.

    Returns:
        The parameters that are trained.

    Raises:
        UsageError: Another word, or more blocks than there are.
    """
    head = {id(p) for p in _classifier(model).parameters()}
    blocks = [list(child.parameters()) for child in model.children()]
    blocks = [block for block in blocks if block and not {id(p) for p in block} <= head]
    last = part.removeprefix("last-")
    if part not in ("all", "head") and not (
        part.startswith("last-") and last.isdigit() and 0 < int(last) <= len(blocks)
    ):
        raise UsageError(
            f"cannot train {part!r} of a network",
            expected=f"all, head, or last-1 to last-{len(blocks)}",
            actual=part,
            next=f"last-{len(blocks)} trains the head and all of its blocks",
        )
    count = {"all": len(blocks), "head": 0}.get(part, int(last) if last.isdigit() else 0)
    chosen = head | {id(p) for block in blocks[len(blocks) - count :] for p in block}
    for parameter in model.parameters():
        parameter.requires_grad_(part == "all" or id(parameter) in chosen)
    return [p for p in model.parameters() if p.requires_grad]


def _classifier(model: nn.Module) -> nn.Module:
    head: Any = model.get_classifier()  # type: ignore[operator]
    return head


def order(n: int, batch_size: int, seed: int, epoch: int) -> Sequence[Tensor]:
    """Shuffles an epoch's images into batches, the short last one too: a small target has none to spare.

    Args:
        n: Images.
        batch_size: Images per batch.
        seed: Of the run.
        epoch: From 0; each has its own order.

    Returns:
        The indices of each batch.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, epoch))
    return torch.randperm(n, generator=generator).split(batch_size)


def rate(lr: float, done: float, warmup: float) -> float:
    """The learning rate: rises, then falls as a cosine to 0.

    Args:
        lr: The highest rate.
        done: Share of all steps, in [0, 1].
        warmup: Share that the rate rises in, below 1.

    Returns:
        The rate of the next step.
    """
    if done < warmup:
        return lr * done / warmup
    return lr * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2


def train_epoch(
    batches: Batches,
    indices: Sequence[Tensor],
    loss_of: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    device: torch.device,
    before_step: Callable[[int], None] = lambda step: None,
) -> float:
    """Trains for one epoch, on a GPU in bfloat16.

    Args:
        batches: Images and labels of each step.
        indices: Of each step's images in their dataset.
        loss_of: (images, labels, indices) -> the batch's mean loss.
        optimizer: Of the parameters that are trained.
        device: Where the network is.
        before_step: Called with the step's number; may set the learning rate.

    Returns:
        The mean loss over the epoch's images.

    Raises:
        UsageError: The loss stops being a number: the learning rate is too high.
    """
    total, seen = 0.0, 0
    for step, ((images, labels), index) in enumerate(zip(batches, indices, strict=True)):
        before_step(step)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(images.to(device), labels.to(device), index)
        descend(loss, optimizer, step)
        total, seen = total + loss.item() * len(labels), seen + len(labels)
    return total / seen


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, step: int) -> None:
    """One step down a loss.

    Args:
        loss: Of a batch; the gradients of what is trained are zero.
        optimizer: Of the parameters that are trained.
        step: Its number, for the error.

    Raises:
        UsageError: The loss is no number: the learning rate is too high.
    """
    if not torch.isfinite(loss):
        raise UsageError(
            "the loss is not finite any more",
            expected="a learning rate that the network bears",
            actual=f"lr {optimizer.param_groups[0]['lr']:g}, step {step}",
            next="give smaller learning rates",
        )
    loss.backward()
    optimizer.step()


@torch.no_grad()
def predictions(model: nn.Module, batches: Batches, device: torch.device) -> Tensor:
    """Classifies images in eval mode; the model goes back to the mode it came in.

    Args:
        model: Takes the batches' images.
        batches: Images and labels; the labels are not looked at.
        device: Where the model is.

    Returns:
        (N,) int64 on the CPU, the class of each image.
    """
    training = model.training
    model.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        found = torch.cat([model(images.to(device)).argmax(1).cpu() for images, _ in batches])
    model.train(training)
    return found
