"""What evaluations cost: by one process and by several; and what bf16 would gain, and whether its figures hold.

    python benchmarks/evaluation.py cifar10.npz [IMAGES]

The attack in bf16 is judged in fp32. Then what bf16 alone called broken is attacked again in fp32; and then all that is
left, which alone makes certain that a figure is not higher than that of fp32.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from robust_zoo import create_model, get, pixel_model
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.dataset import load_npz, spread
from robust_zoo.training.evaluation.run import EvaluationPlan, evaluate

NAMES = ("resnet18_x0_25_cifar10_linf_eps8", "resnet18_x0_25_cifar10_l2_eps0_5")
BATCH = 250


class InBf16(nn.Module):
    """A model under bf16 autocast."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.model(images).float()


@torch.no_grad()
def is_right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return model(images).argmax(1) == labels


def bf16(name: str, attack: str, images: Tensor, labels: Tensor) -> None:
    """Prints robust counts and seconds of each way."""
    threat, (stage,) = get(name).threat, suite(attack)
    model = pixel_model(create_model(name)).eval().to(memory_format=torch.channels_last).requires_grad_(False)
    full = folded_model(model, images[:4]).model
    low = InBf16(folded_model(model, images[:4], dtype=torch.bfloat16).model)
    kept = is_right(full, images, labels)
    images, labels = images[kept], labels[kept]

    def attacked(network: nn.Module, rows: Tensor) -> tuple[Tensor, float]:
        started, found = time.monotonic(), images.clone()
        for some in rows.nonzero().squeeze(1).split(BATCH):
            found[some] = stage(network, images[some], labels[some], threat, seed=0)
        return found, time.monotonic() - started

    everything = torch.ones_like(labels, dtype=torch.bool)
    plain, plain_s = attacked(full, everything)
    robust = is_right(full, plain, labels)
    found, low_s = attacked(low, everything)
    left, alleged = is_right(full, found, labels), ~is_right(low, found, labels)
    print(f"{name} {attack}, {len(labels)} images: fp32 {robust.sum()} ({plain_s:.1f} s)", end="")
    print(f"; bf16 judged in fp32 {left.sum()} ({low_s:.1f} s)", end="")
    for words, rows in (("what bf16 called broken", left & alleged), ("all that is left", left)):
        again, more_s = attacked(full, rows)
        print(f"; {words} again {(left & is_right(full, again, labels)).sum()}", end="")
        print(f" ({low_s + more_s:.1f} s)", end="")
    print()


def jobs(name: str, data: str, n: int) -> None:
    """Prints the seconds of one process and of two, in turn."""
    plan = EvaluationPlan("apgd-ce", n=n, batch_size=n // 5, check=False)
    for number in (1, 2) * 2:
        with TemporaryDirectory() as folder:
            (entry,) = evaluate([name], data, "cifar10", Path(folder), plan, device="cpu", jobs=number)
            print(
                f"{name} apgd-ce, {n} images, --jobs {number}: {entry['robust_correct']} robust, {entry['seconds']} s"
            )


if __name__ == "__main__":
    file, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    sample = spread(load_npz(Path(file), "test"), count)
    for row in NAMES:
        for way in ("pgd-20", "apgd-ce"):
            bf16(row, way, sample.images.float() / 255, sample.labels)
    jobs(NAMES[1], file, count // 2)
