"""Ours over the other attack libraries: PGD-20 with and without leaving early, and AutoAttack, on a bundled model.

    python benchmarks/attacks.py [--rounds 5] [--images 64] [--model NAME] [--json FILE]
    python benchmarks/attacks.py --autoattack [--rounds 1] [--images 100] ...

Rounds alternate in one process, one thread; a ratio is the median of the rounds' own, above 1 where ours is faster. The
clock is the process's CPU time, so that waiting for a core is not counted. Attacks are Linf 8/255. PGD starts from the
image itself, where all libraries give the same pixels (see tests/peers); "until wrong" counts robust images only.
AutoAttack goes stage by stage, each on the images that those before left robust. Needs what `make test-peers` installs.
"""

from __future__ import annotations

import argparse
import json
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
from training_step import load_robustness, processor

from robust_zoo import create_model, pixel_model
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.folding import folded_model
from robust_zoo.training.attacks.pgd import pgd, pgd_until_wrong
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.cifar10_sample import cifar10_sample

THREAT, STEPS = ThreatModel.parse("linf", "8/255"), 20
STEP = 2.5 * THREAT.eps / STEPS
Attack = Callable[[Tensor, Tensor], Tensor]


def folded(model: nn.Module, images: Tensor) -> nn.Module:
    return folded_model(model.to(memory_format=torch.channels_last), images[:4]).model


def pgd_sides(name: str, images: Tensor) -> dict[str, Attack]:
    import foolbox
    import torchattacks
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    model, fast = pixel_model(create_model(name)).eval(), folded(pixel_model(create_model(name)).eval(), images)
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
        arch=create_model(name), dataset=statistics, add_custom_forward=True
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


def autoattack(name: str, images: Tensor, labels: Tensor, rounds: int) -> list[dict]:
    """A row for each stage of the standard AutoAttack, and their sum: both sides' seconds, and who is robust."""
    from pyautoattack import AutoAttack

    model, fast = pixel_model(create_model(name)).eval(), folded(pixel_model(create_model(name)).eval(), images)
    theirs = AutoAttack(model, norm="Linf", eps=THREAT.eps, seed=0, device="cpu")
    theirs.fab.targeted = True
    peer = {"apgd-ce": theirs.apgd, "apgd-t": theirs.apgd_targeted, "fab-t": theirs.fab, "square": theirs.square}
    left, results = torch.arange(len(images)), []
    for stage in suite("autoattack"):
        x, y = images[left], labels[left]
        sides = {
            "ours": lambda x, y, stage=stage: stage(fast, x, y, THREAT, seed=0, poll=None),
            "pyautoattack": lambda x, y, stage=stage: peer[stage.name].perturb(x, y),
        }
        own, other = compare(sides, model, x, y, rounds)
        both = {"ours_s": own["seconds"], "theirs_s": other["seconds"], "ours_is_faster": other["ours_is_faster"]}
        flags = {"robust": len(own["robust"]), "same_flags": own["robust"] == other["robust"]}
        results.append({"name": stage.name, "images": len(left), **both, **flags})
        print_stage(results[-1])
        left = left[own["robust"]]
    whole = {key: round(sum(r[key] for r in results), 2) for key in ("ours_s", "theirs_s")}
    faster = round(whole["theirs_s"] / whole["ours_s"], 2)
    same = all(r["same_flags"] for r in results)
    flags = {"ours_is_faster": faster, "robust": len(left), "same_flags": same}
    results.append({"name": "autoattack", "images": len(images), **whole, **flags})
    print_stage(results[-1])
    return results


def print_stage(r: dict) -> None:
    flags = "the same in both" if r["same_flags"] else "NOT THE SAME in both"
    speed = f"ours {r['ours_s']:8.2f} s  pyautoattack {r['theirs_s']:8.2f} s  ours {r['ours_is_faster']:.2f} x"
    print(f"{r['name']:<11}{r['images']:4d} images  {speed}  {r['robust']} robust, {flags}", flush=True)


def compare(sides: dict[str, Attack], model: nn.Module, images: Tensor, labels: Tensor, rounds: int) -> list[dict]:
    taken: dict[str, list[float]] = {name: [] for name in sides}
    robust = {}
    for round_ in range(rounds + (rounds > 1)):
        for name, attack in sides.items():
            started = time.process_time()
            found = attack(images, labels)
            if round_ or rounds == 1:  # the first warms up
                taken[name].append(time.process_time() - started)
            with torch.no_grad():
                robust[name] = (model(found).argmax(1) == labels).nonzero().flatten().tolist()
    return [
        {
            "name": name,
            "seconds": round(statistics.median(values), 3),
            "ours_is_faster": round(statistics.median(a / b for a, b in zip(values, taken["ours"], strict=True)), 2),
            "robust": robust[name],
        }
        for name, values in taken.items()
    ]


def pgd_rows(name: str, images: Tensor, labels: Tensor, rounds: int) -> list[dict]:
    """A row for each library."""
    rows = compare(pgd_sides(name, images), pixel_model(create_model(name)).eval(), images, labels, rounds)
    for row in rows:
        row |= {"images_per_second": round(len(images) / row["seconds"], 2), "robust": len(row["robust"])}
        speed = f"{row['images_per_second']:8.2f} images/s  ours {row['ours_is_faster']:.2f} x"
        print(f"{row['name']:<20} {speed}  {row['robust']} robust")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18_x0_25_cifar10_l2_eps0_5", help="a bundled one")
    parser.add_argument("--rounds", type=int, help="5 of PGD, 1 of AutoAttack")
    parser.add_argument("--images", type=int, help="64 for PGD, 100 for AutoAttack")
    parser.add_argument("--autoattack", action="store_true", help="the whole standard AutoAttack instead")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    run, images, rounds = (autoattack, 100, 1) if arguments.autoattack else (pgd_rows, 64, 5)
    data = cifar10_sample(100)
    order = torch.arange(1000).view(10, 100).T.flatten()[: arguments.images or images]
    print(f"{arguments.model}, {THREAT}, {len(order)} images")
    results = run(arguments.model, data.images[order].float() / 255, data.labels[order], arguments.rounds or rounds)
    if arguments.json:
        about = {
            "benchmark": "attacks",
            "model": arguments.model,
            "torch": torch.__version__,
            "device": processor(),
            "date": str(date.today()),
        }
        arguments.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
