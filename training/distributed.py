"""One process or many: who am I, and the three things ranks must agree on. Started by torchrun, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce as differentiable_all_reduce

from robust_zoo.errors import UsageError
from robust_zoo.files import Buffer, buffer
from robust_zoo.training.signals import Stopped

_TIMEOUT = timedelta(minutes=10)  # a rank that is gone ends the others


@dataclass(frozen=True)
class World:
    """This process among all.

    Attributes:
        rank: Its number, from 0.
        size: How many processes there are.
        device: What it computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Rank 0 alone writes files and talks."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any rank; every rank must ask."""
        if self.size == 1:
            return flag
        return bool(self.largest(torch.tensor(float(flag), device=self.device)).item())

    def largest(self, value: Tensor) -> Tensor:
        """The largest of the ranks' values, on the device: nothing is read here. Every rank must ask.

        Args:
            value: (), a float; changed in place where there are others.

        Returns:
            The same tensor.
        """
        if self.size > 1:
            dist.all_reduce(value, dist.ReduceOp.MAX)
        return value

    def all_stop(self, reason: str) -> None:
        """Ends all ranks when one has a reason; every rank must ask.

        Args:
            reason: This rank's, "" for none.

        Raises:
            Stopped: On every rank.
        """
        if self.any(bool(reason)):
            raise Stopped(reason or "another process was told to stop")

    def sum(self, *values: float) -> list[float]:
        """Sums over ranks, in float64."""
        if self.size == 1:
            return [float(v) for v in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, *values: float) -> list[list[float]]:
        """Every rank's numbers, by rank, on every rank, in float64."""
        if self.size == 1:
            return [list(values)]
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine)
        return [one.tolist() for one in found]

    def share_buffers(self, model: nn.Module) -> None:
        """Rank 0's BatchNorm statistics on every rank: before each attack, so that ranks never drift apart."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def first_says(self, content: Buffer | None) -> Buffer | None:
        """Rank 0's bytes on every rank, sent as they are: torch's own way to send an object unpickles it."""
        if self.size == 1:
            return content
        length = torch.tensor([-1 if content is None else len(content)], device=self.device)
        dist.broadcast(length, 0)
        if length.item() < 0:
            return None
        content = content if self.first and content is not None else buffer(int(length.item()))
        view = torch.frombuffer(content, dtype=torch.uint8)
        sent = view.to(self.device)
        dist.broadcast(sent, 0)
        view.copy_(sent)
        return content

    def wrap(self, module: nn.Module) -> nn.Module:
        """DistributedDataParallel where there are ranks to average gradients over."""
        if self.size == 1:
            return module
        wrapper = nn.parallel.DistributedDataParallel
        new = "forward_sync_buffers" in signature(wrapper).parameters  # torch 2.14's name
        how: Any = {"forward_sync_buffers" if new else "broadcast_buffers": False}
        return wrapper(module, device_ids=[self.device.index] if self.device.type == "cuda" else None, **how)


ALONE = World(0, 1, torch.device("cpu"))


@contextmanager
def join_world(device: str = "auto") -> Iterator[World]:
    """The processes torchrun started (WORLD_SIZE, RANK, LOCAL_RANK), or this one alone.

    Args:
        device: "cpu", "cuda", "cuda:1", or "auto" (cuda where there is one). NCCL on cuda, gloo on cpu.

    Yields:
        This process's place among them.

    Raises:
        UsageError: The device is not there.
    """
    local, size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = device_of(device, local)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield World(0, 1, chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


def device_of(asked: str, local_rank: int = 0) -> torch.device:
    """The device a user asked for.

    Args:
        asked: "cpu", "cuda", "cuda:1", or "auto" (cuda where there is one).
        local_rank: The GPU that "cuda" means.

    Returns:
        The device; one of cuda has a number.

    Raises:
        UsageError: The device is not there.
    """
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
        if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
            raise RuntimeError(f"torch {torch.__version__} sees no such device here")
    except RuntimeError as error:
        raise UsageError(
            f"no device {asked!r}",
            expected="auto, cpu, cuda or cuda:N",
            actual=str(error).splitlines()[0],
            next="leave --device out to use what is there",
        ) from None
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", local_rank)
    return device


def has_native_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (without it, bf16 was measured 20 x slower than fp32)."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not in every version of torch
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the images of all ranks, on any device and in any float type (torch's own refuses CPU tensors).

    Ranks must hold equally many images, as the loop's do.
    """

    def forward(self, input: Tensor) -> Tensor:
        """This rank's images (B, C, H, W), normalised as BatchNorm2d does."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        x, ranks = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input, dist.get_world_size()
        count, shape = ranks * x.numel() // x.shape[1], (1, -1, 1, 1)
        mean = differentiable_all_reduce(x.sum((0, 2, 3))) / count
        centred = x - mean.view(shape)
        var = differentiable_all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        out = centred * (var + self.eps).rsqrt().view(shape)
        return (out * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)


def synchronise_batch_norm(model: nn.Module) -> None:
    """Makes every BatchNorm2d of the model one over all ranks; parameters, buffers and names stay.

    Args:
        model: Changed in place.

    Raises:
        UsageError: The model has a BatchNorm of another kind.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm2d
        elif isinstance(module, nn.BatchNorm2d) and type(module) is not SyncBatchNorm2d:
            raise UsageError(
                f"sync_bn cannot be used with {type(module).__name__}",
                expected="an architecture of plain BatchNorm2d",
                actual=type(module).__name__,
                next="leave sync_bn out: statistics are then those of each device",
            )
