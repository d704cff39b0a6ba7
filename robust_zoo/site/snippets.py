"""How a checkpoint is loaded: lines to copy, for each way there is. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from robust_zoo import home
from robust_zoo.registry.rows import Checkpoint


@dataclass(frozen=True)
class Snippet:
    """Lines to copy.

    Attributes:
        title: With what.
        code: The lines; what must be said with them is a comment.
    """

    title: str
    code: str


def snippets(checkpoint: Checkpoint) -> list[Snippet]:
    """The ways to load a checkpoint.

    Args:
        checkpoint: Which.

    Returns:
        By robust_zoo, timm, torch.hub and on the command line.
    """
    name, proven = checkpoint.name, checkpoint.can_be_proven
    own = f'model = robust_zoo.create_model("{name}").eval()\ntransform = robust_zoo.transform(model)'
    flag = "" if proven else " --allow-unverified   # no hash is public yet: once, and noted"
    return [
        Snippet("robust_zoo", f"import robust_zoo\n{own}"),
        Snippet("timm", _timm(checkpoint)),
        Snippet("torch.hub", f"import torch\nmodel = {home.torch_hub(name)}"),
        Snippet("Command line", f"robust-zoo download {name}{flag}"),
    ]


def _timm(checkpoint: Checkpoint) -> str:
    published = checkpoint.published
    name = f"hf-hub:{published.repo}" if published else checkpoint.name
    load = f'model = timm.create_model("{name}", pretrained=True)'
    if published and checkpoint.network.plain_timm:
        return f"import timm\n{load}"
    why = "not on the hub yet" if checkpoint.may_be_passed_on else "without a licence never published"
    said = "timm alone lacks this network" if published else why
    return f"import robust_zoo, timm\nrobust_zoo.register_with_timm()  # {said}\n{load}"
