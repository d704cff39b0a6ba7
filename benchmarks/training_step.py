"""One adversarial training step (PGD-3, L2 eps 0.5, step 2/3 eps): ours over robustness' own loop on the same work.

    python benchmarks/training_step.py [--rounds 7] [--json FILE]
    python benchmarks/training_step.py --device cuda --architecture resnet50 --size 224 --batch 256 --precision bf16

Rounds alternate in one process; the ratio is the median of the rounds' own. Peak memory is of each side alone: on a GPU
as torch counts it, on the CPU the growth of a process of its own. robustness runs in fp32, on a GPU with TF32
convolutions and without. Needs `make test-peers`' libraries.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo import architectures
from robust_zoo.normalize import PixelModel
from robust_zoo.threat import ThreatModel
from robust_zoo.training.distributed import World
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.step import make_step, optimizer_for

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS = 2  # a round
CPU_CASES = [("resnet18_x0_25", 32, 16), ("resnet18_x0_25", 32, 32), ("resnet18", 64, 8)]
Side = Callable[[], None]


def model_of(architecture: str, device: str) -> PixelModel:
    torch.manual_seed(0)
    network = architectures.build(architecture, num_classes=1000)
    return PixelModel(network, MEAN, STD).to(device).train()


def recipe_of(architecture: str, batch: int) -> Recipe:
    return Recipe(
        architecture=architecture, dataset="imagenet", threat=ThreatModel("l2", 0.5), epochs=1, batch_size=batch,
        lr=0.01, schedule="step", augment="robustness",
    )  # fmt: skip


def batches_of(size: int, batch: int, device: str) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [
        (torch.rand(batch, 3, size, size, device=device), torch.randint(0, 1000, (batch,), device=device))
        for _ in range(STEPS)
    ]


def ours(architecture: str, size: int, batch: int, device: str, precision: str) -> Side:
    model, recipe = model_of(architecture, device), recipe_of(architecture, batch)
    model.to(memory_format=torch.channels_last)
    world = World(0, 1, torch.device(device))
    step = make_step(model, recipe, optimizer_for(model, recipe), bf16=precision == "bf16", world=world)
    batches = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in batches_of(size, batch, device)]

    def run() -> None:
        for images, labels in batches:
            step(images, labels)

    return run


def theirs(architecture: str, size: int, batch: int, device: str) -> Side:
    robustness = load_robustness(device)
    model, recipe, train = model_of(architecture, device), recipe_of(architecture, batch), robustness.train
    args = train.Parameters(
        {
            "epochs": 1, "lr": recipe.lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay,
            "step_lr": 30, "step_lr_gamma": 0.1, "custom_lr_multiplier": None, "mixed_precision": 0, "adv_train": 1,
            "constraint": "2", "eps": 0.5, "attack_lr": 0.5 * 2 / 3, "attack_steps": 3, "use_best": True,
            "random_restarts": 0, "random_start": 0, "custom_eps_multiplier": None,
        }
    )  # fmt: skip
    data = types.SimpleNamespace(mean=torch.tensor(MEAN), std=torch.tensor(STD))
    attacker, _ = robustness.model_utils.make_and_restore_model(arch=model.model, dataset=data, add_custom_forward=True)
    attacker = attacker.to(device)
    optimizer, _ = train.make_optimizer_and_schedule(args, attacker, None, None)
    train.tqdm = lambda steps, **_: _Quiet(steps)
    batches = batches_of(size, batch, device)
    return lambda: train._model_loop(args, "train", batches, attacker, optimizer, 0, True, None)


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


def seconds(side: Side, device: str) -> float:
    started = time.perf_counter()
    side()
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / STEPS


def peak(side: str, case: tuple[str, int, int], device: str, precision: str) -> float:
    """MB, of a process that runs this side alone."""
    code = (
        "import sys, resource, torch; sys.path.insert(0, 'benchmarks'); torch.set_num_threads(1)\n"
        "import training_step as t\n"
        f"case, device = {case!r}, {device!r}\n"
        f"run = t.ours(*case, device, {precision!r}) if {side!r} == 'ours' else t.theirs(*case, device)\n"
        "before = t.used(device); run(); print(t.used(device) - before * (device == 'cpu'))"
    )
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    return float(out.stdout.split()[-1])


def used(device: str) -> float:
    """MB at most so far, in this process."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return torch.cuda.max_memory_allocated() / 1e6


def compare(case: tuple[str, int, int], rounds: int, device: str, precision: str) -> dict[str, Any]:
    sides = {"ours": ours(*case, device, precision), "robustness": theirs(*case, device)}
    modes = (
        {"ours": None, "robustness": False} if device == "cpu" else {"ours": None, "robustness": True, "fp32": False}
    )
    taken: dict[str, list[float]] = {name: [] for name in modes}
    for round_ in range(rounds + 1):
        for name, tf32 in modes.items():
            torch.backends.cudnn.allow_tf32 = tf32 is not False
            value = seconds(sides["ours" if name == "ours" else "robustness"], device)
            if round_:  # the first warms up
                taken[name].append(value)
    batch = case[2]
    result: dict[str, Any] = {"case": f"{case[0]} {case[1]} px, batch {batch}"}
    for name, values in taken.items():
        result[f"{name}_images_per_second"] = round(batch / statistics.median(values), 2)
        if name != "ours":
            pairs = zip(values, taken["ours"], strict=True)
            result[f"ratio_to_{name}"] = round(statistics.median(a / b for a, b in pairs), 3)
    for side in ("ours", "robustness"):
        result[f"{side}_peak_mb"] = round(peak(side, case, device, precision), 1)
    return result


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
    results = [compare(case, arguments.rounds, arguments.device, arguments.precision) for case in cases]
    for result in results:
        print("  ".join(f"{key.replace('_', ' ')} {value}" for key, value in result.items()), flush=True)
    if arguments.json:
        where = platform.processor() or platform.machine()
        about = {
            "benchmark": "training_step", "precision": arguments.precision, "torch": torch.__version__,
            "device": where if arguments.device == "cpu" else torch.cuda.get_device_name(), "date": str(date.today()),
        }  # fmt: skip
        arguments.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
