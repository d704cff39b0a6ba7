"""How products of fp32 numbers are made on CUDA, where torch takes TF32 for convolutions unless it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from robust_zoo.errors import UsageError
from robust_zoo.training.choices import FP32, PRECISIONS, TF32, go_together

_NAMES = {FP32: "ieee", TF32: "tf32"}  # torch's
go_together("training/attacks/precision.py", _NAMES, PRECISIONS)


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Convolutions and matrix products of the block are made in this precision, and afterwards as before.

    Args:
        precision: A name of `choices.PRECISIONS`.
    """
    kinds: Any = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = _NAMES[precision]
        yield
    finally:
        for kind, name in zip(kinds, before, strict=True):
            kind.fp32_precision = name


def require_precision(precision: str, device: torch.device) -> None:
    """Says where a device does not know a precision. Raises UsageError."""
    if precision == TF32 and device.type != "cuda":
        raise UsageError(
            f"--precision {precision} on {device}",
            expected="a CUDA device: no other has such numbers",
            actual=f"--device {device}",
            next=f"--precision {FP32}",
        )
