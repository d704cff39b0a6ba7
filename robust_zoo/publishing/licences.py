"""The LICENSE of a published folder: what is licensed, who says so, and the licence's own words. No torch."""

from __future__ import annotations

from pathlib import Path

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import printable

TEXTS = Path(__file__).with_name("licences")  # by the hub's identifiers: mit.txt, apache-2.0.txt, ...


def licence_text(checkpoint: Checkpoint) -> str:
    """The file LICENSE: a note on the weights, then the text of their licence.

    Of a licence whose text is not here the name and where to read it must do. The holders are those that the source
    names: rows know where weights are from, not who signed for them.

    Args:
        checkpoint: Whose weights; it may be passed on.

    Returns:
        The text. The same checkpoint gives the same text.
    """
    licence, origin = printable(checkpoint.licence), printable(checkpoint.collection.origin)
    said = printable(checkpoint.licence_from) or "whoever published them here"
    note = (
        f"The weights in model.safetensors are those of {checkpoint.name}.\n"
        f"Licence: {licence}. Who says so: {said}.\n"
        f"Where they are from: {origin}.\n"
        + ("" if checkpoint.bundled else "Changed since: written as safetensors, with timm's names of the tensors.\n")
    )
    file = TEXTS / f"{licence.lower()}.txt"
    holders = "The robust_zoo authors" if checkpoint.bundled else f"the authors of these weights: {origin}"
    if licence.lower() in {path.stem for path in TEXTS.glob("*.txt")}:
        words = file.read_text(encoding="utf-8").strip("\n").replace("{holders}", holders)
    else:
        words = f"The text of the licence {licence} is at https://spdx.org/licenses, or where they are from."
    return f"{note}\n{'-' * 78}\n\n{words}\n"
