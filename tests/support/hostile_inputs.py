"""Files, folders and arguments that no one should give, and every way of giving them to `robust-zoo`.

python tests/support/hostile_inputs.py [PART [N]]     every Nth call that contains PART, in a process of its own
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from hostile import tarred, zipped

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"  # bundled
PINNED = "resnet18_l2_eps3"
CODES = {0, 1, 2, 3, 4, 5, 6, 130}  # of --help, but for 70: what nobody foresaw
ESCAPE = "a\x1b[2J\u202eb\n|c`<img src=x>"
SPARSE = 1 << 42  # bytes; no one can wait for so many

TEXTS = {
    "empty": b"", "binary": bytes(range(256)) * 9, "html": b"<html>Please sign in</html>", "nul": b"\0" * 3000,
    "utf16": '{"a": 1}'.encode("utf-16"), "deep": b"[" * 200_000, "objects": b'{"a":' * 20_000 + b"}" * 20_000,
    "nan": b'{"accuracy": NaN}', "huge": b'{"n": 1' + b"0" * 6000 + b"}", "big": b'{"n": 1' + b"0" * 400 + b"}",
    "twice": b'{"a": 1, "a": 2}', "list": b"[1, 2]", "null": b"null", "surrogate": b'{"a": "\\ud800"}',
    "toml": b"a = inf", "deep_toml": b"a = " + b"[" * 20_000, "zip": b"PK\x03\x04" + b"\0" * 500,
    "end_of_zip": b"PK\x05\x06" + b"\0" * 18, "pickle": b"\x80\x04c__builtin__\nprint\n(tR.",
    "safetensors": struct.pack("<Q", 1 << 60) + b"{}", "tar": b"x" * 257 + b"ustar  \0" + b"0" * 1000,
    "npy": b"\x93NUMPY\x01\x00\xff\xff{'descr'", "png": b"\x89PNG\r\n\x1a\n\0\0",
}  # fmt: skip
_FIGURE = {"attack": "none", "correct": 5, "n": 10, "data": "x", "code": "y"}
EXPORTED = [
    {"name": "../../escaped"}, {"name": "/tmp/escaped"}, {"name": ESCAPE}, {"name": "con"}, {"name": "x" * 500},
    {"architecture": "hf-hub:someone/something"}, {"architecture": "local-dir:/etc"}, {"architecture": ESCAPE},
    {"dataset": ESCAPE}, {"norm": "l3"}, {"eps": "nan"}, {"eps": "-1"}, {"eps": "1e999"}, {"metrics": "[]"},
    {"metrics": "[[]]"}, {"metrics": "[" * 9999}, {"metrics": json.dumps([_FIGURE | {"n": 0}])},
    {"metrics": json.dumps([_FIGURE | {"n": 1e308, "correct": "many"}])}, {"preprocessing": "null"},
    {"preprocessing": '{"mean": NaN}'}, {"training": ESCAPE}, {"licence": ESCAPE}, {},
]  # fmt: skip
WORDS = ["", " ", ".", "..", "../../etc/passwd", "/etc/passwd", ESCAPE, "x" * 5000, "--", "nan", "%s%n", "[", "\udcff"]
NUMBERS = ["", "nan", "inf", "-1", "1e999", "1" * 5000, "0x10", "1/0", "4/255/2", "9" * 400 + "/1", ESCAPE]


def safetensors(header):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def exported(**changes):
    """What says of itself that `robust-zoo train` wrote it, and holds no tensors."""
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32], "crop_pct": 1.0,
                     "crop_mode": "center", "interpolation": "bicubic", "num_classes": 10}  # fmt: skip
    about = {"name": NAME, "architecture": "resnet18_x0_25", "dataset": "cifar10", "norm": "l2", "eps": "0.5",
             "licence": "mit", "training": "ten epochs", "preprocessing": json.dumps(preprocessing), "recipe": "{}",
             "metrics": json.dumps([_FIGURE])}  # fmt: skip
    return safetensors({"__metadata__": about | changes})


def packed(**members):
    return zipped({f"{name}.npy": content for name, content in members.items()}, zipfile.ZIP_DEFLATED)


# what a way takes -> the files that each of TEXTS becomes, under a folder of its own
LAYOUTS = {
    "file": ["{}"], "safetensors": ["{}.safetensors"], "npz": ["{}.npz"], "toml": ["{}.toml"], "bundle": ["{}.tar"],
    "entry": ["{}/m/e.json"], "evidence": ["{}/m/e.npz", "{}/m/e.json"], "cell": ["{}/c.json"],
    "run": ["{}/log.jsonl"], "images": ["{}/train/a/1.png", "{}/val/a/1.png"], "shards": ["{}/train-0.tar"],
    "saved": ["{}/dataset_dict.json"], "npy": ["{}/cifar10.1_v6_data.npy", "{}/cifar10.1_v6_labels.npy"],
    "food": ["{}/food-101/meta/train.json", "{}/food-101/images/x"], "pickles": ["{}/cifar-10-batches-py/data_batch_1"],
    "pets": ["{}/oxford-iiit-pet/annotations/trainval.txt"], "receipt": ["{}/weights/" + PINNED + ".json"],
    "weights": ["{}/weights/" + PINNED + ".safetensors", "{}/weights/" + PINNED + ".json"],
}  # fmt: skip


def plant(root):
    """Writes all of it under `root`: what a way takes -> the values for it."""
    kinds = {kind: [root / kind / layouts[0].format(text).split("/")[0] for text in TEXTS]
             for kind, layouts in LAYOUTS.items()}  # fmt: skip
    files = {root / kind / layout.format(text): content for kind, layouts in LAYOUTS.items() for layout in layouts
             for text, content in TEXTS.items()}  # fmt: skip
    for text in TEXTS:
        files[root / "receipt" / text / "weights" / f"{PINNED}.safetensors"] = safetensors({})
    spans = {"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 1 << 66]}}
    more = {
        "safetensors": [*(exported(**changes) for changes in EXPORTED), safetensors(spans)],
        "npz": [packed(x_test=b"\0" * (1 << 24), y_test=b""), packed(), packed(**{"x" * 999: b""})],
        "bundle": [tarred({"../../escaped": b"x"}), tarred({"manifest.json": b"{}", "weights/x.json": b"{}"})],
    }
    for kind, contents in more.items():
        for number, content in enumerate(contents):
            kinds[kind].append(root / kind / f"{number}{Path(LAYOUTS[kind][0]).suffix}")
            files[kinds[kind][-1]] = content
    labels = {"1.cls": b"9" * 400, "2.cls": b"\xff", "3.json": b'{"label": 1e400}', "4.json": b'{"label": [1]}'}
    for name, label in labels.items():
        kinds["shards"].append(root / "shards" / name)
        files[kinds["shards"][-1] / "train-0.tar"] = tarred({f"{name[0]}.jpg": b"x", name: label})
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    special = _special(root / "special")
    for kind in kinds:
        kinds[kind] += special
    long = root / ("n" * 300 + ".png")
    places = [
        root / "nowhere" / "x.png",
        Path("/dev/null/x.png"),
        long,
        root / "special",
        root / "file" / "empty" / "x",
    ]
    return kinds | {"place": places, "special": special, "word": WORDS, "number": NUMBERS}


def _special(folder):
    folder.mkdir()
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
    for name in (ESCAPE, os.fsdecode(b"\xff\xfe.safetensors")):
        (folder / name).write_bytes(b"x")
    with (folder / "sparse").open("wb") as file:
        file.truncate(SPARSE)
    with (folder / "sparse.safetensors").open("wb") as file:
        file.write(safetensors({"a": {"dtype": "F32", "shape": [SPARSE // 4], "data_offsets": [0, SPARSE]}}))
        file.truncate(file.tell() + SPARSE)
    (folder / "sparse.npz").symlink_to("sparse")
    return [*sorted(folder.iterdir()), folder / "nothing", folder / ("l" * 300), Path("/dev/zero")]


# (what is called with {}, what {} stands for, whether a network or a child is needed to find the fault)
WAYS = [
    ("info {}", "safetensors", False), ("info {}", "word", False), ("list {}", "word", False),
    ("list --norm l2 --eps {}", "number", False), ("list --architecture {}", "word", False),
    ("download --offline {}", "word", False), ("download --from-bundle {}", "bundle", False),
    ("download --offline " + PINNED + " --cache-dir {}", "receipt", False), ("verify --cache-dir {}", "receipt", False),
    ("verify --cache-dir {}", "weights", False), ("verify {}", "word", False), ("card {}", "word", False),
    ("verify --signature {} --public-key {}", "file", False), ("doctor {}", "safetensors", False),
    ("doctor {}", "file", False), ("bundle " + NAME + " --offline -o {}", "place", False),
    ("convert {} --name " + PINNED + " -o out/x.safetensors", "file", False),
    ("cache ls --cache-dir {}", "receipt", False),
    ("convert {} -a resnet18 -o out/x.safetensors", "special", True), ("card " + NAME + " -o {}", "place", False),
    ("card --all --check {}", "special", False), ("cache prune --dry-run --cache-dir {}", "weights", False),
    ("demo -o {}", "place", True), ("demo -n {}", "number", False),
    ("evaluate {} --n 1 -a pgd-1 --out out", "safetensors", True), ("evaluate {}", "word", False),
    ("evaluate " + NAME + " -d cifar10 -a pgd-1 --n 1 --out out --data {}", "npz", False),
    ("evaluate " + NAME + " -d cifar10.1 -a pgd-1 --n 1 --out out --data {}", "npy", False),
    ("evaluate " + NAME + " -a {} --out out", "word", False), ("evaluate " + NAME + " -d {} --out out", "word", False),
    ("evaluate " + NAME + " -a pgd-1 --n 1 --norm l2 --out out --eps {}", "number", True),
    ("evaluate " + NAME + " --out out --n {}", "number", False), ("attack {} x.png -o out", "word", False),
    ("evaluate " + NAME + " -a pgd-1 --n 1 --out out --shard {}", "number", False),
    ("evaluate " + NAME + " -a pgd-1 --n 1 --out out --device {}", "word", False),
    ("attack " + NAME + " -a pgd-1 -o out {}", "file", False), ("report {}", "entry", False),
    ("report {}", "evidence", False), ("transfer report {}", "cell", False), ("plot {} -o out/x.png", "run", False),
    ("data check {}", "images", False), ("data check {}", "shards", False), ("data check {}", "saved", False),
    ("data check food --root {}", "food", False), ("data check pets --root {}", "pets", False),
    ("data check cifar10 --root {}", "pickles", True), ("data prepare pets --root {}", "special", False),
    ("data check {}", "word", False), ("recommend {} --workers 0", "shards", False), ("recipe {}", "word", False),
    ("transfer " + NAME + " --dataset {} --out out", "saved", False), ("train {} --dry-run", "word", False),
    ("train " + NAME + " --dry-run --recipe {}", "toml", False),
    ("train " + NAME + " --dry-run --recipe {}", "safetensors", False),
    ("train " + NAME + " --data {} --out out/run", "npz", False),
    ("train " + NAME + " --data {} --out out/run --workers 0", "images", False),
    ("train " + NAME + " --workers {}", "number", False), ("train " + NAME + " --dry-run --slurm {}", "word", True),
]  # fmt: skip


def cases(root):
    """Plants all of it under `root`; (arguments, whether it is slow) of every call."""
    kinds = plant(root)
    return [
        ([part.replace("{}", str(value)) for part in way.split(" ")], slow)
        for way, kind, slow in WAYS
        for value in kinds[kind]
    ]


def few(calls):
    """Those that a test has time for: of each way every third value, other ones for the next way; not the slow ones."""
    return [call for number, (call, slow) in enumerate(calls) if not slow and number % 3 == 0]


def environment(home):
    """Where a call's caches are, and no network."""
    return {"HOME": str(home), "XDG_CACHE_HOME": str(home), "ROBUST_ZOO_CACHE": str(home / "zoo"),
            "ROBUST_ZOO_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # fmt: skip


def tree(root):
    """What lies under `root`, and its size."""
    found = (Path(folder, name) for folder, folders, names in os.walk(root) for name in (*folders, *names))
    return {path: path.lstat().st_size if not path.is_dir() else 0 for path in found}


def written(root, before):
    """What changed since `tree(root)` was `before`, but for the locks of caches that a call named."""
    return sorted(str(path) for path, _ in tree(root).items() ^ before.items() if "downloads" not in path.parts)


def fault(code, text):
    """What is wrong with how a call ended, "" for nothing."""
    if code not in CODES:
        return f"exit code {code}"
    if "Traceback" in text or "\x1b" in text or "\u202e" in text:
        return "a traceback, or what a terminal would act on"
    if code not in (0, 2) and text.startswith("error:") and "  actual:" not in text:
        return "not the five fields"
    return ""


def main(part="", every=1):
    with tempfile.TemporaryDirectory() as folder:
        root, home, work = (Path(folder) / name for name in ("planted", "home", "work"))
        for path in (root, home, work / "out"):
            path.mkdir(parents=True)
        calls = [call for call, _ in cases(root) if part in " ".join(call)][:: int(every)]
        before, codes = tree(root), {}
        for call in calls:
            try:
                ended = subprocess.run(
                    [sys.executable, "-m", "robust_zoo", *call], cwd=work, env=os.environ | environment(home),
                    capture_output=True, encoding="utf-8", errors="surrogateescape", timeout=300,
                )  # fmt: skip
                code, text = ended.returncode, ended.stdout + ended.stderr
            except subprocess.TimeoutExpired as error:
                code, text = -1, repr(error)
            codes[code] = codes.get(code, 0) + 1
            if wrong := fault(code, text):
                print(f"{wrong}: {call!r:.300}\n{text[-1500:]}", flush=True)
        print(f"{len(calls)} calls, by exit code {dict(sorted(codes.items()))}")
        print("written where no call says:", written(root, before), sorted({p.name for p in work.iterdir()} - {"out"}))


if __name__ == "__main__":
    main(*sys.argv[1:])
