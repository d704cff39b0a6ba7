"""CIFAR-10 in parts that are small enough to carry to a machine without internet.

    python cifar.py pack cifar10.npz FOLDER ...       # 500 images a file, lossless WebP: about 99 MB for all 60,000
    python cifar.py unpack WORK FOLDER ...            # collects them; WORK/cifar10.npz once all are there

With only some of them there, WORK/part.npz holds those, to try things on.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

PIECE = 500  # a column of images as high as WebP takes


def pack(source: Path, folders: list[Path]) -> None:
    with np.load(source) as data:
        images = np.concatenate([data["x_train"], data["x_test"]])
        labels = np.concatenate([data["y_train"], data["y_test"]]).astype(np.uint8)
        trains = len(data["x_train"])
    pieces = range(0, len(images), PIECE)
    for number, start in enumerate(pieces):
        folder = folders[number * len(folders) // len(pieces)]
        folder.mkdir(parents=True, exist_ok=True)
        column = images[start : start + PIECE].reshape(-1, 32, 3)
        packed = io.BytesIO()
        Image.fromarray(column).save(packed, "WEBP", lossless=True, quality=75, method=6)
        if not np.array_equal(np.asarray(Image.open(packed).convert("RGB")), column):
            raise SystemExit(f"piece {number} is not what was packed")
        (folder / f"{number:03d}.webp").write_bytes(packed.getvalue())
    for folder in folders:
        np.savez_compressed(folder / "labels.npz", labels=labels, trains=trains, pieces=len(pieces))


def unpack(work: Path, folders: list[Path]) -> None:
    kept = work / "pieces"
    kept.mkdir(parents=True, exist_ok=True)
    for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        shutil.copyfile(path, kept / path.name)
    found = sorted(kept.glob("*.webp"))
    with np.load(kept / "labels.npz") as data:
        labels, trains, pieces = data["labels"].astype(np.int64), int(data["trains"]), int(data["pieces"])
    images = {int(path.stem): np.asarray(Image.open(path).convert("RGB")).reshape(-1, 32, 32, 3) for path in found}
    print(f"{sum(map(len, images.values()))} of {len(labels)} images are here", flush=True)
    x = np.concatenate([images[number] for number in sorted(images)])
    if len(images) == pieces:
        name = "cifar10.npz"
    else:  # the last fifth of what is there stands in for test images
        labels = np.concatenate([labels[number * PIECE : (number + 1) * PIECE] for number in sorted(images)])
        name, trains = "part.npz", len(x) - len(x) // 5
    whole = dict(x_train=x[:trains], y_train=labels[:trains], x_test=x[trains:], y_test=labels[trains:])
    np.savez(work / "new.npz", **whole)
    (work / "new.npz").replace(work / name)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("pack", "unpack"):
        sys.exit(__doc__)
    {"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]), [Path(folder) for folder in sys.argv[3:]])
