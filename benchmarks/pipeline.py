"""Ours over torchvision's v1 transforms on PIL images: JPEG bytes to an augmented image, one core, in one process.

    python benchmarks/pipeline.py [--rounds 7] [--images 64] [--augment crop_flip|robustness] [--json FILE]

The images are 500 x 375 JPEG at quality 90, 4:2:0, a mosaic under noise of about the size ImageNet's have.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parents[1]))

from robust_zoo.training.data.colour import colour
from robust_zoo.training.data.encoded import EncodedImages
from robust_zoo.training.data.image_files import Augment, ImageFiles


def jpegs(count: int) -> list[bytes]:
    generator = np.random.default_rng(0)
    out = []
    for _ in range(count):
        mosaic = Image.fromarray(generator.integers(0, 256, (24, 32, 3), np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(mosaic, np.int16) + generator.normal(0, 9, (375, 500, 3)).astype(np.int16)
        file = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        out.append(file.getvalue())
    return out


def v1(augment: str) -> Callable[[bytes], torch.Tensor]:
    """Upstream's pipeline, but for its colour noise, whose cost is nothing."""
    jitter = [transforms.ColorJitter(0.1, 0.1, 0.1)] if augment == "robustness" else []
    pipeline = transforms.Compose(
        [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *jitter, transforms.ToTensor()]
    )
    return lambda encoded: pipeline(Image.open(io.BytesIO(encoded)).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--augment", choices=["crop_flip", "robustness"], default="crop_flip")
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoded = jpegs(arguments.images)
    names = [str(i) for i in range(len(encoded))]
    source = EncodedImages(names, [len(e) for e in encoded], torch.zeros(len(encoded)).long(), (), encoded.__getitem__)
    read = Augment(ImageFiles(source, augment=arguments.augment), seed=0, epoch=0)

    def ours(index: int) -> torch.Tensor:
        image, draws = read(index)
        return colour(image[None], draws[None]) if arguments.augment == "robustness" else image / 255

    theirs = v1(arguments.augment)
    rates: dict[str, list[float]] = {"robust_zoo": [], "torchvision v1 + PIL": []}
    for round_ in range(arguments.rounds + 1):
        for name, one in (("robust_zoo", ours), ("torchvision v1 + PIL", lambda i: theirs(encoded[i]))):
            started = time.perf_counter()
            for i in range(len(encoded)):
                one(i)
            if round_:  # the first warms up
                rates[name].append(len(encoded) / (time.perf_counter() - started))
    ratio = statistics.median(a / b for a, b in zip(*rates.values(), strict=True))
    for name, values in rates.items():
        print(f"{name:<24} {statistics.median(values):7.0f} images/s on one core")
    size = statistics.mean(len(e) for e in encoded) / 1e3
    print(f"ratio {ratio:.2f} (median of {arguments.rounds} rounds; JPEG of {size:.0f} kB)")
    if arguments.json:
        versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "machine": platform.machine()}
        medians = {name: statistics.median(values) for name, values in rates.items()}
        result = {"benchmark": "pipeline", "augment": arguments.augment, "images_per_second": medians, "ratio": ratio}
        arguments.json.write_text(json.dumps(result | versions | {"date": str(date.today())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
