"""Small copies of the transfer datasets in their official layouts, written as the archives unpack.

Each function fills a directory and returns {split: {file: class}}, the truth that loaders are held to.
"""

import json
import pickle

import numpy as np
from PIL import Image
from scipy.io import savemat


def image(path, seed=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (12, 10, 3) if mode == "RGB" else (12, 10)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path, "JPEG")


def lines(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in content))


def aircraft(root):
    data = root / "fgvc-aircraft-2013b" / "data"
    variants = ["F-16A/B", "F/A-18", "707-320"]  # in the file's order, which is the labels'
    lines(data / "variants.txt", variants)
    truth, number = {}, 0
    for split, count in (("train", 3), ("val", 3), ("test", 3)):
        truth[split] = {f"images/{number + i:07d}.jpg": variants[i % 3] for i in range(count)}
        number += count
        for name in truth[split]:
            image(data / name, number)
        lines(data / f"images_variant_{split}.txt", [f"{n[7:14]} {v}" for n, v in truth[split].items()])
    lines(
        data / "images_variant_trainval.txt", [f"{n[7:14]} {v}" for s in ("train", "val") for n, v in truth[s].items()]
    )
    return truth


def birds(root):
    """As the archive of a crawl: one class has lost its test images, one all of its images."""
    truth = {"train": {}, "test": {}}
    for split, counts in (("train", (2, 0, 2)), ("test", (1, 0, 0))):
        for label, count in enumerate(counts):
            folder = root / "birdsnap" / split / f"{label:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image(folder / f"{i}.jpg", i)
                truth[split][f"{split}/{label:03d}/{i}.jpg"] = f"{label:03d}"
    return truth


def caltech101(root):
    truth = {"train": {}, "test": {}}
    folder = root / "caltech101" / "101_ObjectCategories"
    for name, count in (("BACKGROUND_Google", 2), ("Motorbikes", 32), ("accordion", 31)):
        for i in range(1, count + 1):
            image(folder / name / f"image_{i:04d}.jpg", i, "L" if i == 2 else "RGB")
            if name != "BACKGROUND_Google":
                file = f"101_ObjectCategories/{name}/image_{i:04d}.jpg"
                truth["train" if i <= 30 else "test"][file] = name
    (root / "caltech101" / "Annotations").mkdir()
    return truth


def caltech256(root):
    truth = {"train": {}, "test": {}}
    folder = root / "caltech256" / "256_ObjectCategories"
    for number, (name, count) in enumerate((("ak47", 61), ("clutter", 62)), start=1):
        for i in range(1, count + 1):
            file = f"{number:03d}.{name}/{number:03d}_{i:04d}.jpg"
            image(folder / file, i)
            truth["train" if i <= 60 else "test"][f"256_ObjectCategories/{file}"] = f"{number:03d}.{name}"
    lines(folder / "001.ak47" / "RENAME2", ["not an image"])
    return truth


def _batches(folder, files, key):
    """As CIFAR's: pickled dicts of numpy arrays. Returns {split: labels}."""
    folder.mkdir(parents=True)
    for seed, (name, labels) in enumerate(files.items()):
        data = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, key: labels, "filenames": []}, protocol=2))


def cifar10(root):
    files = {f"data_batch_{i}": [i % 2, 1] for i in range(1, 6)} | {"test_batch": [0, 1]}
    _batches(root / "cifar-10-batches-py", files, "labels")
    return {"train": [label for name, labels in files.items() if "data" in name for label in labels], "test": [0, 1]}


def cifar100(root):
    files = {"train": [0, 2, 1], "test": [2, 1]}
    _batches(root / "cifar-100-python", files, "fine_labels")
    (root / "cifar-100-python" / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a", "b", "c"]}, protocol=2))
    return files


def dtd(root):
    base, truth = root / "dtd" / "dtd", {}
    for split in ("train", "val", "test"):
        truth[split] = {f"images/{c}/{c}_{split}.jpg": c for c in ("zigzagged", "banded")}
        for name in truth[split]:
            image(base / name)
        lines(base / "labels" / f"{split}1.txt", [name.removeprefix("images/") for name in truth[split]])
    return truth


def flowers(root):
    """Classes 1, 2 and 10: as words, 10 would come before 2."""
    base, classes = root / "flowers-102", [10, 2, 1, 2, 10, 1, 1, 10, 2]
    savemat(_made(base) / "imagelabels.mat", {"labels": np.array([classes])})
    ids = {"train": [1, 2, 3], "val": [4, 5, 6], "test": [9, 8, 7]}
    names = {"train": "trnid", "val": "valid", "test": "tstid"}
    savemat(base / "setid.mat", {names[split]: np.array([rows]) for split, rows in ids.items()})
    for i in range(1, 10):
        image(base / f"jpg/image_{i:05d}.jpg", i)
    return {s: {f"jpg/image_{i:05d}.jpg": str(classes[i - 1]) for i in rows} for s, rows in ids.items()}


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def food(root):
    base, truth = root / "food-101", {}
    for split in ("train", "test"):
        listed = {c: [f"{c}/{split}{i}" for i in range(2)] for c in ("cheesecake", "cheese_plate")}
        _made(base / "meta")
        (base / "meta" / f"{split}.json").write_text(json.dumps(listed))
        truth[split] = {f"images/{name}.jpg": c for c, names in listed.items() for name in names}
        for name in truth[split]:
            image(base / name)
    lines(base / "meta" / "classes.txt", ["cheese_plate", "cheesecake"])
    return truth


def pets(root):
    """The list counts breeds whatever their case; sorted names would put the cats first."""
    base, truth = root / "oxford-iiit-pet", {}
    breeds = ["Abyssinian", "american_bulldog", "Bengal"]
    for split, name in (("train", "trainval"), ("test", "test")):
        start = 100 if split == "test" else 0
        rows = [(f"{breeds[i % 3]}_{start + i}", i % 3 + 1) for i in range(6)]
        lines(base / "annotations" / f"{name}.txt", [f"{file} {n} 1 1" for file, n in rows])
        truth[split] = {f"images/{file}.jpg": breeds[n - 1] for file, n in rows}
        for file in truth[split]:
            image(base / file)
    return truth


def stanford_cars(root):
    base, names = root / "stanford_cars", ["Ram C/V Cargo Van Minivan 2012", "Acura RL 2012"]
    kind = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
    savemat(_made(base / "devkit") / "cars_meta.mat", {"class_names": np.array(names, dtype=object)})
    truth = {}
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = [(1, n, f"{i:05d}.jpg") for i, n in enumerate((2, 1, 2), start=1)]
        savemat(base / file, {"annotations": np.array(rows, dtype=kind)})
        truth[split] = {f"cars_{split}/{name}": names[n - 1] for _, n, name in rows}
        for name in truth[split]:
            image(base / name)
    return truth


def sun397(root):
    base, truth = root / "SUN397", {}
    classes = ["/a/abbey", "/c/church/indoor", "/c/church/outdoor"]
    lines(base / "ClassName.txt", classes)
    for split, file in (("train", "Training_01.txt"), ("test", "Testing_01.txt")):
        truth[split] = {f"{c[1:]}/sun_{split}{i}.jpg": c for c in classes for i in range(2)}
        lines(base / file, [f"/{name}" for name in truth[split]])
        for name in truth[split]:
            image(base / name)
    image(base / "a/abbey/sun_unlisted.jpg")  # SUN397 has more images than its partitions name
    return truth


TREES = {
    "aircraft": aircraft, "birds": birds, "caltech101": caltech101, "caltech256": caltech256, "cifar10": cifar10,
    "cifar100": cifar100, "dtd": dtd, "flowers": flowers, "food": food, "pets": pets, "stanford_cars": stanford_cars,
    "SUN397": sun397,
}  # fmt: skip
