"""Measures the bundled models: every entry that results/ should have of them, the quick ones first.

    OMP_NUM_THREADS=1 python benchmarks/bundled.py cifar10.npz results --at-once 2 [--only '*_cifar10_l2_*']

By `robust-zoo evaluate`; what is there is not computed again. On a CPU as many at once as there are cores: processes
that share one evaluation (its --jobs) wait for the last batch of each attack, long where three are left for two.
Exits with 1 where an evaluation fails, whose words stand on stderr; the others go on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel

CURVES = {"l2": ("0.1", "0.25", "0.5", "1"), "linf": ("2/255", "4/255", "8/255", "16/255")}
EVERYWHERE = (ThreatModel("l2", 0.5), ThreatModel("linf", 8 / 255))  # for all models alike
FEWER = ["--n", "1000"]
SAMPLE = ["-a", "corruptions"]  # of the bundled images


def under(threat: ThreatModel) -> list[str]:
    return ["--norm", threat.norm, "--eps", threat.radius]


def threats(row: Checkpoint) -> list[ThreatModel]:
    """Its own, and those of all models."""
    return list(dict.fromkeys(([row.threat] if row.eps else []) + [*EVERYWHERE]))


def quick(row: Checkpoint) -> Iterator[list[str]]:
    """All but AutoAttack."""
    yield ["-a", "none"]
    yield ["-a", "pgd-20", *under(row.threat if row.eps else EVERYWHERE[0])]
    yield ["-a", "pgd-20", "--norm", row.norm, *(word for eps in CURVES[row.norm] for word in ("--eps", eps)), *FEWER]
    for threat in threats(row):
        yield from (["-a", attack, *under(threat), *FEWER] for attack in ("fgsm", "pgd-20", "apgd-ce"))
    yield SAMPLE


def slow(row: Checkpoint) -> Iterator[list[str]]:
    """AutoAttack, at the model's own radius first."""
    yield from (["-a", "autoattack", *under(threat), *FEWER] for threat in threats(row))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("out", type=Path, help="the ledger")
    parser.add_argument("--at-once", type=int, default=1, help="evaluations at a time")
    parser.add_argument("--only", default="*", help="these models, by wildcard")
    arguments = parser.parse_args()
    rows = [get(name) for name in list_models(arguments.only, bundled=True)]
    if not rows:
        parser.error(f"no bundled model matches --only {arguments.only}")
    work = [(row, what) for kind in (quick, slow) for row in rows for what in kind(row)]

    def run(task: tuple[Checkpoint, list[str]]) -> int:
        row, what = task
        images = [] if what is SAMPLE else ["-d", "cifar10", "--data", arguments.data]
        words = [row.name, *images, "--out", arguments.out]
        command = [sys.executable, "-m", "robust_zoo", "evaluate", *map(str, words), *what, "--json"]
        return subprocess.run(command, stdout=subprocess.DEVNULL).returncode

    failed = 0
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for (row, what), code in zip(work, pool.map(run, work), strict=True):
            failed += code != 0
            print(f"{row.name} {' '.join(what)}: {'done' if code == 0 else f'exit {code}'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
