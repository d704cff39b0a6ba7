"""What belongs to the machine that trains, not to the science."""

from __future__ import annotations

from dataclasses import dataclass

FP64 = "fp64"
# What is computed in, as --precision says it, and its words.
NUMBERS = {"bf16": "bf16 autocast", "tf32": "TF32", FP64: "double precision", "fp32": "full precision"}


@dataclass(frozen=True)
class Machine:
    """Where and how a training runs; nothing here changes what is trained.

    Attributes:
        device: "cpu", "cuda", "cuda:1", or "auto": cuda where there is one.
        precision: "fp32", "tf32" (its products, on CUDA), "bf16" (autocast), "fp64" (to compare runs), or "auto":
            bf16 on a GPU and on CPUs that multiply it natively, else fp32.
        workers: Processes that read images from the disk.
        save_seconds: Between checkpoints within an epoch.
        log_steps: Updates between two lines of the log.
        progress: Whether to show a progress bar on stderr.
        compile: A name of `ways.COMPILE`: whether the step's passes may be compiled.
    """

    device: str = "auto"
    precision: str = "auto"
    workers: int = 4
    save_seconds: float = 600.0
    log_steps: int = 10
    progress: bool = True
    compile: str = "auto"


@dataclass(frozen=True)
class Settings:
    """What belongs to the machine, not to the science.

    Attributes:
        bf16: Whether to run under bf16 autocast.
        save_seconds: Between checkpoints within an epoch.
        log_steps: Updates between two lines of the log.
        progress: Whether to show a progress bar on stderr.
        label: What the bar is called.
        compile: A name of `ways.COMPILE`.
        workers: Processes that read images; to say how many there are.
        tf32: Whether products of fp32 numbers are made in TF32.
        fp64: Whether all numbers are fp64.
    """

    bf16: bool = False
    save_seconds: float = 600.0
    log_steps: int = 10
    progress: bool = True
    label: str = "training"
    compile: str = "off"
    workers: int = 0
    tf32: bool = False
    fp64: bool = False

    @property
    def numbers(self) -> str:
        """A name of NUMBERS, for a run's identity and its card."""
        return next((name for name in ("bf16", "tf32", FP64) if getattr(self, name)), "fp32")
