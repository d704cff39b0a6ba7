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
    name, plain = checkpoint.name, bool(checkpoint.network.plain_timm)
    if checkpoint.published and plain:
        code = f'import timm\nmodel = timm.create_model("hf-hub:{checkpoint.published.repo}", pretrained=True)'
        return Snippet("timm", code)
    known = "import robust_zoo, timm\nrobust_zoo.register_with_timm()"
    if checkpoint.published:
        code = f'{known}\nmodel = timm.create_model("hf-hub:{checkpoint.published.repo}", pretrained=True)'
        return Snippet("timm", code, "timm alone does not build this network: robust_zoo tells it how.")
    why = (
        "Not published on the Hugging Face hub yet"
        if checkpoint.may_be_passed_on
        else "Without a licence not published"
    )
    code = f'{known}\nmodel = timm.create_model("{name}", pretrained=True)'
    return Snippet("timm", code, f"{why}: timm loads it through robust_zoo.")


def _torch_hub(checkpoint: Checkpoint) -> Snippet:
    note = "" if home.REPOSITORY else "From a copy on disk: the project has no public repository yet."
    return Snippet("torch.hub", f"import torch\nmodel = {home.torch_hub(checkpoint.name)}", note)


def _verbs(checkpoint: Checkpoint) -> Snippet:
    flag = "" if checkpoint.bundled or checkpoint.has_public_hash else " --allow-unverified"
    return Snippet("Command line", f"robust-zoo download {checkpoint.name}{flag}")
