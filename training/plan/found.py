"""What of a plan is done already: exports of runs, entries of a ledger, cells of transfers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from robust_zoo.files import sha256_of
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.evaluation.entries import read_entry
from robust_zoo.training.export import as_trained
from robust_zoo.training.recipes import recipe_for
from robust_zoo.training.transfer.cells import read_cell
from robust_zoo.weights.safetensors_file import read_header

Figures = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Found:
    """What lies in the folders of runs and results, of the checkpoints that were asked for.

    Attributes:
        exports: A checkpoint's name -> the file that its recipe made.
        entries: A checkpoint's name -> entries of the ledger.
        cells: A checkpoint's name -> cells of transfers.
        own: Whether figures count that are of the exports; else those of the published weights.
    """

    exports: Mapping[str, Path]
    entries: Figures
    cells: Figures
    own: bool

    def evaluated(self, checkpoint: Checkpoint, dataset: str, attack: str) -> bool:
        """Whether the ledger has the figure, of these weights.

        Args:
            checkpoint: Whose.
            dataset: As entries name it, e.g. "imagenet validation".
            attack: "none" for clean accuracy.
        """
        wanted = {"dataset": dataset, "attack": attack}
        return any(_has(e, wanted) and self._same(e, checkpoint) for e in self.entries.get(checkpoint.name, []))

    def transferred(self, checkpoint: Checkpoint, dataset: str, protocol: str, settings: Any) -> bool:
        """Whether there is a cell of it, of these weights and seed 0. The images are taken at their name.

        Args:
            checkpoint: Whose.
            dataset: A name of the transfer datasets.
            protocol: A name of the protocols.
            settings: Of that protocol.
        """
        values = json.loads(json.dumps(asdict(settings)))  # lists for tuples
        wanted = {"dataset": dataset, "protocol": protocol, "settings": values, "seed": 0}
        return any(_has(c, wanted) and self._same(c, checkpoint) for c in self.cells.get(checkpoint.name, []))

    def _same(self, figure: Mapping[str, Any], checkpoint: Checkpoint) -> bool:
        """Whether a figure is of the weights in question; published ones without a known hash: of no export."""
        export, sha256 = self.exports.get(checkpoint.name), figure["weights_sha256"]
        if self.own:
            return export is not None and sha256 == _hash(export)
        if known := checkpoint.converted_sha256 or (checkpoint.sha256 if checkpoint.bundled else None):
            return bool(sha256 == known)
        return export is None or sha256 != _hash(export)


@cache
def _hash(file: Path) -> str:
    return sha256_of(file)


def _has(figure: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(figure[name] == value for name, value in wanted.items())


def export_of(checkpoint: Checkpoint, runs: Path) -> Path:
    """Where the run of a checkpoint's recipe leaves its weights.

    Args:
        checkpoint: Of the registry.
        runs: The folder of runs, each named after its checkpoint.
    """
    return runs / checkpoint.name / f"{as_trained(checkpoint, recipe_for(checkpoint)).name}.safetensors"


def look(checkpoints: Iterable[Checkpoint], runs: Path, results: Path, *, own: bool) -> Found:
    """Looks for what is done; every entry and cell that is found is checked.

    Args:
        checkpoints: Those of the plan.
        runs: Has a folder for each run, named after its checkpoint, and cells anywhere in it.
        results: A ledger; exports and cells may lie in it too.
        own: As `Found` has it.

    Returns:
        What there is.

    Raises:
        VerificationFailed: An entry or a cell was changed or cut.
        Refused: An export is no safetensors file.
    """
    rows = {checkpoint.name: checkpoint for checkpoint in checkpoints}
    folders = [folder for folder in {runs.resolve(): runs, results.resolve(): results}.values() if folder.is_dir()]
    exports = {
        name: file
        for name, row in rows.items()
        for folder in folders
        if (file := export_of(row, folder)).is_file()
        and read_header(file).get("recipe_sha256") == recipe_for(row).sha256
    }
    entries = {name: [read_entry(file) for file in sorted((results / name).glob("*__*__*.json"))] for name in rows}
    cells: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        for file in sorted(folder.rglob("*__*__*__seed*__*.json")):
            if (name := file.name.partition("__")[0]) in rows:
                cells.setdefault(name, []).append(read_cell(file))
    return Found(exports, entries, cells, own)
