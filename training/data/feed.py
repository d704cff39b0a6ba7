"""The images of an epoch on their way to the device, and how long it waited for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from robust_zoo.training.data.dataset import Batches

TOO_LONG = 0.1  # share of an epoch for which a device may wait before it is said


class Feed:
    """Hands batches on, and times the waits in which the device had nothing to do.

    A wait counts where all earlier work was done when the batch came: a device at work loses nothing by it.

    Attributes:
        waited: Seconds so far.
    """

    def __init__(self, device: torch.device) -> None:
        """Begins with no wait on this device."""
        self.device, self.waited = device, 0.0

    def __call__(self, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        """The same batches.

        Args:
            batches: Of an epoch.

        Yields:
            Each as it comes.
        """
        while True:
            idle, asked = self._work_so_far(), time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            if idle():
                self.waited += time.monotonic() - asked
            yield batch

    def _work_so_far(self) -> Callable[[], bool]:
        """Tells, when asked later, whether the device has done all that it was given until now."""
        if self.device.type != "cuda":
            return lambda: True
        event = torch.cuda.Event()
        event.record()
        return event.query


def too_slow(share: float, workers: int, cores: int) -> str:
    """What is to be said of a feed.

    Args:
        share: Of an epoch's time, how much the device waited for images.
        workers: Processes that read them.
        cores: Of this machine.

    Returns:
        Words for a warning; "" where the feed keeps up.
    """
    if share <= TOO_LONG:
        return ""
    more = f"more than {workers} --workers" if workers < cores else "images in tar shards, or on a faster disk"
    return f"the images are the limit: the device waited for them {100 * share:.0f} % of this epoch ({more} may help)"
