"""Parity and speed of attacks on the bundled models and their 1,000 images, on one device.

    python benchmarks/gpu/attacks.py OUT parity|pgd|autoattack

parity: PGD-20's adversarial images (L2 0.5 and Linf 8/255) in each setting against fp32 without anything: how far the
perturbations lie apart (median over images, relative), the loss they reach and how many images stay robust, both judged
by the fp32 model. pgd: ours beside torchattacks at equal steps. autoattack: ours beside pyautoattack at equal flags.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pieces import SMALL, Plain, captured, seconds
from torch import Tensor, nn

from robust_zoo import create_model, pixel_model
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.attacks.pgd import pgd, pgd_until_wrong
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.cifar10_sample import cifar10_sample

MODELS = {"l2:0.5": "resnet18_x0_25_cifar10_l2_eps0_5", "linf:8/255": "resnet18_x0_25_cifar10_linf_eps8"}
COUNT = 16 if SMALL else 1000
STEPS = 4 if SMALL else 20


def model_of(name: str, device: str) -> nn.Module:
    return Plain(pixel_model(create_model(name))).to(device).to(memory_format=torch.channels_last).eval()


def data(device: str) -> tuple[Tensor, Tensor]:
    sample = cifar10_sample(100)
    order = torch.arange(1000).view(10, 100).T.flatten()[:COUNT]
    images = sample.images[order].to(device).float() / 255
    return images.contiguous(memory_format=torch.channels_last), sample.labels[order].to(device)


def robust(model: nn.Module, adv_images: Tensor, labels: Tensor) -> int:
    with torch.no_grad():
        return int((model(adv_images).argmax(1) == labels).sum())


def parity(device: str) -> list[dict]:
    images, labels = data(device)
    rows = []
    for words, name in MODELS.items():
        threat, model = ThreatModel.parse(*words.split(":")), model_of(name, device)
        folded, folded16 = (folded_model(model, images[:4], dtype=d).model for d in (None, torch.bfloat16))
        settings: dict[str, tuple[nn.Module, bool, bool, bool]] = {  # network, tf32, bf16, graph
            "fp32": (model, False, False, False),
            "fp32 again": (model, False, False, False),
            "TF32": (model, True, False, False),
            "fp32 folded": (folded, False, False, False),
            "fp32 folded graph": (folded, False, False, True),
            "bf16": (model, True, True, False),
            "bf16 folded": (folded16, True, True, False),
            "bf16 folded graph": (folded16, True, True, True),
            "bf16 folded compiled": (torch.compile(folded16, dynamic=False), True, True, False),
            "bf16 folded compiled graph": (torch.compile(folded16, dynamic=False), True, True, True),
        }
        if SMALL:
            settings = {k: v for k, v in settings.items() if "graph" not in k and "compiled" not in k}
        expected: Tensor | None = None
        for setting, (network, tf32, bf16, graph) in settings.items():
            row: dict[str, Any] = {"part": "parity", "model": name, "name": setting}
            torch.backends.cudnn.allow_tf32 = tf32

            def work(network: nn.Module = network, bf16: bool = bf16, threat: ThreatModel = threat) -> Tensor:
                with torch.autocast(device, torch.bfloat16, enabled=bf16, cache_enabled=False):
                    size = 2.5 * threat.eps / STEPS
                    return pgd(network, images, labels, threat, steps=STEPS, step_size=size, in_range=True)

            try:
                run = captured(work) if graph else work
                adv_images = run().clone()
                torch.backends.cudnn.allow_tf32 = False
                expected = adv_images if expected is None else expected
                delta, reference = (adv_images - images).flatten(1), (expected - images).flatten(1)
                row["delta_apart"] = ((delta - reference).norm(dim=1) / reference.norm(dim=1)).median().item()
                with torch.no_grad():
                    row["loss"] = F.cross_entropy(model(adv_images), labels).item()
                row["robust"] = robust(model, adv_images, labels)
                torch.backends.cudnn.allow_tf32 = tf32
                row["images_per_second"] = round(len(images) / statistics.median(seconds(run, device, at_least=0.3)))
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"[:300]
            rows.append(row)
            print(row, flush=True)
    return rows


def compare(part: str, sides: dict[str, Callable[[], Tensor]], model: nn.Module, labels: Tensor, rounds: int) -> list:
    rows = []
    for name, work in sides.items():
        wait = torch.cuda.synchronize if labels.is_cuda else lambda: None
        try:
            taken = []
            for _ in range(rounds):
                started = time.perf_counter()
                adv_images = work()
                wait()
                taken.append(time.perf_counter() - started)
            row = {"seconds": taken, "images_per_second": round(len(labels) / min(taken), 1)}
            row["robust"] = robust(model, adv_images, labels)
        except Exception as error:
            row = {"error": f"{type(error).__name__}: {error}"[:300]}
        rows.append({"part": part, "name": name} | row)
        print(rows[-1], flush=True)
    return rows


def against_torchattacks(device: str) -> list[dict]:
    import torchattacks

    words = "linf:8/255"
    threat, model = ThreatModel.parse(*words.split(":")), model_of(MODELS[words], device)
    images, labels = data(device)
    step = 2.5 * threat.eps / STEPS
    fast = folded_model(model, images[:4]).model
    theirs = torchattacks.PGD(model, eps=threat.eps, alpha=step, steps=STEPS, random_start=False)

    def bf16() -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return pgd_until_wrong(fast, images, labels, threat, steps=STEPS)

    sides = {
        "torchattacks": lambda: theirs(images, labels),
        "ours": lambda: pgd(fast, images, labels, threat, steps=STEPS, step_size=step),
        "ours, until wrong": lambda: pgd_until_wrong(fast, images, labels, threat, steps=STEPS),
        "ours, until wrong, bf16": bf16,
    }
    return compare("pgd", sides, model, labels, 5)


def against_pyautoattack(device: str) -> list[dict]:
    from pyautoattack import AutoAttack

    count = 16 if SMALL else int(os.environ.get("AA_IMAGES", "1000"))
    words = "linf:8/255"
    threat, model = ThreatModel.parse(*words.split(":")), model_of(MODELS[words], device)
    images, labels = (x[:count] for x in data(device))
    fast = folded_model(model, images[:4]).model
    for parameter in fast.parameters():
        parameter.requires_grad_(False)
    stages: dict[str, float] = {}

    def ours() -> Tensor:
        adv_images, left = images.clone(), torch.arange(len(images), device=device)
        for stage in suite("autoattack"):
            started = time.perf_counter()
            adv_images[left] = stage(fast, images[left], labels[left], threat, seed=0, poll=None)
            left = left[fast(adv_images[left]).argmax(1) == labels[left]]
            stages[getattr(stage, "name", str(stage))] = round(time.perf_counter() - started, 1)
        print(stages, flush=True)
        return adv_images

    attack = AutoAttack(model, norm="Linf", eps=threat.eps, seed=0, device=device)
    attack.logger.setLevel(logging.INFO)
    sides = {
        "ours": ours,
        "pyautoattack": lambda: attack.run_standard_evaluation(images.contiguous(), labels, batch_size=count)[0],
    }
    rows = compare("autoattack", sides, model, labels, 1)
    return [*rows, {"part": "autoattack", "name": "ours by stage", "stages": stages}]


PARTS = {"parity": parity, "pgd": against_torchattacks, "autoattack": against_pyautoattack}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("part", choices=PARTS)
    a = parser.parse_args()
    rows = PARTS[a.part]("cuda" if torch.cuda.is_available() else "cpu")
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / f"{a.part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
