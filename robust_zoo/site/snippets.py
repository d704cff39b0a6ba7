"""How a checkpoint is loaded: lines to copy, for each way there is. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from robust_zoo import home
from robust_zoo.registry.rows import Checkpoint

_CHECKOUT = "path/of/robust_zoo"


@dataclass(frozen=True)
class Snippet:
    """Lines to copy.

    Attributes:
        title: With what.
        code: The lines.
        note: What must be said with them, "" for nothing.
    """

    title: str
    code: str
    note: str = ""


def snippets(checkpoint: Checkpoint) -> list[Snippet]:
    """The ways to load a checkpoint.

    Args:
        checkpoint: Which.

    Returns:
        By robust_zoo, timm, torch.hub and on the command line.
    """
    return [_own(checkpoint), _timm(checkpoint), _torch_hub(checkpoint), _verbs(checkpoint)]


def _own(checkpoint: Checkpoint) -> Snippet:
    proven = checkpoint.bundled or checkpoint.has_public_hash
    note = "" if proven else "No hash of its file is public yet: fetch it once by the command below, which notes one."
    return Snippet(
        "robust_zoo",
        f"""import robust_zoo
model = robust_zoo.create_model("{checkpoint.name}").eval()
transform = robust_zoo.transform(model)  # as it was trained""",
        note,
    )


def _timm(checkpoint: Checkpoint) -> Snippet:
    return Snippet(
        "timm",
        f"""import robust_zoo, timm
robust_zoo.register_with_timm()
model = timm.create_model("{checkpoint.name}", pretrained=True)""",
        "Not published on the Hugging Face hub yet: timm loads it through robust_zoo.",
    )


def _torch_hub(checkpoint: Checkpoint) -> Snippet:
    repository = home.REPOSITORY or _CHECKOUT
    local = "" if home.REPOSITORY else ', source="local"'
    return Snippet(
        "torch.hub",
        f"""import torch
model = torch.hub.load("{repository}", "{checkpoint.name}"{local})""",
        "" if home.REPOSITORY else "From a checkout: the project has no public address yet.",
    )


def _verbs(checkpoint: Checkpoint) -> Snippet:
    flag = "" if checkpoint.bundled or checkpoint.has_public_hash else " --allow-unverified"
    return Snippet("Command line", f"robust-zoo download {checkpoint.name}{flag}")
