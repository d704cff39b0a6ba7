"""The training step taken apart, so that each piece can be tried on a GPU: attack and update, each as it is, compiled
by inductor, or captured in a CUDA graph. What pays here is what `robust_zoo.training.steps.step` should do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.pixels import PixelModel
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.steps.passes import TrainingLoss, attack, optimizer_for

SMALL = os.environ.get("GPU_BENCH", "") == "small"  # tiny sizes, so that a CPU can run everything


@dataclass(frozen=True)
class Setting:
    """How a step is run.

    Attributes:
        bf16: Autocast, else fp32.
        tf32: For convolutions in fp32.
        tuned: cuDNN tries its algorithms first (torch.backends.cudnn.benchmark).
        fold: BatchNorm folded in the attack.
        compile: Which pieces inductor compiles, of "attack" and "update".
        graph: Which pieces are captured, of "attack" and "step"; the whole step holds the attack.
    """

    bf16: bool = True
    tf32: bool = True
    tuned: bool = True
    fold: bool = True
    compile: tuple[str, ...] = ()
    graph: tuple[str, ...] = ()

    def set_flags(self) -> None:
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cudnn.benchmark = self.tuned


class Plain(nn.Module):
    """A pixel model without its look at the values, which would wait for the device."""

    def __init__(self, model: PixelModel) -> None:
        super().__init__()
        self.model = model.model
        self.register_buffer("mean", model.mean.detach(), persistent=False)
        self.register_buffer("std", model.std.detach(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.std)


class Pieces:
    """A model's step in one setting; `adversarial` and `step` take and give tensors of the device."""

    def __init__(self, model: PixelModel, recipe: Recipe, setting: Setting, images: Tensor, labels: Tensor) -> None:
        setting.set_flags()
        self.model, self.recipe, self.setting = Plain(model).train(), recipe, setting
        self.device = images.device.type
        self.images, self.labels = images.clone(memory_format=torch.channels_last), labels.clone()
        self.optimizer = optimizer_for(self.model, recipe)
        self.fast = None
        if recipe.threat.eps and setting.fold:
            dtype = torch.bfloat16 if setting.bf16 else None
            self.fast = folded_model(self.model, images[:4], dtype=dtype)
        network = self.fast.model if self.fast else self.model
        self.network = torch.compile(network, dynamic=False) if "attack" in setting.compile else network
        objective = TrainingLoss(self.model, recipe)
        self.objective = torch.compile(objective, dynamic=False) if "update" in setting.compile else objective
        self.adversarial: Callable[[], Tensor] = self._adversarial
        self.step: Callable[[], Tensor] = self._step
        if "attack" in setting.graph:
            self.adversarial = captured(self._adversarial)
        if "step" in setting.graph:
            self.step = captured(self._step)

    def autocast(self) -> Any:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.setting.bf16, cache_enabled=False)

    def _adversarial(self) -> Tensor:
        if not self.recipe.threat.eps:
            return self.images
        if self.fast:
            self.fast.refresh()
        with self.autocast():
            return attack(self.network, self.images, self.labels, self.recipe)

    def _step(self) -> Tensor:
        """The loss, (); the model is updated."""
        adv_images = self.adversarial() if "step" not in self.setting.graph else self._adversarial()
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss, _ = self.objective(self.images, adv_images, self.labels)
        loss.backward()
        self.norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self.optimizer.step()
        return loss.detach()


def captured(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`work` as a CUDA graph; it has run three times then."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = work()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def seconds(work: Callable[[], Any], device: str, *, at_least: float = 1.0, rounds: int = 3) -> list[float]:
    """Of one call, in each round; warmed up by two calls. On a GPU by its own events."""
    for _ in range(2):
        work()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    work()
    wait()
    calls = max(1, round((0.01 if SMALL else at_least) / (time.perf_counter() - started)))
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        taken.append((time.perf_counter() - started) / calls)
    return taken
