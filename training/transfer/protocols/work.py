"""One transfer, but for its protocol: what is transferred to what, and where the work is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.transfer.saved import Saved
from robust_zoo.weights.ensure import Weights


@dataclass(frozen=True)
class Workspace:
    """Where the work is done; nothing here changes a result.

    Attributes:
        out: The folder of cells.
        cache: The folder of features.
        device: "auto", "cpu", "cuda" or "cuda:N".
        jobs: Processes that share the work.
        progress: Show progress bars on stderr.
        keep: Write each cell's model beside it, to a folder of the cell's name.
        save_seconds: Between two savings of a training, each after an epoch.
    """

    out: Path
    cache: Path
    device: str = "auto"
    jobs: int = 1
    progress: bool = True
    keep: bool = False
    save_seconds: float = 600.0


@dataclass(frozen=True)
class Transfer:
    """One transfer, but for its protocol.

    Attributes:
        checkpoint: What is transferred.
        weights: The checkpoint's, verified.
        target: What it is transferred to: what the protocol's `open` gives.
        seed: Of everything that is random.
        threat: Also measure the PGD-20 accuracy of the transferred model under it; None for clean accuracy alone.
        workspace: Folders and progress.
        device: What workspace.device is here.
        kept: The folder that the model is written to; None: it is not kept.
        saved: Where its trainings stand.
    """

    checkpoint: Checkpoint
    weights: Weights
    target: Any
    seed: int
    threat: ThreatModel | None
    workspace: Workspace
    device: torch.device
    kept: Path | None = None
    saved: Saved = field(default_factory=Saved)

    @property
    def options(self) -> dict[str, Any]:
        """What every protocol takes by name."""
        return {"weights": self.weights, "seed": self.seed, "device": self.device, "progress": self.workspace.progress}
