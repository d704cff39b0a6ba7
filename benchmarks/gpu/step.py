"""A training step (PGD-3, L2 0.5) built up piece by piece, beside robustness' own loop, on one device.

    python benchmarks/gpu/step.py OUT ARCHITECTURE SIZE BATCH [--eps 0] [--profile]

Each setting's images/s, peak memory, share of the bf16 roofline, and first loss over that of fp32 without anything; a
line of OUT/step-....jsonl each, written as soon as it is known.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from pieces import SMALL, Pieces, Setting, seconds
from training_step import EPS, STEPS, model_of, recipe_of, theirs

from robust_zoo.training.distributed import World
from robust_zoo.training.steps.compiling import choose
from robust_zoo.training.steps.passes import optimizer_for
from robust_zoo.training.steps.step import make_step

LADDER = {
    "fp32": Setting(bf16=False, tf32=False, tuned=False, fold=False),
    "TF32": Setting(bf16=False, tuned=False, fold=False),
    "bf16": Setting(tuned=False, fold=False),
    "bf16, folded": Setting(tuned=False),
    "bf16, folded, tuned": Setting(),
    "+ attack graph": Setting(graph=("attack",)),
    "+ attack compiled": Setting(compile=("attack",)),
    "+ attack compiled, graph": Setting(compile=("attack",), graph=("attack",)),
    "+ both compiled": Setting(compile=("attack", "update")),
    "+ both compiled, step graph": Setting(compile=("attack", "update"), graph=("step",)),
    "step graph, nothing compiled": Setting(graph=("step",)),
}
TRAIN = "what `train` does"  # the step itself, in the way that it chooses by its own trial
PROFILED = (LADDER["bf16, folded, tuned"], LADDER["+ both compiled, step graph"])
PEERS = {"robustness fp32": (False, False), "robustness TF32": (True, False), "robustness TF32, tuned": (True, True)}
SHOWN = ("images_per_second", "way", "peak_gb", "roof_share", "loss_ratio", "took", "error")
GFLOP = {"resnet50": 8.18, "resnet18": 3.63, "wide_resnet50_2": 22.8, "convnext_tiny": 8.9}  # a forward at 224
ROOF = 790e12  # bf16 matrix product measured on this kind of card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("architecture")
    parser.add_argument("size", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("--eps", type=float, default=EPS)
    parser.add_argument("--only", nargs="+", default=[*PEERS, TRAIN, *LADDER])
    parser.add_argument("--profile", action="store_true", help="also which kernels take the time")
    a = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    file = a.out / f"step-{a.architecture}-{a.size}-{a.batch}-eps{a.eps:g}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    images = torch.rand(a.batch, 3, a.size, a.size, device=device)
    labels = torch.randint(0, 1000, (a.batch,), device=device)
    first = None
    for name in a.only:
        if SMALL and ("graph" in name or "compiled" in name):
            continue
        started = time.perf_counter()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        row: dict[str, Any] = {"name": name, "architecture": a.architecture, "size": a.size, "batch": a.batch}
        row["eps"] = a.eps
        try:
            if name in PEERS:
                row |= peer(name, a, device)
            elif name == TRAIN:
                row |= real(a, images, labels, device)
            else:
                row |= own(LADDER[name], a, images, labels, device, a.profile)
                first = first or row["loss"]
                row["loss_ratio"] = round(row["loss"] / first, 5)
        except Exception as error:
            traceback.print_exc(limit=-3)
            row["error"] = f"{type(error).__name__}: {error}"[:300]
        gc.collect()
        if device == "cuda":
            row["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
            torch.cuda.empty_cache()
        if "seconds" in row:
            passes = 9 if a.eps else 3
            row["images_per_second"] = round(a.batch / statistics.median(row["seconds"]), 1)
            work = GFLOP.get(a.architecture, 0) * 1e9 * passes * row["images_per_second"]
            row["roof_share"] = round(work / ROOF, 4)
        row["took"] = round(time.perf_counter() - started, 1)
        with file.open("a") as out:
            out.write(json.dumps(row) + "\n")
        shown = {k: row[k] for k in SHOWN if k in row}
        print(f"{a.architecture} {a.size} {a.batch} eps {a.eps:g}  {name:<32}", shown, flush=True)


def own(setting: Setting, a: Any, images: torch.Tensor, labels: torch.Tensor, device: str, profile: bool) -> dict:
    model = model_of(a.architecture, device).to(memory_format=torch.channels_last)
    pieces = Pieces(model, recipe_of(a.architecture, a.batch, a.eps), setting, images, labels)
    row = {"loss": first_loss(pieces)}
    row["seconds"] = seconds(pieces.step, device)
    if a.eps:
        row["attack_share"] = round(
            statistics.median(seconds(pieces.adversarial, device, at_least=0.5)) / statistics.median(row["seconds"]), 3
        )
    if profile and device == "cuda" and setting in PROFILED:
        kernels(pieces, a)
    torch._dynamo.reset()
    return row


def real(a: Any, images: torch.Tensor, labels: torch.Tensor, device: str) -> dict:
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = True, False
    model, recipe = model_of(a.architecture, device), recipe_of(a.architecture, a.batch, a.eps)
    model.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    world = World(0, 1, torch.device(device))
    step = make_step(model, recipe, optimizer_for(model, recipe), bf16=True, world=world, check_every=10)
    choice = choose(step, images, labels, recipe)
    step.use(choice.way)
    taken = seconds(lambda: step(images, labels), device)
    step.check()
    return {"way": choice.way, "tried": choice.tried, "seconds": taken}


def first_loss(pieces: Pieces) -> float:
    """Of the adversarial images of the model as it is after its warm-up, if any, in this setting's own objective."""
    if "step" in pieces.setting.graph:
        return pieces.step().item()
    adv_images = pieces._adversarial()
    with pieces.autocast(), torch.no_grad():
        loss, _ = pieces.objective(pieces.images, adv_images, pieces.labels)
    return loss.item()


def kernels(pieces: Pieces, a: Any) -> None:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(2):
            pieces.step()
        torch.cuda.synchronize()
    table = found.key_averages().table(sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=90)
    with (a.out / f"kernels-{a.architecture}-{a.batch}.txt").open("a") as out:
        out.write(f"{pieces.setting}\n{table}\n")


def peer(name: str, a: Any, device: str) -> dict:
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = PEERS[name]
    run = theirs(a.architecture, a.size, a.batch, device, a.eps)
    loss = run()
    return {"peer_loss": loss, "seconds": [s / STEPS for s in seconds(run, device, rounds=2)]}


if __name__ == "__main__":
    main()
