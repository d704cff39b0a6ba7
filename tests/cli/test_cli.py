"""The command line: what each verb prints where, and with which exit code; never a traceback."""

import fcntl
import hashlib
import inspect
import json
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import checkpoints
import click
import pytest
from verbs import ROOT, commands, run

from robust_zoo import __version__
from robust_zoo.cli import _VERBS, main
from robust_zoo.describe import gravest
from robust_zoo.errors import ZooError
from robust_zoo.registry import load, rows
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.weights import cache
from robust_zoo.weights.safetensors_file import write_safetensors
from robust_zoo.weights.sources import mirrors, sources_for

TOML = tomllib.loads((Path(load.__file__).parent / "checkpoints.toml").read_text(encoding="utf-8"))
FIGURES = json.loads(load.MEASURED.read_text(encoding="utf-8"))
TABLE = {row["name"]: row for row in TOML["checkpoint"]}
BUNDLED = [name for name, row in TABLE.items() if row.get("bundled")]
ROBUST = "resnet18_x0_25_cifar10_l2_eps0_5"
KEYS = {"name", "architecture", "dataset", "norm", "eps", "clean_accuracy", "file", "sha256", "status"}
COMMAND = [sys.executable, "-m", "robust_zoo"]


def as_json(*args, code=0):
    result = run(*args, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def toml_eps(row):
    numerator, _, denominator = str(row["eps"]).partition("/")
    return float(numerator) / float(denominator or 1)


def reported_clean(row):
    return next((figure["value"] for figure in row.get("reported", []) if "attack" not in figure), 0)


def converted(name, source_sha256):
    """A safetensors file without tensors that says of itself what a conversion says."""
    row = get(name)
    about = {"name": name, "architecture": row.architecture, "dataset": row.dataset, "norm": row.norm,
             "eps": repr(row.eps), "source_sha256": source_sha256}  # fmt: skip
    text = json.dumps({"__metadata__": about}).encode()
    return struct.pack("<Q", len(text)) + text


def plant(root, name, /, **changes):
    """A cached checkpoint as the cache's documentation describes it, written by hand; returns the file."""
    content = converted(name, TABLE[name].get("sha256", "0" * 64))
    path = root / "weights" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    receipt = {
        "name": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "state": "pinned",
        "source": "test", "source_file": TABLE[name]["file"], "revision": "r",
        "source_sha256": TABLE[name].get("sha256", "0" * 64), **changes,
    }  # fmt: skip
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(receipt))
    return path


def words(value):
    """A test's id: the command line, and nothing for the other columns."""
    return shlex.join(value).replace(str(Path(__file__).parent), "") if isinstance(value, list) else ""


def snapshot(root):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


# --- Wrong input: (arguments, exit code, what the message says) ----------------------------------------------

WRONG = [
    (["lst"], 2, "closest: list"),
    (["--nonsense"], 2, "No such option"),
    (["info"], 2, "Missing argument"),
    (["info", "resnet50_l2_eps33"], 4, "closest: resnet50_l2_eps3"),
    (["info", "../../etc/passwd"], 4, "unknown checkpoint"),
    (["info", ""], 4, "unknown checkpoint"),
    (["info", "\udcff"], 4, "unknown checkpoint"),
    (["list", "--eps", "4"], 2, "two ways"),
    (["list", "--norm", "linf", "--eps", "4"], 2, '"4/255"'),
    (["list", "--eps", "four"], 2, "not a radius"),
    (["list", "--eps", "5:0.5"], 2, "the lower first"),
    (["list", "--eps", ":3"], 2, "LOW:HIGH"),
    (["list", "--norm", "l3"], 2, "l2 or linf"),
    (["list", "--collection", "salman2021"], 2, "closest: salman2020"),
    (["list", "--licence", "MIT"], 2, "mit"),
    (["list", "--min-robust", "40"], 2, "--under NORM:EPS"),
    (["list", "--under", "linf"], 2, "--under NORM:EPS"),
    (["list", "--under", "linf:4"], 2, '"4/255"'),
    (["list", "--under", "l3:4"], 2, "linf"),
    (["list", "--under", "l2:0"], 2, "above 0"),
    (["list", "--min-clean", "0.7"], 2, "40, not 0.4"),
    (["list", "--max-params", "90"], 2, '"90M"'),
    (["list", "--sort", "accuracy"], 2, "robust"),
    (["list", "--architecture", "resnet5"], 4, "closest: resnet50"),
    (["download"], 2, "robust-zoo download resnet50_l2_eps3"),
    (["download", "resnet50_l2_eps3", "--all"], 2, "both"),
    (["download", "resnet51_*"], 4, "closest names: resnet50"),
    (["download", "resnet50_l2_eps3", "nonsense"], 4, "unknown checkpoint"),
    (["download", "resnet50_l2_eps3", "--offline"], 3, "no socket was opened"),
    (["download", "resnet50_l2_eps3", "--cache-dir", "/dev/null/x"], 5, "/dev/null/x"),
    (["verify", "nonsense"], 4, "unknown checkpoint"),
    (["verify", "resnet50_l2_eps3", "--all"], 2, "both"),
    (["convert", "a.ckpt"], 2, "Missing option"),
    (["convert", "a.ckpt", "-o", "b"], 2, "either --name or --architecture"),
    (["convert", "a.ckpt", "-o", "b", "-a", "resnet18", "--name", "resnet18_l2_eps3"], 2, "both"),
    (["convert", "/nowhere/a.ckpt", "-o", "b", "-a", "resnet18"], 4, "no such file"),
    (["convert", "/", "-o", "b", "-a", "resnet18"], 4, "a directory"),
    (["convert", __file__, "-o", "/nowhere/b", "-a", "resnet18"], 5, "mkdir -p /nowhere"),
    (["convert", __file__, "-o", "/", "-a", "resnet18", "--force"], 2, "a directory"),
    (["convert", __file__, "-o", __file__, "-a", "resnet18", "--force"], 2, "the file to convert"),
    (["convert", __file__, "-o", "b", "-a", "resnet17"], 4, "closest: resnet18"),
    (["convert", __file__, "-o", "b", "--name", "resnet18_l2_eps3"], 1, TABLE["resnet18_l2_eps3"]["sha256"]),
    (["card"], 2, "NAME [-o FILE]"),
    (["card", "--all"], 2, "-o DIR or --check DIR"),
    (["card", "resnet18_l2_eps3", "--check", "."], 2, "NAME --check"),
    (["card", "nonsense"], 4, "unknown checkpoint"),
    (["card", "resnet18_l2_eps3", "-o", "/nowhere/card.md"], 5, "/nowhere/card.md"),
    (["card", "--all", "--check", "/nowhere"], 1, "missing"),
    (["cache", "rm"], 2, "No such command"),
    (["demo", "-n", "9"], 2, "range"),
    (["demo", "-o", "picture.tiff"], 2, "picture.tiff.png"),
    (["demo", "-o", "/nowhere/picture.png"], 5, "mkdir -p /nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "code", "message"), WRONG, ids=words)
def test_wrong_input(args, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr
    assert not any(p.is_file() and p.suffix != ".lock" for p in tmp_path.rglob("*"))  # nothing was left behind
    if code != 2:
        for field in ("source:", "expected:", "actual:", "next:"):
            assert field in result.stderr or args[0] in ("convert", "list"), result.stderr


# --- Help and version ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "command"), [([], main), *commands()], ids=words)
def test_help_shows_examples_that_parse(path, command):
    result = run(*path, "-h")
    assert (result.exit_code, result.stderr) == (0, "")
    examples = re.search(r"\x08\n((?:.+\n)+)", inspect.cleandoc(command.help) + "\n")[1].splitlines()
    assert 1 <= len(examples) <= 4
    for example in examples:
        assert f"\n  {example}\n" in result.stdout
        args = shlex.split(re.sub(r".*\$\((.*?)\).*", r"\1", example), comments=True)
        assert args.pop(0) == "robust-zoo"
        verb = main
        while isinstance(verb, click.Group):
            default = args[0] not in verb.list_commands(ROOT) and "run" in verb.list_commands(ROOT)
            verb = verb.get_command(ROOT, "run" if default else args.pop(0))
        assert verb is command or isinstance(command, click.Group)
        verb.make_context(verb.name, args, parent=ROOT)  # raises when an option or an argument is wrong


def test_version_and_verbs():
    assert run("--version").stdout.strip() == f"robust-zoo, version {__version__}"
    assert main.get_command(ROOT, "list") and main.list_commands(ROOT) == [*_VERBS]  # the module must not hide list()
    listed = run("--help").stdout
    assert all(re.search(rf"^  {verb} ", listed, re.MULTILINE) for verb in _VERBS)


# --- list and info, against the TOML read independently ------------------------------------------------------


def test_list_json_equals_the_toml():
    listed = {row["name"]: row for row in as_json("list")}
    assert listed.keys() == TABLE.keys()
    for name, row in TABLE.items():
        found, collection = listed[name], TOML["collection"][row["collection"]]
        assert found.keys() >= KEYS
        for key in ("architecture", "norm", "file"):
            assert found[key] == row[key], (name, key)
        assert isinstance(found["eps"], float) and found["eps"] == pytest.approx(toml_eps(row), abs=1e-12)
        assert (found["sha256"], found["size"]) == (row.get("sha256"), row.get("size"))
        own = {key: row.get(key, collection[key]) for key in ("licence", "sources")}
        assert (found["dataset"], found["licence"]) == (collection["dataset"], own["licence"])
        declared = "hub-declared" if any(str(at).startswith("hf:") for at in own["sources"]) else "unverified"
        assert found["status"] == ("bundled" if row.get("bundled") else "pinned" if "sha256" in row else declared)
        assert found["parameters"] == TOML["architecture"][row["architecture"]]["parameters"]
        assert found["input_size"] == (collection["preprocessing"] | row.get("preprocessing", {}))["input_size"]
        encoder = "none: an encoder" if collection.get("kind") == "encoder" else ""
        assert found["evidence"].startswith(encoder or ("reported by" if "reported" in row else "measured"))


FILTERS = [
    (["resnet50_*"], lambda r: r["name"].startswith("resnet50_")),
    (["resnet50_l2_eps0.5", "vgg16_bn_l2_eps3"], lambda r: r["name"] in ("resnet50_l2_eps0_5", "vgg16_bn_l2_eps3")),
    (["-a", "densenet161", "-a", "mnasnet"], lambda r: r["architecture"] in ("densenet", "mnasnet")),
    (["-d", "cifar10"], lambda r: r["collection"] == "robust_zoo_cifar10"),
    (["--norm", "linf"], lambda r: r["norm"] == "linf"),
    (["--eps", "4/255"], lambda r: r["eps"] == "4/255"),
    (["--norm", "l2", "--eps", "0.5:3"], lambda r: r["norm"] == "l2" and 0.5 <= r["eps"] <= 3),
    (["--norm", "linf", "--eps", "1/255:4/255"], lambda r: r["eps"] in ("1/255", "2/255", "4/255")),
    (["--norm", "l2", "-e", "0.01", "-e", "3:5"], lambda r: r["norm"] == "l2" and r["eps"] in (0.01, 3, 5)),
    (["--bundled"], lambda r: r.get("bundled", False)),
    (["--collection", "salman2020", "-n", "linf"], lambda r: r["collection"] == "salman2020" and r["norm"] == "linf"),
    (["--max-params", "4M"], lambda r: TOML["architecture"][r["architecture"]]["parameters"] <= 4_000_000),
    (["--min-clean", "77", "-d", "imagenet"], lambda r: reported_clean(r) >= 77),
    (["nothing_*"], lambda r: False),
    (["-d", "mnist"], lambda r: False),
]  # fmt: skip


@pytest.mark.parametrize(("args", "wanted"), FILTERS, ids=words)
def test_list_filters(args, wanted):
    expected = {name for name, row in TABLE.items() if wanted(row)}
    assert {row["name"] for row in as_json("list", *args)} == expected
    result = run("list", *args)
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines[1:]} == expected
    assert ("no checkpoint matches" in result.stderr) == (not expected) and result.exit_code == 0


def test_list_table_marks_measured_accuracies_and_exact_sizes():
    result = run("list")
    cells = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    for name, row in TABLE.items():
        clean = get(name).clean_accuracy
        assert ("-" if clean is None else f"{clean:.2f}{'*' * (name in FIGURES)}") in cells[name].split()
        assert ("~" in cells[name]) == ("size" not in row)
    assert "measured" in result.stderr
    names = list(cells)
    assert names.index("resnet50_l2_eps0_5") < names.index("resnet50_l2_eps1") < names.index("resnet50_l2_eps3")


@pytest.mark.parametrize("name", ["resnet50_linf_eps4", "shufflenet_l2_eps0", ROBUST])
def test_info(name, own_machine, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", "https://mirror.example/zoo/")
    monkeypatch.setenv("ROBUST_ZOO_PATH", "/site/weights")
    row, found = TABLE[name], as_json("info", name)
    collection = TOML["collection"][row["collection"]]
    assert found.keys() >= KEYS and found["clean_accuracy"] == get(row["name"]).clean_accuracy
    for key in ("recipe", "licence", "licence_from", "origin", "paper"):
        assert found[key] == collection[key]
    assert found["addresses"] == [at.replace("{file}", row["file"]) for at in collection["sources"]]
    stored = [figure["correct"] for figure in FIGURES.get(row["name"], [])]
    assert [figure["correct"] for figure in [*found["measured"], *found["corruptions"]]] == stored
    directories, extra = cache.local_directories(), mirrors()
    planned = sources_for(get(name), directories=directories, extra_mirrors=extra, offline=False)
    assert found["sources"] == [source.location for source in planned]
    assert (found["cached"] is None) == (name != ROBUST)
    text = run("info", name).stdout
    for fact in (row["file"], row.get("sha256", "declared by the hub"), *found["sources"], found["evidence"]):
        assert fact in text
    assert f"create_model({name!r})" in text and "pixel_model" in text


def test_info_accepts_upstreams_spelling_and_says_what_is_cached(own_machine):
    path = plant(own_machine, "resnet18_linf_eps4")
    found = as_json("info", "resnet18_linf_eps4.0.ckpt")
    assert (found["name"], found["cached"]) == ("resnet18_linf_eps4", {"path": str(path), "state": "pinned"})
    path.with_suffix(".json").unlink()
    assert as_json("info", "resnet18_linf_eps4")["cached"]["state"] == "no receipt"


# --- verify --------------------------------------------------------------------------------------------------


def test_verify_checks_all_and_changes_nothing(own_machine, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    plant(own_machine, "resnet18_l2_eps3")
    flipped = plant(own_machine, "resnet18_l2_eps1")
    flipped.write_bytes(flipped.read_bytes().replace(b"resnet18_l2", b"resnet18_l3"))
    plant(own_machine, "resnet18_l2_eps5", source_sha256="0" * 64)  # made of another file than the pinned one
    plant(own_machine, "resnet18_l2_eps0").with_suffix(".json").unlink()
    plant(own_machine, "resnet50_l2_eps1", name="resnet50_l2_eps3")  # another model's receipt
    theirs = plant(own_machine, "resnet50_l2_eps3").read_bytes()  # another model's file, under a receipt that fits it
    plant(own_machine, "resnet50_l2_eps5", sha256=hashlib.sha256(theirs).hexdigest()).write_bytes(theirs)
    plant(tmp_path / "site", "resnet18_l2_eps1")
    (own_machine / "weights" / "stranger.safetensors").write_bytes(b"x")
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(tmp_path / "site"))
    before = snapshot(tmp_path)
    found = as_json("verify", code=1)
    assert {(row["name"], row["status"], row["state"]) for row in found} == {
        *((name, "ok", "pinned") for name in BUNDLED),
        ("resnet18_l2_eps0", "corrupt", None),
        ("resnet18_l2_eps1", "corrupt", None),
        ("resnet18_l2_eps1", "ok", "vouched"),  # by whoever keeps the site's cache
        ("resnet18_l2_eps3", "ok", "pinned"),
        ("resnet18_l2_eps5", "corrupt", None),
        ("resnet50_l2_eps1", "corrupt", None),
        ("resnet50_l2_eps3", "ok", "pinned"),
        ("resnet50_l2_eps5", "corrupt", None),
    }
    assert len(found) == len(BUNDLED) + 8
    assert all(row.keys() >= KEYS | {"state", "path"} for row in found)
    result = run("verify", "--all")
    assert result.exit_code == 1 and result.stderr.count("error: ") == 5 and "stranger" in result.stderr
    assert all(result.stderr.count(field) == 5 for field in ("model:", "source:", "expected:", "actual:", "next:"))
    assert snapshot(tmp_path) == before


VERIFY = [
    ([], 0, {"ok": len(BUNDLED) + 1}),
    (["resnet18_l2_eps3"], 0, {"ok": 1}),
    (["resnet18_l2_eps3.ckpt", "resnet18_linf_eps4.0"], 3, {"ok": 1, "missing": 1}),
    (["resnet18_l2_eps?"], 3, {"ok": 1, "missing": 3}),
    (["--cache-dir", ""], 0, {"ok": len(BUNDLED) + 1}),
    (["--cache-dir", "/nowhere"], 0, {"ok": len(BUNDLED)}),
]  # fmt: skip


@pytest.mark.parametrize(("args", "code", "statuses"), VERIFY, ids=words)
def test_verify_exit_codes(args, code, statuses, own_machine):
    plant(own_machine, "resnet18_l2_eps3")
    found = [row["status"] for row in as_json("verify", *args, code=code)]
    assert {status: found.count(status) for status in found} == statuses


def test_verify_names_a_damaged_package(tmp_path, monkeypatch):
    for name in BUNDLED:
        content = bytearray((rows.DATA / TABLE[name]["file"]).read_bytes())
        content[-1] ^= name == ROBUST
        (tmp_path / TABLE[name]["file"]).write_bytes(content)
    for module in ("cli.verify", "weights.ensure"):
        monkeypatch.setattr(f"robust_zoo.{module}.DATA", tmp_path)
    result = run("verify")
    assert result.exit_code == 1 and result.stderr.count("error: ") == 1
    assert TABLE[ROBUST]["sha256"] in result.stderr and "reinstall" in result.stderr
    (tmp_path / TABLE[ROBUST]["file"]).unlink()
    assert run("verify").exit_code == 3


# --- download and convert ------------------------------------------------------------------------------------


def test_download_verify_convert_cache(hub, own_machine, tmp_path):
    """One good file of three: the others are named, the gravest decides, and the good one is what convert makes."""
    good, gone, wrong = "shufflenet_l2_eps0", "mobilenet_l2_eps3", "mnasnet_l2_eps0"
    source = tmp_path / TABLE[good]["file"]
    checkpoints.save(source, "shufflenet")
    hub.files = {TABLE[good]["file"]: source.read_bytes(), TABLE[wrong]["file"]: b"not the pinned bytes"}
    result = run("download", "-q", "--json", wrong, gone, "shufflenet_l2_eps0.ckpt")
    found = {row["name"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 1, result.stderr
    assert [found[name]["status"] for name in (wrong, gone, good)] == ["failed", "failed", "hub-declared"]
    assert (found[wrong]["error"]["exit_code"], found[gone]["error"]["exit_code"]) == (1, 3)
    assert all(found[wrong]["error"][field] for field in ("model", "source", "expected", "actual", "next"))
    assert result.stderr.startswith("3 checkpoints, at most") and "2 of 3 failed:" in result.stderr
    path = Path(found[good]["path"])
    assert found[good]["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()

    again = run("download", good, "--offline")
    assert (again.exit_code, again.stdout.split()) == (0, [good, "hub-declared", str(path)])
    assert as_json("info", good)["cached"] == {"path": str(path), "state": "hub-declared"}
    listed = run("cache", "ls").stdout.split()
    assert (listed[0], listed[-1]) == (good, "hub-declared")

    output = tmp_path / "converted.safetensors"
    made = run("convert", source, "--name", good, "-o", output)
    assert made.exit_code == 0, made.stderr
    assert made.stdout.split() == [str(output), "sha256", found[good]["weights_sha256"]]  # the cache's very bytes
    assert "your word" in made.stderr and hashlib.sha256(source.read_bytes()).hexdigest() in made.stderr

    path.write_bytes(path.read_bytes()[:-1])
    assert [row["status"] for row in as_json("verify", good, code=1)] == ["corrupt"]


def test_convert_of_ones_own_file(tmp_path):
    source, output = rows.DATA / TABLE[ROBUST]["file"], tmp_path / "mine.safetensors"
    output.write_bytes(b"precious")
    args = ["convert", source, "-a", "resnet18_x0_25", "-o", output]
    refused = run(*args)
    assert (refused.exit_code, output.read_bytes()) == (2, b"precious") and "--force" in refused.stderr
    made = run(*args, "--force")
    assert made.exit_code == 0, made.stderr
    assert made.stdout.split() == [str(output), "sha256", hashlib.sha256(output.read_bytes()).hexdigest()]
    header = dict(re.findall(r"^(\w+): +(.*)$", made.stderr, re.MULTILINE))
    assert header["architecture"] == "resnet18_x0_25" and header["source_sha256"] == TABLE[ROBUST]["sha256"]


KINDS = [ZooError, *ZooError.__subclasses__()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_printed_with_its_fields_and_code(kind, monkeypatch):
    def fail(name):
        raise kind("it broke", model="m", source="s", expected="e", actual="a", next="n")

    monkeypatch.setattr("robust_zoo.cli.info.checkpoint_of", fail)
    result = run("info", "x")
    assert (result.exit_code, result.stdout) == (kind.exit_code, "")
    fields = [line.split() for line in result.stderr.splitlines()]
    assert fields == [
        ["error:", "it", "broke"],
        *([f"{f}:", f[0]] for f in ("model", "source", "expected", "actual", "next")),
    ]


def test_the_gravest_exit_code_wins():
    codes = {kind.exit_code for kind in KINDS}
    assert {gravest([code]) for code in codes} == codes
    assert (gravest([]), gravest([3, 5, 1, 6]), gravest(iter([3, 5]))) == (0, 1, 5)


# --- cache and card ------------------------------------------------------------------------------------------


def test_cache_ls_shows_ones_own_files_too(own_machine):
    plant(own_machine, "resnet18_l2_eps3")
    (own_machine / "private").mkdir()
    path = own_machine / "private" / "0123-resnet50.safetensors"
    write_safetensors(path, {}, {"source_file": "mine.ckpt", "architecture": "resnet50"})
    (own_machine / "private" / "4567-vgg16_bn.safetensors").write_bytes(b"cut")
    name, mine, damaged = run("cache", "ls").stdout.splitlines()
    assert name.startswith("resnet18_l2_eps3 ") and name.endswith("pinned")
    assert mine.startswith("mine.ckpt ") and mine.endswith("private, resnet50")
    assert damaged.endswith("private, damaged")


def test_cache_prune(own_machine):
    kept, damaged = plant(own_machine, "resnet18_l2_eps3"), own_machine / "weights" / "resnet18_l2_eps1.corrupt"
    cut = own_machine / "downloads" / "resnet50_l2_eps3.ckpt.0123.part"
    cut.parent.mkdir()
    for path in (damaged, cut):
        path.write_bytes(b"12345")
    before = snapshot(own_machine)
    dry = run("cache", "prune", "--dry-run")
    assert sorted(dry.stdout.split()) == sorted([str(damaged), str(cut)]) and snapshot(own_machine) == before
    with (cut.parent / "resnet50_l2_eps3.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        busy = run("cache", "prune")
        assert (busy.exit_code, busy.stdout) == (5, "") and "resnet50_l2_eps3 is being downloaded" in busy.stderr
    assert run("cache", "prune").exit_code == 0
    assert snapshot(own_machine).keys() == {kept, kept.with_suffix(".json")}
    assert run("cache", "path").stdout.strip() == str(own_machine)


def test_card(tmp_path):
    name = "resnet18_l2_eps3"
    text = run("card", name).stdout
    assert run("card", name, "-o", tmp_path / "one.md").exit_code == 0
    assert (tmp_path / "one.md").read_text() == text and f"# {name}" in text

    picture = tmp_path / "two.svg"
    assert run("card", ROBUST, "-o", tmp_path / "two.md").exit_code == 0
    assert "](two.svg)" in (tmp_path / "two.md").read_text() and picture.read_text().startswith("<svg")
    assert ".svg" not in run("card", ROBUST).stdout  # on its own a card has no picture

    directory = tmp_path / "cards"
    directory.mkdir()
    (directory / "NOTES.md").write_text("not a card")
    made = run("card", "--all", "-o", directory)
    assert made.exit_code == 0 and "NOTES.md" in made.stderr and f"{len(list_models())} cards" in made.stderr
    assert (directory / "NOTES.md").read_text() == "not a card"  # never deleted
    assert {path.stem for path in directory.glob("*.md")} - {"README", "NOTES"} == set(list_models())
    (directory / "NOTES.md").unlink()
    assert (run("card", "--all", "--check", directory).exit_code, (directory / f"{name}.md").read_text()) == (0, text)
    (directory / f"{name}.md").write_text(text + "edited")
    (directory / "stale.svg").write_text("no row")
    (directory / "vgg16_bn_l2_eps0.md").unlink()
    (directory / f"{ROBUST}.svg").write_text("<svg/>")
    (directory / "README.md").write_text("edited")
    drifted = run("card", "--all", "--check", directory)
    expected = ["README.md", f"{name}.md", f"{ROBUST}.svg", "stale.svg", "vgg16_bn_l2_eps0.md"]
    assert (drifted.exit_code, drifted.stdout.split()) == (1, expected)


# --- Real processes ------------------------------------------------------------------------------------------


def shell(*args, **kwargs):
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=60, **kwargs)


def test_data_on_stdout_messages_on_stderr():
    result = shell("list", "--bundled")
    assert result.returncode == 0 and all(name in result.stdout for name in BUNDLED)
    assert "checkpoints" in result.stderr and "checkpoints" not in result.stdout
    result = shell("info", "nonsense")
    assert (result.returncode, result.stdout) == (4, "") and "Traceback" not in result.stderr


@pytest.mark.parametrize("args", [["list"], ["list", "--json"], ["info", ROBUST], ["card", ROBUST]], ids=" ".join)
def test_a_reader_that_has_enough_is_no_error(args):
    with subprocess.Popen([*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # as `| head` does, before anything was written
        errors = process.stderr.read()
    assert (process.returncode, "error" in errors, "Traceback" in errors) == (0, False, False), errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("args", [["--help"], ["--version"], ["list"], ["verify", "--json"]], ids=" ".join)
def test_a_full_disk(args):
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([*COMMAND, *args], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == 5 and "No space left" in result.stderr and "Traceback" not in result.stderr


def test_ctrl_c(hub):
    hub.files = {TABLE["shufflenet_l2_eps0"]["file"]: bytes(5_000_000)}
    hub.delay = 0.2
    with subprocess.Popen(
        [*COMMAND, "download", "shufflenet_l2_eps0"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    ) as process:
        deadline = time.monotonic() + 30
        while not hub.sent(TABLE["shufflenet_l2_eps0"]["file"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
