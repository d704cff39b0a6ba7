"""One adversarial training step (PGD-3, L2 eps 0.5, step 2/3 eps): ours over robustness' own loop on the same work.

    python benchmarks/training_step.py [--rounds 7] [--json FILE]
    python benchmarks/training_step.py --device cuda --architecture resnet50 --size 224 --batch 256 --precision bf16

Rounds alternate in one process; a ratio is the median of the rounds' own, above 1 where ours is faster. robustness runs
its code of 2020 untouched, always in fp32: with the last iterate, which is our work, and the best one, its default, a
forward pass more; on a GPU with TF32 convolutions and without. That the work is the same is checked on the first
round's loss. Peak memory is of each side alone: on a GPU as torch counts it, on a CPU what a process grows by in its
first two steps. Needs the libraries of `make test-peers`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo import __version__
from robust_zoo.architectures.build import build
from robust_zoo.pixels import PixelModel
from robust_zoo.threat import ThreatModel
from robust_zoo.training.distributed import World
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.steps.passes import memory_format, optimizer_for
from robust_zoo.training.steps.step import make_step

ROOT = Path(__file__).parents[1]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS = 2  # a round
EPS = 0.5
CPU_CASES = [("resnet18_x0_25", 32, 16), ("resnet18_x0_25", 32, 32), ("resnet18", 64, 8)]
PEER = {  # how robustness is run: TF32 convolutions (None: there are none), best iterate
    "cpu": {"robustness": (None, False), "robustness, best": (None, True)},
    "cuda": {
        "robustness TF32": (True, False),
        "robustness TF32, best": (True, True),
        "robustness fp32": (False, False),
    },
}
Side = Callable[..., float]  # does STEPS steps; the mean of their losses


def model_of(architecture: str, device: str) -> PixelModel:
    torch.manual_seed(0)
    network = build(architecture, num_classes=1000)
    return PixelModel(network, MEAN, STD).to(device).train()


def recipe_of(architecture: str, batch: int, eps: float = EPS) -> Recipe:
    return Recipe(
        architecture=architecture,
        dataset="imagenet",
        threat=ThreatModel("l2", eps),
        epochs=1,
        batch_size=batch,
        lr=0.01,
        schedule="step",
        augment="robustness",
    )


def batches_of(size: int, batch: int, device: str) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [
        (torch.rand(batch, 3, size, size, device=device), torch.randint(0, 1000, (batch,), device=device))
        for _ in range(STEPS)
    ]


def ours(architecture: str, size: int, batch: int, device: str, precision: str) -> Side:
    model, recipe = model_of(architecture, device), recipe_of(architecture, batch)
    batches = batches_of(size, batch, device)
    how = memory_format(model, batches[0][0])
    model.to(memory_format=how)
    world = World(0, 1, torch.device(device))
    step = make_step(model, recipe, optimizer_for(model, recipe), bf16=precision == "bf16", world=world)
    batches = [(x.contiguous(memory_format=how), y) for x, y in batches]

    return lambda **_: float(sum(step(images, labels).loss / batch for images, labels in batches) / STEPS)


def theirs(architecture: str, size: int, batch: int, device: str, eps: float = EPS) -> Side:
    robustness = load_robustness(device)
    model, recipe, train = model_of(architecture, device), recipe_of(architecture, batch, eps), robustness.train
    args = train.Parameters(
        {
            "epochs": 1,
            "lr": recipe.lr,
            "momentum": recipe.momentum,
            "weight_decay": recipe.weight_decay,
            "step_lr": 30,
            "step_lr_gamma": 0.1,
            "custom_lr_multiplier": None,
            "mixed_precision": 0,
            "adv_train": int(eps > 0),
            "constraint": "2",
            "eps": eps,
            "attack_lr": eps * 2 / 3,
            "attack_steps": 3,
            "use_best": True,
            "random_restarts": 0,
            "random_start": 0,
            "custom_eps_multiplier": None,
        }
    )
    data = types.SimpleNamespace(mean=torch.tensor(MEAN), std=torch.tensor(STD))
    attacker, _ = robustness.model_utils.make_and_restore_model(arch=model.model, dataset=data, add_custom_forward=True)
    attacker = attacker.to(device)
    optimizer, _ = train.make_optimizer_and_schedule(args, attacker, None, None)
    train.tqdm = lambda steps, **_: _Quiet(steps)
    batches = batches_of(size, batch, device)

    def run(best: bool = False) -> float:
        args.use_best = best
        return train._model_loop(args, "train", batches, attacker, optimizer, 0, eps > 0, None)[1]

    return run


class _Quiet(list):
    """A progress bar that says nothing."""

    def set_description(self, text: str) -> None:
        pass

    def refresh(self) -> None:
        pass


def load_robustness(device: str) -> Any:
    """The library, with the one module it misses in today's torchvision; on a CPU with no need for a GPU."""
    gone: Any = types.ModuleType("torchvision.models.utils")
    gone.load_state_dict_from_url = torch.hub.load_state_dict_from_url
    sys.modules[gone.__name__] = gone
    if device == "cpu":
        nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
        Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
    import robustness
    import robustness.model_utils
    import robustness.train

    return robustness


def peak(side: str, case: tuple[str, int, int], device: str, precision: str) -> float:
    """MB, of a process that runs this side alone."""
    code = (
        f"import torch; torch.set_num_threads(1)\nimport training_step as t\ncase, device = {case!r}, {device!r}\n"
        f"run = t.ours(*case, device, {precision!r}) if {side!r} == 'ours' else t.theirs(*case, device)\n"
        "before = t.used(device, 'VmRSS'); run(); print(t.used(device, 'VmHWM') - before)"
    )
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])}
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | path,
    ).stdout
    return round(float(out.split()[-1]), 1)


def used(device: str, key: str) -> float:
    """MB: on a CPU a line of /proc/self/status (VmRSS: now, from where a new peak begins; VmHWM: peak), on a GPU 0 and
    the peak. Not ru_maxrss, which a process inherits from the one that started it."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e6 if key == "VmHWM" else 0.0
    if key == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e6


def compare(case: tuple[str, int, int], rounds: int, device: str, precision: str) -> dict[str, Any]:
    """The case's name, and images a second, ratios and peaks by side."""
    peaks = {side: peak(side, case, device, precision) for side in ("ours", "robustness")}  # while the GPU is empty
    peer = PEER[torch.device(device).type]
    own, other = ours(*case, device, precision), theirs(*case, device)
    taken: dict[str, list[float]] = {name: [] for name in ("ours", *peer)}
    losses: dict[str, float] = {}
    for round_ in range(rounds + 1):  # the first warms up
        for name in taken if round_ % 2 == 0 else reversed(taken):
            tf32, best = peer.get(name, (True, False))
            torch.backends.cudnn.allow_tf32 = tf32 is not False
            started = time.perf_counter()
            loss = (own if name == "ours" else other)(best=best)
            if device != "cpu":
                torch.cuda.synchronize()
            losses.setdefault(name, loss)
            if round_:
                taken[name].append((time.perf_counter() - started) / STEPS)
    first = losses[next(iter(peer))]
    assert abs(losses["ours"] / first - 1) < (0.05 if precision == "bf16" else 0.005), "the work differs"
    pairs = {name: zip(values, taken["ours"], strict=True) for name, values in taken.items()}
    return {
        "case": f"{case[0]} {case[1]} px, batch {case[2]}",
        "images_per_second": {name: round(case[2] / statistics.median(values), 2) for name, values in taken.items()},
        "ratio": {
            name: round(statistics.median(a / b for a, b in both), 3) for name, both in pairs.items() if name != "ours"
        },
        "peak_mb": peaks,
    }


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['case']:<28}{'images/s':>10}{'ours over it':>16}{'peak MB':>10}")
    peaks = dict(zip(result["images_per_second"], result["peak_mb"].values(), strict=False))  # ours, its first rival
    for name, speed in result["images_per_second"].items():
        ratio = f"{result['ratio'][name]:.2f} x" if name in result["ratio"] else ""
        print(f"{name:<28}{speed:>10.2f}{ratio:>16}{f'{peaks[name]:.0f}' if name in peaks else '':>10}", flush=True)


def processor() -> str:
    """The CPU's name, for the record."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--architecture", help="with --size and --batch, instead of the three small CPU cases")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="ours; robustness has fp32 alone")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    own = (arguments.architecture, arguments.size, arguments.batch)
    cases = [own] if arguments.architecture else CPU_CASES
    results = []
    for case in cases:
        results.append(compare(case, arguments.rounds, arguments.device, arguments.precision))
        show(results[-1])
    if arguments.json:
        about = {
            "benchmark": "training_step",
            "date": str(date.today()),
            "device": processor() if arguments.device == "cpu" else torch.cuda.get_device_name(arguments.device),
            "threads": torch.get_num_threads(),
            "precision": arguments.precision,
            "rounds": arguments.rounds,
            "versions": {"robust_zoo": __version__, "python": platform.python_version(), "torch": torch.__version__}
            | {name: version(name) for name in ("timm", "robustness")},
        }
        arguments.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
