"""Files, folders and arguments that no one should give, and every way of giving them to `robust-zoo`.

python tests/support/hostile_inputs.py [PART]     all of them, each in a process of its own (20 minutes on two cores)
"""

import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"  # bundled
PINNED = "resnet18_l2_eps3"
CODES = {0, 1, 2, 3, 4, 5, 6, 70, 75, 130}  # of --help; 75 is training's
ESCAPE = "a\x1b[2J\u202eb\n|c`<img src=x>"
SPARSE = 1 << 42  # bytes; no one can wait for that many

TEXTS = {
    "empty": b"", "binary": bytes(range(256)) * 9, "html": b"<html>Please sign in</html>", "nul": b"\0" * 3000,
    "utf16": '{"a": 1}'.encode("utf-16"), "deep": b"[" * 200_000, "deep_object": b'{"a":' * 20_000 + b"}" * 20_000,
    "nan": b'{"accuracy": NaN}', "huge_int": b'{"n": 1' + b"0" * 6000 + b"}", "big_int": b'{"n": 1' + b"0" * 400 + b"}",
    "twice": b'{"a": 1, "a": 2}', "list": b"[1, 2]", "null": b"null", "surrogate": b'{"a": "\\ud800"}', "toml": b"a = inf",
    "deep_toml": b"a = " + b"[" * 20_000, "zip": b"PK\x03\x04" + b"\0" * 500, "end_of_zip": b"PK\x05\x06" + b"\0" * 18,
    "pickle": b"\x80\x04c__builtin__\nprint\n(tR.", "safetensors": struct.pack("<Q", 1 << 60) + b"{}",
    "tar": b"x" * 257 + b"ustar  \0" + b"0" * 1000, "npy": b"\x93NUMPY\x01\x00\xff\xff{'descr'", "png": b"\x89PNG\r\n\x1a\n\0\0",
}  # fmt: skip


def safetensors(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def exported(**changes):
    """What says of itself that robust-zoo train wrote it."""
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32], "crop_pct": 1.0, "crop_mode": "center",
                     "interpolation": "bicubic", "num_classes": 10}  # fmt: skip
    about = {
        "name": NAME, "architecture": "resnet18_x0_25", "dataset": "cifar10", "norm": "l2", "eps": "0.5", "licence": "mit",
        "training": "ten epochs", "preprocessing": json.dumps(preprocessing), "recipe": "{}",
        "metrics": json.dumps([{"attack": "none", "correct": 5, "n": 10, "data": "x", "code": "y"}]),
    }  # fmt: skip
    return safetensors({"__metadata__": about | changes})


def archive(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return out.getvalue()


def plant(root):
    """Writes all of it under `root`, which must be empty.

    Returns:
        {kind: [paths]}: "file", "safetensors", "npz", "toml", "ledger", "run", "cells", "folder", "root", "cache",
        "bundle", "place" (where something is to be written).
    """
    kinds = {name: [] for name in ("file", "safetensors", "npz", "toml", "ledger", "run", "folder", "root", "cache", "bundle")}  # fmt: skip

    def write(kind, path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        kinds[kind].append(path)

    for name, content in TEXTS.items():
        write("file", root / "files" / name, content)
        write("safetensors", root / "safetensors" / f"{name}.safetensors", content)
        write("npz", root / "npz" / f"{name}.npz", content)
        write("toml", root / "toml" / f"{name}.toml", content)
        write("bundle", root / "bundles" / f"{name}.tar", content)
        for entry in ("entry.json", "entry.npz"):
            write("ledger", root / f"ledger_{name}_{entry[6:]}" / "m" / entry, content)
            (root / f"ledger_{name}_{entry[6:]}" / "m" / "entry.json").touch()
        write("run", root / f"run_{name}" / "log.jsonl", content)
        write("folder", root / f"images_{name}" / "train" / ESCAPE.replace("/", "") / "1.png", content)
        write("folder", root / f"shards_{name}" / "train-0.tar", content)
        write("folder", root / f"saved_{name}" / "dataset_dict.json", content)
        write("root", root / f"food_{name}" / "food-101" / "meta" / "train.json", content)
        write("root", root / f"pets_{name}" / "oxford-iiit-pet" / "annotations" / "trainval.txt", content)
        write("cache", root / f"cache_{name}" / "weights" / f"{PINNED}.json", content)
        (root / f"cache_{name}" / "weights" / f"{PINNED}.safetensors").write_bytes(safetensors({}))
    for kind in ("ledger", "run", "folder"):
        kinds[kind] = [path.parents[1] if kind != "run" and path.parent.name != path.parents[0].name else path.parent
                       for path in kinds[kind]]  # fmt: skip
    folders = {"ledger": 2, "run": 1, "root": None, "cache": 2}
    kinds["ledger"] = sorted(root.glob("ledger_*"))
    kinds["run"] = sorted(root.glob("run_*"))
    kinds["folder"] = sorted([*root.glob("images_*"), *root.glob("shards_*"), *root.glob("saved_*")])
    kinds["root"] = sorted([*root.glob("food_*"), *root.glob("pets_*")])
    kinds["cache"] = sorted(root.glob("cache_*"))
    del folders
    for number, changes in enumerate([
        {"name": "../../escaped"}, {"name": "/tmp/escaped"}, {"name": ESCAPE}, {"name": "con"}, {"name": "x" * 500},
        {"architecture": "hf-hub:someone/something"}, {"architecture": "local-dir:/etc"}, {"architecture": ESCAPE},
        {"dataset": ESCAPE}, {"norm": "l3"}, {"eps": "nan"}, {"eps": "-1"}, {"eps": "1e999"}, {"metrics": "[]"},
        {"metrics": "[[]]"}, {"metrics": "[" * 9999}, {"metrics": '[{"attack":"none","correct":5,"n":0,"data":"x","code":"y"}]'},
        {"preprocessing": "null"}, {"preprocessing": '{"mean": NaN}'}, {"training": ESCAPE}, {"licence": ESCAPE},
    ]):  # fmt: skip
        write("safetensors", root / "safetensors" / f"exported{number}.safetensors", exported(**changes))
    write("safetensors", root / "safetensors" / "spans.safetensors",
          safetensors({"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 1 << 66]}}))  # fmt: skip
    write("npz", root / "npz" / "bomb.npz", zipped([("x_test.npy", b"\0" * (1 << 24)), ("y_test.npy", b"")]))
    write("bundle", root / "bundles" / "escape.tar", archive([("../../escaped", b"x")]))
    write("bundle", root / "bundles" / "link.tar", archive([("manifest.json", b"{}"), ("weights/x.json", b"{}")]))
    write("folder", root / "shards_labels" / "train-0.tar", archive([("1.jpg", b"x"), ("1.cls", b"9" * 400)]))
    write("folder", root / "shards_json" / "train-0.tar", archive([("1.jpg", b"x"), ("1.json", b'{"label": 1e400}')]))
    kinds["folder"] = [path.parent if path.is_file() else path for path in kinds["folder"]]
    kinds["place"] = [
        root / "nowhere" / "x.png",
        Path("/dev/null/x.png"),
        root / ("n" * 300 + ".png"),
        root / "files",
        Path(),
    ]
    special = root / "special"
    special.mkdir()
    os.mkfifo(special / "pipe")
    (special / "loop").symlink_to("loop")
    (special / "dangling").symlink_to("nothing")
    with (special / "sparse").open("wb") as file:
        file.truncate(SPARSE)
    with (special / "sparse.safetensors").open("wb") as file:
        shape = [SPARSE // 4]
        file.write(safetensors({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, SPARSE]}}))
        file.truncate(file.tell() + SPARSE)
    (special / ESCAPE.replace("/", "")).write_bytes(b"x")
    (special / os.fsdecode(b"\xff\xfe.safetensors")).write_bytes(b"x")
    strange = [
        special,
        *sorted(special.iterdir()),
        special / "nothing",
        Path("/dev/zero"),
        special / ("l" * 300),
        Path(),
    ]
    for kind in ("file", "safetensors", "npz", "toml", "ledger", "run", "folder", "root", "cache", "bundle"):
        kinds[kind] += strange
    return kinds


WORDS = [
    "",
    " ",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    ESCAPE,
    "x" * 5000,
    "--",
    "nan",
    "%s%n",
    "*" * 300,
    "[",
    "\udcff",
]
NUMBERS = ["", "nan", "inf", "-1", "1e999", "1" * 5000, "0x10", "1/0", "4/255/2", "-0.0", ESCAPE, "\u0663"]
# (arguments, the kind of what {} stands for)
WAYS = [
    ("info {}", "safetensors"), ("info {}", "word"), ("list {}", "word"), ("list --norm l2 --eps {}", "number"),
    ("list --architecture {}", "word"), ("download --offline {}", "word"), ("download --from-bundle {}", "bundle"),
    ("download --offline " + PINNED + " --cache-dir {}", "cache"), ("verify --cache-dir {}", "cache"),
    ("verify {}", "word"), ("verify --signature {} --public-key {}", "file"), ("bundle " + NAME + " --offline -o {}", "place"),
    ("doctor {}", "safetensors"), ("doctor {}", "file"), ("convert {} -a resnet18 -o out/x.safetensors", "special"),
    ("convert {} --name " + PINNED + " -o out/x.safetensors", "file"), ("card {}", "word"), ("card " + NAME + " -o {}", "place"),
    ("card --all --check {}", "file"), ("cache ls --cache-dir {}", "cache"), ("cache prune --dry-run --cache-dir {}", "cache"),
    ("demo -o {}", "place"), ("demo -n {}", "number"), ("evaluate {} --n 1 -a pgd-1 --out out", "safetensors"),
    ("evaluate " + NAME + " -d cifar10 -a pgd-1 --n 1 --out out --data {}", "npz"),
    ("evaluate " + NAME + " -d cifar10.1 -a pgd-1 --n 1 --out out --data {}", "folder"), ("evaluate {}", "word"),
    ("evaluate " + NAME + " -a {}", "word"), ("evaluate " + NAME + " -a pgd-1 --n 1 --norm l2 --eps {}", "number"),
    ("evaluate " + NAME + " --n {}", "number"), ("evaluate " + NAME + " --shard {} --n 1 -a pgd-1", "number"),
    ("evaluate " + NAME + " -d {}", "word"), ("evaluate " + NAME + " --n 1 --device {}", "word"),
    ("attack " + NAME + " -a pgd-1 -o out {}", "file"), ("attack {} x.png", "word"), ("report {}", "ledger"),
    ("data check {}", "folder"), ("data check food --root {}", "root"), ("data check pets --root {}", "root"),
    ("data prepare pets --root {}", "root"), ("data check {}", "word"), ("recommend {} --workers 0", "folder"),
    ("transfer report {}", "ledger"), ("transfer run " + NAME + " --to {} --out out", "folder"),
    ("recipe {}", "word"), ("train " + NAME + " --dry-run --recipe {}", "toml"),
    ("train " + NAME + " --dry-run --recipe {}", "safetensors"), ("train " + NAME + " --data {} --out out/run", "npz"),
    ("train " + NAME + " --data {} --out out/run --workers 0", "folder"), ("train {} --dry-run", "word"),
    ("train " + NAME + " --workers {}", "number"), ("train " + NAME + " --dry-run --slurm {}", "word"), ("plot {} -o out/x.png", "run"),
]  # fmt: skip


def cases(root):
    """Plants all of it under `root`; [arguments] of every call."""
    kinds = plant(root)
    kinds["word"], kinds["number"] = WORDS, NUMBERS
    kinds["special"] = [path for path in kinds["file"] if path.parent.name != "files"]
    return [[part.replace("{}", str(value)) for part in way.split(" ")] for way, kind in WAYS for value in kinds[kind]]


def environment(home):
    """Where a call's caches are, and no network."""
    return {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "ROBUST_ZOO_OFFLINE": "1", "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1"}  # fmt: skip


def tree(root, leave=()):
    """What lies under `root`, but for some of its folders."""
    return {
        Path(folder, name): Path(folder, name).lstat().st_size
        for folder, folders, names in os.walk(root)
        for name in (*folders, *names)
        if not any(Path(folder, name).is_relative_to(left) for left in leave)
    }


def wrong(code, text):
    """What is wrong with how a call ended, "" for nothing."""
    if code not in CODES:
        return f"exit code {code}"
    if "Traceback" in text or "\x1b" in text or "\u202e" in text:
        return "a traceback, or what a terminal would act on"
    if code not in (0, 2) and not all(f"  {field}:" in text for field in ("expected", "actual", "next")):
        return "not five fields"
    return ""


def main(part=""):
    with tempfile.TemporaryDirectory() as folder:
        root, home, work = (Path(folder) / name for name in ("planted", "home", "work"))
        for path in (root, home, work / "out"):
            path.mkdir(parents=True)
        calls = [call for call in cases(root) if part in " ".join(call)]
        before, codes = tree(Path(folder), (home, work)), {}
        for call in calls:
            try:
                ended = subprocess.run(
                    [sys.executable, "-m", "robust_zoo", *call], cwd=work, env=os.environ | environment(home),
                    capture_output=True, text=True, errors="surrogateescape", timeout=300,
                )  # fmt: skip
                code, text = ended.returncode, ended.stdout + ended.stderr
            except (subprocess.TimeoutExpired, ValueError) as error:
                code, text = -1, repr(error)
            codes[code] = codes.get(code, 0) + 1
            if (fault := wrong(code, text)) or code == 70:
                print(f"{fault or 'unforeseen'}: {call!r:.300}\n{text[-1500:]}", flush=True)
        print(f"{len(calls)} calls, by exit code {dict(sorted(codes.items()))}")
        print("written elsewhere:", tree(Path(folder), (home, work)).items() ^ before.items())


if __name__ == "__main__":
    main(*sys.argv[1:])
