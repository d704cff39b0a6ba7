"""Trains the embedded CIFAR-10 grid, several models at a time on one device.

    python benchmarks/grid.py cifar10.npz runs/grid --jobs 4 [--only linf_eps8 ...]

Each model goes through `robust-zoo train` at its own radius; what is done is not done again. The rows to paste are
runs/grid/*/row.toml, the weights beside them go to robust_zoo/bundled. After SIGTERM all save, and the same command
goes on.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from robust_zoo.threat import ThreatModel

BASE = "resnet18_x0_25_cifar10_l2_eps0_5"
RADII = {"l2": (0, 0.1, 0.25, 0.5, 1), "linf": ("2/255", "4/255", "8/255")}
GRID = {t.tag: t for norm, radii in RADII.items() for t in (ThreatModel.parse(norm, eps) for eps in radii)}
STOPPED = 75  # what `robust-zoo train` exits with when it was told to stop
told_to_stop = Event()


def train(tag: str, data: Path, out: Path, threads: int) -> int:
    if told_to_stop.is_set():
        return STOPPED
    run = out / tag
    run.mkdir(parents=True, exist_ok=True)
    if (run / "row.toml").exists():
        return 0
    recipe = run / "recipe.toml"
    threat = GRID[tag]
    recipe.write_text(f'threat = {{norm = "{threat.norm}", eps = "{threat.eps!r}/1"}}\n')
    command = ["train", BASE, "--data", str(data), "--out", str(run), "--recipe", str(recipe)]
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}  # many processes of many threads stand in queues
    with (run / "output.txt").open("a") as output:
        return subprocess.run(
            [sys.executable, "-m", "robust_zoo", *command], stdout=output, stderr=subprocess.STDOUT, env=environment
        ).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=4, help="models at a time")
    parser.add_argument("--only", nargs="+", choices=GRID, default=list(GRID), metavar="TAG")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: told_to_stop.set())  # timeout(1) tells the trainings, too
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        codes = pool.map(lambda tag: train(tag, arguments.data, arguments.out, threads), arguments.only)
        for tag, code in zip(arguments.only, codes, strict=True):
            print(f"{tag:<16} {'done' if code == 0 else f'exit {code}, see output.txt'}", flush=True)


if __name__ == "__main__":
    main()
