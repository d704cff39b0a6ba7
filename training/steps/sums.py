"""What a training sums up between two lines of its log, on its device until it is read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Number = float | Tensor
"""A plain number, or one on a device, () of any type: reading it waits for the device."""


@dataclass
class Counts:
    """Sums over images since the last report.

    Attributes:
        seen: Images.
        loss: Of the training.
        adv: Hits on adversarial images in train mode.
        clean: Hits on unattacked images in eval mode, where the attack's first pass sees them.
    """

    seen: float = 0
    loss: Number = 0.0
    adv: Number = 0
    clean: Number = 0

    def add(self, other: Counts) -> None:
        """Adds the other's sums, in place."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def read(self) -> list[float]:
        """All of them as plain numbers; waits for the device, once.

        Returns:
            In the order of the fields.
        """
        values = [self.seen, self.loss, self.adv, self.clean]
        device = next((value.device for value in values if isinstance(value, Tensor)), None)
        return torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device) for value in values]).tolist()
