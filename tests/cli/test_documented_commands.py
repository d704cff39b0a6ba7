"""Every command of README, of docs/ and of `--help`, run: on bundled or made data, and a stand-in hub.

A command's words are replaced by smaller ones (`SMALL`), its options by cheaper ones (`CHEAPER`); what cannot be run
here stands in `NOT_RUN` with its reason, and is parsed all the same.
"""

import inspect
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import checkpoints
import click
import pytest
import trees
from hub import Hub
from object_files import squares
from PIL import Image
from runs import RECIPE, write_data
from searches import shorten
from verbs import ROOT, commands, run

from robust_zoo import get
from robust_zoo.cli import main
from robust_zoo.training import cost, demo
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.dataset import spread
from robust_zoo.training.transfer import sample_suite
from robust_zoo.training.transfer.protocols import linear

HOME = Path(__file__).parents[2]
PAGES = [path.read_text(encoding="utf-8") for path in (HOME / "README.md", *sorted(HOME.glob("docs/*.md")))]
FENCED = [block for page in PAGES for block in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)]
FETCHED = "shufflenet_l2_eps0"  # hub-declared, and the smallest
BUNDLED = "resnet18_x0_25_cifar10_l2_eps0"
ROBUST = f"{BUNDLED}_5"

NOT_RUN = {
    "make": "installs packages",
    "pip": "installs packages",
    "torchrun": "eight GPUs and ImageNet; tests/training runs two processes",
    "robust-zoo train --launcher": "a cluster and ImageNet; tests/training submits to submitit's local executor",
    "robust-zoo plan --launcher": "a cluster; tests/training/test_plan.py runs the array on submitit's debug cluster",
    "robust-zoo evaluate --launcher": "a cluster; tests/training/evaluation runs its jobs",
    "robust-zoo evaluate --jobs": "processes that import torch; tests/training/evaluation shares work among them",
    "robust-zoo evaluate robustbench": "ImageNet; tests/training/data reads its layout",
    "robust-zoo evaluate cifar10-c": "the official arrays; tests/training/evaluation writes such",
    "robust-zoo evaluate cue-conflict": "the official images; tests/training/evaluation makes such",
    "robust-zoo publish": "sends to the hub; tests/publishing publishes to a stand-in",
    "robust-zoo data prepare": "downloads; tests/training/transfer prepares from made copies",
    "robust-zoo download --signature": "nothing is signed yet; tests/weights/test_bundle.py signs and takes",
    "robust-zoo verify --signature": "nothing is signed yet; tests/weights/test_manifest.py signs and verifies",
}
# Verbs for which an upstream name stands for weights to fetch; for the others it is a model to compute with.
_FETCHING = ("download", "verify", "bundle", "convert", "pin", "sources")
SMALL = {
    "resnet50_l2_eps3": ROBUST,
    "resnet50_l2_eps0": BUNDLED,
    "resnet50_linf_eps4": "resnet18_x0_25_cifar10_linf_eps8",
    "resnet50_l2_*": f"{ROBUST}*",
    "resnet18_x0_25_cifar10_*": f"{ROBUST}*",
    "resnet50_*": FETCHED,
    "resnet18_linf_*": FETCHED,
    "resnet18_l2_eps3": FETCHED,
    "resnet18_l2_eps3.ckpt": "mine.ckpt",
    "resnet18_l2_eps3.safetensors": "named.safetensors",
    "resnet50": "resnet18_x0_25",
    "autoattack": "fgsm",
    "goldfish": "frog",
    "tabby": "cat",
    "1000": "10",
    "results": str(HOME / "results"),
    "~/Downloads": "downloads",
    "mine/model.safetensors": "weights.safetensors",
}
CHEAPER = {
    "evaluate": ["--attack", "fgsm", "--n", "10", "--no-checks"],
    "attack": ["--attack", "fgsm"],
    "train": ["--recipe", "tiny.toml", "--device", "cpu", "--precision", "fp32"],
    "demo": ["-n", "10"],
    "finetune": ["--epochs", "1", "--lr", "0.01", "--workers", "0"],
    "visualize": ["--n", "2"],
    "recommend": ["--architecture", "resnet18_x0_25"],
}


def words_of(line):
    """The commands on a line, each as its words."""
    parts = re.split(r"\s{2,}(?=robust-zoo)", line.strip())
    return [shlex.split(re.sub(r".*\$\((.*?)\).*", r"\1", part), comments=True) for part in parts]


def documented():
    """Commands of fenced blocks of README and docs/, of their sentences, and of every help text; each once."""
    lines = [line for language, block in FENCED if not language for line in block.splitlines() if line.strip()]
    for page in PAGES:
        lines += [text.replace("\n", " ") for text in re.findall(r"`((?:robust-zoo|pip) [^` ]+ [^`]+)`", page)]
    for _, command in [([], main), *commands()]:
        blocks = re.findall(r"\x08\n((?:.+\n)+)", inspect.cleandoc(command.help) + "\n")
        lines += [
            line for block in blocks for line in block.splitlines() if line.startswith(("robust-zoo", "torchrun"))
        ]
    found = [command for line in lines for command in words_of(line)]
    return sorted({tuple(c) for c in found if "COMMAND" not in c})


def reason_not_to_run(command):
    """Why it is not run, "" when it is: the first of NOT_RUN whose words the command has."""
    has = (set(words.split()) <= set(command) for words in NOT_RUN)
    return next((why for found, why in zip(has, NOT_RUN.values(), strict=True) if found), "")


COMMANDS = documented()
RUN = [c for c in COMMANDS if not reason_not_to_run(c)]


def verb_of(args):
    """The click command of these words, and what is left of them."""
    verb, args = main, list(args)
    while isinstance(verb, click.Group) and args and not args[0].startswith("-"):
        default = args[0] not in verb.list_commands(ROOT) and "run" in verb.list_commands(ROOT)
        verb = verb.get_command(ROOT, "run" if default else args.pop(0))
    return verb, args


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with all that the documented commands name."""
    root = tmp_path_factory.mktemp("documented")
    pixels = cifar10_sample(6)
    for label in range(2):
        for i in range(6):
            file = root / "photos" / f"class{label}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.images[6 * label + i].permute(1, 2, 0).numpy()).save(file)
    for name in ("cat.jpg", "dog.jpg"):
        Image.fromarray(pixels.images[len(name)].permute(1, 2, 0).numpy()).save(root / name)
    squares(root / "coco", train=8, val=2)
    tiny = 'part = "head"\nepochs = 1\nside = 32\nlongest = 32\nmaps = 2\nwidth = 8\nsamples = 8\n'
    (root / "frozen.toml").write_text(tiny)
    write_data(root / "cifar10.npz")
    (root / "quick.toml").write_text("epochs = 1\n")
    shutil.copytree(HOME / "model_cards", root / "model_cards")
    (root / "tiny.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 1"))
    for name in ("pets", "dtd", "flowers"):
        getattr(trees, name)(root / "DATASETS")
    for name in ("l2", "linf"):
        epoch = {"kind": "epoch", "step": 1, "epoch": 1, "clean": 50.0, "single_step": 40.0, "pgd10": 30.0}
        log = [{"kind": "step", "step": 1, "loss": 1.0}, epoch | {"threat": name}]
        (root / "runs" / name).mkdir(parents=True)
        (root / "runs" / name / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    for folder in ("downloads", "old_weights"):
        (root / folder).mkdir()
    checkpoints.save(root / "mine.ckpt", "shufflenet")
    shutil.copy(HOME / "robust_zoo" / "bundled" / f"{ROBUST}.safetensors", root / "weights.safetensors")
    shutil.copy(root / "mine.ckpt", root / "old_weights" / "resnet50.ckpt")
    with Hub() as hub, pytest.MonkeyPatch.context() as patch:
        hub.files[get(FETCHED).file] = (root / "mine.ckpt").read_bytes()
        patch.chdir(root)
        patch.setenv("ROBUST_ZOO_CACHE", str(root / "cache"))
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("NO_PROXY", "127.0.0.1")
        for made in (["download", FETCHED], ["bundle", FETCHED, "-o", "robust.tar"]):
            assert run(*made).exit_code == 0
        yield root, hub


@pytest.fixture
def here(place, monkeypatch):
    """In that directory, with its cache and hub, few images where a command takes the bundled ones, few penalties."""
    root, hub = place
    monkeypatch.chdir(root)
    monkeypatch.setenv("ROBUST_ZOO_CACHE", str(root / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(cost, "_TRIAL_SECONDS", 0.0)
    shorten(monkeypatch)
    monkeypatch.setattr(linear, "PENALTIES", linear.PENALTIES[:2])
    monkeypatch.setattr(sample_suite, "TARGETS", (few,))
    monkeypatch.setattr(demo, "digits", few)
    plan = replace(sample_suite.SAMPLE_PLAN, settings=replace(sample_suite.SAMPLE_PLAN.settings, train_size=5))
    for module in (demo, sample_suite):
        monkeypatch.setattr(module, "SAMPLE_PLAN", replace(plan, seeds=range(1)))
    return root


def few():
    target = sample_suite.cifar10_half()
    return replace(target, train=spread(target.train, 200), test=spread(target.test, 20))


def smaller(command):
    """A documented command as it is run here."""
    verb, *rest = command[1:]
    small = SMALL if verb not in _FETCHING else SMALL | dict.fromkeys(("resnet50_l2_eps3", "resnet50_l2_*"), FETCHED)
    if verb in ("list", "info", "card", "recipe"):  # nothing of these is computed with
        small = {}
    if verb == "convert":
        small |= {"resnet50": "shufflenet"}
    args = [small.get(word, word) for word in rest]
    if verb == "train":
        args = [f"{word}-here" if word.startswith("runs/") else word for word in args]
    cheaper = ["--n", "2"] if "corruptions" in args and verb == "evaluate" else CHEAPER.get(verb, [])
    quick = ["--settings", "quick.toml"] if "finetune" in rest and rest[0] != "settings" else []
    return [verb, *args, *cheaper, *quick]


@pytest.mark.parametrize("command", RUN, ids=" ".join)
def test_command_runs(here, command):
    if command[1:2] == ("transfer",) and "report" in command:
        shutil.copytree(cells(here), here / "transfer", dirs_exist_ok=True)
    if "--granularity" in command:
        (here / "small.toml").write_text("shrink = 8\ntrain_size = 5\n")
        (here / "whole.toml").write_text("train_size = 5\n")
        for settings in ("small.toml", "whole.toml"):
            assert run("transfer", BUNDLED, "--suite", "sample", "--settings", settings).exit_code == 0
    official = (command[1] == "transfer" and "pets" in command) or (
        command[1:3] == ("data", "check") and len(command) > 4
    )
    result = run(*smaller(command))
    if official:  # small copies of official datasets are refused, in words, and before any work
        assert result.exit_code == 1 and "expected:" in result.stdout + result.stderr, result.output
    else:
        assert result.exit_code == 0, result.output
    for option in ("--plot", "--csv", "-o"):
        if option in command and not official and command[1] != "card":
            assert (here / command[command.index(option) + 1]).exists() or command[1] == "convert"


def cells(here):
    """The folder of one small transfer."""
    folder = here / "made-cells"
    if not folder.exists():
        assert run("transfer", "--suite", "sample", ROBUST, "--out", folder).exit_code == 0
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_parses(command, here):
    program, *args = command
    if program == "robust-zoo":
        verb, rest = verb_of(args)
        if isinstance(verb, click.Command) and not {"-h", "--help"} & set(rest):
            rest = ["tiny.toml" if word == "mine.toml" else word for word in rest]
            verb.make_context(verb.name, rest, parent=ROOT)  # raises when an option or an argument is wrong
    elif program == "torchrun":
        get(args[args.index("robust_zoo.training") + 1])
    else:
        assert reason_not_to_run(command)


def test_every_exception_is_needed():
    for words in NOT_RUN:
        assert any(set(words.split()) <= set(command) for command in COMMANDS), words
    assert len(RUN) > 40
