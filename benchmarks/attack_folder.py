"""The memory of `robust-zoo attack` on a folder: the largest resident set, at 32 and at 224 pixels.

    python benchmarks/attack_folder.py

Each line is a fresh process that attacks a folder of noise, FGSM with the verb's own batch. The bundled model is the
zoo's; those of 224 pixels have random weights, which take as much memory as their own. Fewer images as well: what grows
with their number would show.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
CASES = (  # checkpoint, pixels of a side, numbers of images
    ("resnet18_x0_25_cifar10_l2_eps0_5", 32, (200, 2000)),
    ("shufflenet_l2_eps3", 224, (200, 2000)),
    ("resnet50_l2_eps3", 224, (20, 100)),
)
_ATTACK = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import torch
from robust_zoo.architectures.build import build
from robust_zoo.registry.lookup import get
from robust_zoo.training.evaluation import attack_images
from robust_zoo.threat import ThreatModel
torch.set_num_threads(1)
row = get({name!r})
if not row.bundled:
    network = build(row.network.timm, pretrained_cfg=row.timm_cfg, **row.network.arguments)
    attack_images.create_model = lambda *args, **kwargs: network
started, threat = time.perf_counter(), ThreatModel("l2", 0.5)
attempt = attack_images.attack_each(row, [{folder!r}], threat, "fgsm", Path({out!r}))
count = sum(1 for one in attempt)
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.perf_counter() - started)
"""


def write(folder: Path, count: int, side: int) -> None:
    """Noise as JPEGs in two class folders, of twice the size that the model sees."""
    rng = np.random.default_rng(0)
    for i in range(count):
        file = folder / f"class{i % 2}" / f"{i:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8)
        Image.fromarray(small).resize((2 * side, 2 * side)).save(file)


def main() -> None:
    """Prints a line for each model and number of images."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, side, counts in CASES:
        for n in counts:
            with tempfile.TemporaryDirectory() as temporary:
                folder, out = Path(temporary) / "in", Path(temporary) / "out"
                write(folder, n, side)
                code = _ATTACK.format(root=str(ROOT), name=name, folder=str(folder), out=str(out))
                said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
            done, peak, seconds = said.split()
            print(
                f"{name}: {int(done):,} images, {int(peak) / 1e6:,.0f} MB at most, {float(seconds):.0f} s", flush=True
            )


if __name__ == "__main__":
    main()
