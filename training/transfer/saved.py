"""Where the trainings of a cell stand, saved now and then: what is cut off goes on, and ends with the same figures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from robust_zoo.files import GO_ON, storage
from robust_zoo.training.checkpoint_files import foreign, newest_told, read_checkpoint, write_checkpoint


class Saved:
    """The trainings of one cell, one after another, as they stand after an epoch.

    What a training consists of is its `parts`, by name: what has a `state_dict`, and lists and dicts of plain values
    and tensors. torch's random numbers are saved beside them.
    """

    def __init__(self, folder: Path | None = None, every: float = 600.0) -> None:
        """Args:
        folder: Of this cell alone; None: nothing is saved.
        every: Seconds between two savings.
        """
        self._folder, self._every, self._at = folder, every, time.monotonic()
        self._state: dict[str, Any] | None = None

    def _read(self) -> dict[str, Any]:
        """What was saved last, {} where nothing was."""
        if self._state is None:
            content = newest_told(self._folder) if self._folder else None
            self._state = read_checkpoint(content) if content is not None else {}
        return self._state

    @property
    def earlier(self) -> list[Any]:
        """What came of the trainings before the one that was saved, as `keep` was given it; [] at the beginning.

        Raises:
            VerificationFailed: What was saved is damaged, or something else.
        """
        return list(self._read().get("earlier", []))

    def restore(self, parts: dict[str, Any], earlier: Sequence[Any] = ()) -> int:
        """Fills a training's parts from what was saved of it.

        Args:
            parts: As the training begins; changed in place.
            earlier: What came of the trainings before it, plain values.

        Returns:
            Its epochs that are done; 0 where nothing was saved, or another training.

        Raises:
            VerificationFailed: What was saved is damaged, or something else.
        """
        state = self._read()
        if not state or state.get("earlier") != list(earlier):
            return 0
        try:
            for name, part in parts.items():
                _fill(part, state["parts"][name])
            _set_random(state["random"])
            done = int(state["epochs"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise foreign(error) from None
        self._state = {}  # its tensors are in their places
        return done

    def keep(self, epochs: int, parts: dict[str, Any], earlier: Sequence[Any] = ()) -> None:
        """Saves a training, when it is time to.

        Args:
            epochs: That are done.
            parts: As they are now.
            earlier: As `restore` was given it.

        Raises:
            StorageError: The disk refuses.
        """
        if self._folder is None or time.monotonic() - self._at < self._every:
            return
        with storage(self._folder, GO_ON):
            self._folder.mkdir(parents=True, exist_ok=True)
        held = {name: part.state_dict() if hasattr(part, "state_dict") else part for name, part in parts.items()}
        state = {"earlier": list(earlier), "epochs": epochs, "parts": held, "random": _random()}
        write_checkpoint(self._folder, len(earlier), epochs, state)
        self._at = time.monotonic()

    def epochs(self, n: int, parts: dict[str, Any], earlier: Sequence[Any] = (), label: str = "") -> Iterator[int]:
        """A training's epochs that are still to be done; it is saved after each that is, when it is time to.

        Args:
            n: Of the whole training.
            parts: As the training begins; changed in place where some of it was saved.
            earlier: As `restore` takes it.
            label: Of a progress bar on stderr; "" for none.

        Yields:
            The numbers of the epochs, from 0 for the first of the training.
        """
        first = self.restore(parts, earlier)
        for epoch in tqdm(range(first, n), label, n, initial=first, disable=not label, leave=False):
            yield epoch
            self.keep(epoch + 1, parts, earlier)

    def drop(self) -> None:
        """Deletes what was saved: the cell is there."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _fill(part: Any, saved: Any) -> None:
    if hasattr(part, "load_state_dict"):
        part.load_state_dict(saved)
    elif isinstance(part, list):
        part[:] = saved
    else:
        part.clear()
        part.update(saved)


def _random() -> list[torch.Tensor]:
    """The states of torch's generators: the CPU's, and those of the GPUs in use."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])]


def _set_random(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if torch.cuda.is_initialized():
        for device, state in enumerate(states[1 : 1 + torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
