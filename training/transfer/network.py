"""Training a network on a target: a model with a new head, what of it is trained, epochs, predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.errors import UsageError
from robust_zoo.factory import create_model
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.dataset import Batches, seed_of
from robust_zoo.weights.ensure import Weights

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (images, labels, indices) -> mean over the batch


def with_new_head(
    checkpoint: Checkpoint, classes: int, seed: int, device: torch.device, *, weights: Weights | None = None
) -> nn.Module:
    """The checkpoint's network with a head that starts at random, as a function of `seed`. Takes normalised images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, 0x4EAD))
        return create_model(checkpoint, weights=weights, num_classes=classes).to(device)


def in_pixels(model: nn.Module, checkpoint: Checkpoint) -> PixelModel:
    return PixelModel(model, checkpoint.preprocessing.mean, checkpoint.preprocessing.std).train(model.training)


def choose_trainable(model: nn.Module, part: str) -> list[nn.Parameter]:
    """Freezes the rest and returns what is trained. part: "all", "head", or "last-K": the head and K blocks before it.

    Blocks are the network's direct children with parameters (a ResNet's: conv1, bn1, layer1 ... layer4).

    Raises UsageError for any other word.
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
            next="robust-zoo transfer --help",
        )
    count = {"all": len(blocks), "head": 0}.get(part, int(last) if last.isdigit() else 0)
    chosen = head | {id(p) for block in blocks[len(blocks) - count :] for p in block}
    for parameter in model.parameters():
        parameter.requires_grad_(part == "all" or id(parameter) in chosen)
    return [p for p in model.parameters() if p.requires_grad]


def _classifier(model: nn.Module) -> nn.Module:
    head: Any = model.get_classifier()  # type: ignore[operator]
    return head


def freeze_batch_norm(model: nn.Module) -> None:
    """BatchNorm goes on with the statistics it has; for after `model.train()`."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def order(n: int, batch_size: int, seed: int, epoch: int) -> Sequence[Tensor]:
    """The indices of an epoch's batches, the short last one too: a small target has none to spare."""
    generator = torch.Generator().manual_seed(seed_of(seed, epoch))
    return torch.randperm(n, generator=generator).split(batch_size)


def train_epoch(
    batches: Batches,
    indices: Sequence[Tensor],
    loss_of: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    device: torch.device,
    before_step: Callable[[int], None] = lambda step: None,
) -> float:
    """One epoch; returns the mean loss over its images. before_step(step) may set the learning rate.

    Raises UsageError when the loss stops being a number: the learning rate is too high.
    """
    total, seen = 0.0, 0
    for step, ((images, labels), index) in enumerate(zip(batches, indices, strict=True)):
        before_step(step)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(images.to(device), labels.to(device), index)
        if not torch.isfinite(loss):
            raise UsageError(
                "the loss is not finite any more",
                expected="a learning rate that the network bears",
                actual=f"lr {optimizer.param_groups[0]['lr']:g}, step {step}",
                next="give smaller learning rates",
            )
        loss.backward()
        optimizer.step()
        total, seen = total + loss.item() * len(labels), seen + len(labels)
    return total / seen


@torch.no_grad()
def predictions(model: nn.Module, batches: Batches, device: torch.device) -> Tensor:
    """(N,) the class of each image, in eval mode; the model goes back to the mode it came in."""
    training = model.training
    model.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        found = torch.cat([model(images.to(device)).argmax(1).cpu() for images, _ in batches])
    model.train(training)
    return found
