"""Ours over the other attack libraries: PGD-20 with and without leaving early, and AutoAttack, on a bundled model.

    python benchmarks/attacks.py [--rounds 5] [--images 64] [--autoattack] [--json FILE]

Rounds alternate in one process, one thread; a ratio is the median of the rounds' own, above 1 where ours is faster. PGD
is Linf 8/255 from the image itself, where all libraries give the same pixels (see tests/peers). "until wrong" counts
robust images only. Needs the libraries of `make test-peers`.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import time
import types
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from training_step import load_robustness

from robust_zoo import create_model, pixel_model
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.attacks.pgd import pgd, pgd_until_wrong
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.cifar10_sample import cifar10_sample

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
THREAT, STEPS = ThreatModel.parse("linf", "8/255"), 20
STEP = 2.5 * THREAT.eps / STEPS
Attack = Callable[[Tensor, Tensor], Tensor]


def folded(model: nn.Module, images: Tensor) -> nn.Module:
    return folded_model(model.to(memory_format=torch.channels_last), images[:4]).model


def pgd_sides(model: nn.Module, images: Tensor) -> dict[str, Attack]:
    import foolbox
    import torchattacks
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    fast = folded(pixel_model(create_model(NAME)).eval(), images)
    with_foolbox = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    of_foolbox = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
    of_torchattacks = torchattacks.PGD(model, eps=THREAT.eps, alpha=STEP, steps=STEPS, random_start=False)
    estimator = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), images.shape[1:], 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    of_art = ProjectedGradientDescentPyTorch(
        estimator, norm=np.inf, eps=THREAT.eps, eps_step=STEP, max_iter=STEPS, batch_size=len(images), verbose=False
    )
    robustness = load_robustness("cpu")
    statistics = types.SimpleNamespace(mean=model.mean.flatten(), std=model.std.flatten())
    attacker, _ = robustness.model_utils.make_and_restore_model(
        arch=create_model(NAME), dataset=statistics, add_custom_forward=True
    )
    attacker.eval()
    of_robustness = {
        "make_adv": True,
        "constraint": "inf",
        "eps": THREAT.eps,
        "step_size": STEP,
        "iterations": STEPS,
        "random_start": False,
        "use_best": False,
        "do_tqdm": False,
    }
    return {
        "ours": lambda x, y: pgd(fast, x, y, THREAT, steps=STEPS, step_size=STEP),
        "ours, until wrong": lambda x, y: pgd_until_wrong(fast, x, y, THREAT, steps=STEPS),
        "torchattacks": of_torchattacks,
        "robustness": lambda x, y: attacker(x, y, **of_robustness)[1],
        "foolbox": lambda x, y: of_foolbox(with_foolbox, x, y, epsilons=THREAT.eps)[0],
        "ART": lambda x, y: torch.from_numpy(of_art.generate(x.numpy(), y.numpy())),
    }


def autoattack_sides(model: nn.Module, images: Tensor) -> dict[str, Attack]:
    from pyautoattack import AutoAttack

    fast = folded(pixel_model(create_model(NAME)).eval(), images)
    for parameter in fast.parameters():
        parameter.requires_grad_(False)
    theirs = AutoAttack(model, norm="Linf", eps=THREAT.eps, seed=0, device="cpu")
    theirs.logger.setLevel(logging.ERROR)

    def ours(images: Tensor, labels: Tensor) -> Tensor:
        adv_images, left = images.clone(), torch.arange(len(images))
        for stage in suite("autoattack"):
            adv_images[left] = stage(fast, images[left], labels[left], THREAT, seed=0, poll=None)
            left = left[fast(adv_images[left]).argmax(1) == labels[left]]
        return adv_images

    return {"ours": ours, "pyautoattack": lambda x, y: theirs.run_standard_evaluation(x, y, batch_size=len(x))[0]}


def compare(sides: dict[str, Attack], model: nn.Module, images: Tensor, labels: Tensor, rounds: int) -> list[dict]:
    taken: dict[str, list[float]] = {name: [] for name in sides}
    robust = {}
    for round_ in range(rounds + (rounds > 1)):
        for name, attack in sides.items():
            started = time.perf_counter()
            found = attack(images, labels)
            if round_ or rounds == 1:  # the first warms up
                taken[name].append(time.perf_counter() - started)
            robust[name] = int((model(found).argmax(1) == labels).sum())
    return [
        {
            "name": name,
            "images_per_second": round(len(images) / statistics.median(values), 2),
            "ours_is_faster": round(statistics.median(a / b for a, b in zip(values, taken["ours"], strict=True)), 2),
            "robust": robust[name],
        }
        for name, values in taken.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--autoattack", action="store_true", help="the whole standard AutoAttack instead, one round")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    data = cifar10_sample(100)
    order = torch.arange(1000).view(10, 100).T.flatten()[: arguments.images]
    images, labels = data.images[order].float() / 255, data.labels[order]
    model = pixel_model(create_model(NAME)).eval()
    sides = (autoattack_sides if arguments.autoattack else pgd_sides)(model, images)
    results = compare(sides, model, images, labels, 1 if arguments.autoattack else arguments.rounds)
    for r in results:
        speed = f"{r['images_per_second']:8.2f} images/s  ours {r['ours_is_faster']:.2f} x"
        print(f"{r['name']:<20} {speed}  {r['robust']} robust")
    if arguments.json:
        about = {
            "benchmark": "attacks",
            "torch": torch.__version__,
            "device": platform.machine(),
            "date": str(date.today()),
        }
        arguments.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
