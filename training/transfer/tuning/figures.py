"""What fine-tuning did: accuracies of the source with a fitted head, and of what it became; each with its evidence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_zoo.pixels import PixelModel
from robust_zoo.registry.reported import attack_title
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.attacks.settings import in_words
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.dataset import Dataset, spread
from robust_zoo.training.evaluation import engine, ledger
from robust_zoo.training.evaluation.entries import EntryKey
from robust_zoo.training.evaluation.progress import bar, show
from robust_zoo.training.signals import Interrupt
from robust_zoo.weights.safetensors_file import chunks_of

PGD, AUTOATTACK = "pgd-20", "autoattack"
_PGD_IMAGES = 1000
AUTOATTACK_CLASSES = 4  # the fewest that its targeted loss is defined for


@dataclass(frozen=True)
class Plan:
    """What is measured before and after.

    Attributes:
        threat: Of the attacks; None: clean accuracy alone.
        autoattack: How many test images AutoAttack is run on, evenly spread; 0 leaves it out.
    """

    threat: ThreatModel | None
    autoattack: int

    def attacks(self, test: Dataset, classes: int) -> list[tuple[str, int]]:
        """Attacks, each with the number of test images that it is run on."""
        n, found = len(test), [("none", len(test))]
        if self.threat is not None:
            found.append((PGD, min(n, _PGD_IMAGES)))
            if self.autoattack and classes >= AUTOATTACK_CLASSES:
                found.append((AUTOATTACK, min(n, self.autoattack)))
        return found

    def unmeasured(self, classes: int) -> str:
        """Why AutoAttack is not among the attacks, as a sentence; "" where it is, or where there are none."""
        if self.threat is None or (self.autoattack and classes >= AUTOATTACK_CLASSES):
            return ""
        why = "its targeted loss needs four classes" if classes < AUTOATTACK_CLASSES else "it was not asked for"
        return f"AutoAttack was not run: {why}."


def measure(
    network: nn.Module, name: str, checkpoint: Checkpoint, test: Dataset, called: str, plan: Plan, *,
    classes: int, evidence: Path, device: torch.device, interrupt: Interrupt, progress: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    """Clean accuracy and, with a threat model, that under its attacks; what was measured before is read.

    Args:
        network: Normalised images -> logits.
        name: What it is called.
        checkpoint: The source, with the preprocessing.
        test: The images.
        called: What they are called.
        plan: The attacks.
        classes: How many there are.
        evidence: The ledger that every image's fate goes to.
        device: Where it is measured.
        interrupt: Says when to stop.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The fields of Measurements, but for the weights' hash; clean accuracy first.

    Raises:
        Stopped: A signal came; what is measured is saved.
    """
    digest = hashlib.sha256()
    for chunk in chunks_of(network.state_dict(), {}):
        digest.update(chunk)
    p = checkpoint.preprocessing
    model = PixelModel(network, p.mean, p.std).eval().requires_grad_(False).to(device)
    model = model.to(memory_format=torch.channels_last)
    example = torch.cat([images for images, _ in spread(test, 4).batches(4)]).to(device)
    folded, found = folded_model(model, example).model, []
    for attack, n in plan.attacks(test, classes):
        images, which = (test, called) if n == len(test) else (spread(test, n), f"{called}, {n} evenly spread")
        threat = plan.threat if plan.threat and suite(attack) else ThreatModel("l2", 0.0)
        key = EntryKey(name, digest.hexdigest(), which, images.sha256, attack, threat)
        evaluation = engine.Evaluation(
            folded, threat, suite(attack), key.batch_size, key.seed, poll=interrupt.poll, device=device
        )
        label = f"{name} {attack_title(attack) if suite(attack) else 'clean accuracy'}"
        with bar(label, shown=progress) as shown:
            entry = ledger.complete(evidence, key, evaluation, images, report=partial(show, shown))
        assert entry is not None  # all shards are this process's
        attacked = {"norm": threat.norm, "eps": threat.eps, "settings": in_words(attack)} if suite(attack) else {}
        right = {"correct": entry["robust_correct"], "n": n, "data": which, "code": entry["code"]}
        found.append({"attack": attack, **right, **attacked})
    return found
