"""The training loop: attack in eval mode, update in train mode, one atomic state file an epoch."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.training.attacks import pgd
from robust_zoo.training.data import Images, train_batches
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.schedule import learning_rate


def has_native_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (without it, bf16 was measured 20 x slower than fp32)."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not in every version of torch
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def train(model: nn.Module, recipe: Recipe, data: Images, out: Path, *, bf16: bool = False) -> None:
    """Trains a pixel-space model in place, writing `log.jsonl` and `state.pt` under `out`.

    model: [0, 1] images -> logits. data: the training split.
    A run that was cut off goes on from its last whole epoch; sample order and augmentation are
    functions of (seed, epoch), so it ends as it would have without the cut.
    bf16: autocast activations to bfloat16; weights and the optimiser stay fp32.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    first_epoch = _restore(out / "state.pt", model, optimizer, recipe)
    steps = len(data) // recipe.batch_size
    for epoch in range(first_epoch, recipe.epochs):
        started = time.monotonic()
        model.train()
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)
        correct, total_loss = 0, 0.0
        batches = train_batches(data, recipe.batch_size, seed=recipe.seed, epoch=epoch)
        bar = tqdm(batches, total=steps, desc=f"epoch {epoch + 1}/{recipe.epochs}", mininterval=5)
        for step, (images, labels) in enumerate(bar):
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, epoch + step / steps)
            loss, hits = _step(model, recipe, optimizer, images, labels, bf16)
            total_loss, correct = total_loss + loss, correct + hits
            seen = (step + 1) * recipe.batch_size
            bar.set_postfix(loss=f"{total_loss / (step + 1):.3f}", adv_acc=f"{100 * correct / seen:.1f}")
        _save(out / "state.pt", model, optimizer, recipe, epoch + 1)
        entry = {
            "epoch": epoch + 1,
            "loss": total_loss / steps,
            "train_accuracy": 100 * correct / (steps * recipe.batch_size),
            "seconds": round(time.monotonic() - started, 1),
        }
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")


def _step(
    model: nn.Module,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    bf16: bool,
) -> tuple[float, int]:
    """One attack and one update. Returns the loss and how many adversarial images were classified right."""
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        adv_images = pgd(
            model,
            images,
            labels,
            recipe.threat,
            steps=recipe.attack_steps,
            step_size=recipe.attack_step_size * recipe.threat.eps,
            random_start=recipe.random_start,
        )
        logits = model(adv_images).float()
    loss = F.cross_entropy(logits, labels)
    if not torch.isfinite(loss):
        raise VerificationFailed(
            f"the training loss is {loss.item()}",
            model=recipe.architecture,
            expected="a finite loss",
            actual=str(loss.item()),
            next="lower the recipe's lr, or train in fp32 (--precision fp32); the last whole epoch is kept in state.pt",
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item(), int((logits.argmax(1) == labels).sum())


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "recipe": asdict(recipe)}
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> int:
    """The epoch to start with: 0 without a state file, else the one after the last whole epoch."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["recipe"] != asdict(recipe):
        raise UsageError(
            f"{path.parent} holds a run of another recipe",
            model=recipe.architecture,
            source=str(path),
            expected=str(asdict(recipe)),
            actual=str(state["recipe"]),
            next="choose another --out directory",
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"])
