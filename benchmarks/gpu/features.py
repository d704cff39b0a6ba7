"""A forward pass of networks at their own size, in fp32, TF32 and bf16: what `robust-zoo plan` reckons transfers from.

    python benchmarks/gpu/features.py OUT ARCHITECTURE...

Images/s and peak memory of batches of 256 that lie on the device, a line of OUT/features.jsonl each.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import torch
from pieces import SMALL, seconds
from training_step import model_of

BATCH, SIZE = (4, 32) if SMALL else (256, 224)
PRECISIONS = {"fp32": (False, False), "TF32": (True, False), "bf16": (True, True)}  # TF32 convolutions, autocast


def main(out: Path, architectures: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.rand(BATCH, 3, SIZE, SIZE, device=device).contiguous(memory_format=torch.channels_last)
    for architecture in architectures:
        model = model_of(architecture, device).to(memory_format=torch.channels_last).eval()
        for name, (tf32, bf16) in PRECISIONS.items():
            torch.backends.cudnn.allow_tf32 = tf32
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bf16):
                taken = seconds(lambda model=model: model(images), device, at_least=0.3)
            row = {"what": "features", "architecture": architecture, "size": SIZE, "batch": BATCH, "name": name}
            row |= {"seconds": taken, "images_per_second": round(BATCH / statistics.median(taken), 1)}
            if device == "cuda":
                row["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
            with (out / "features.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{architecture:<20} {name:<6} {row['images_per_second']:>10.1f} images/s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
