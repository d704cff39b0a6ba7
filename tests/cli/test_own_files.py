"""A file of one's own goes everywhere by its path: what train exported, and what convert wrote."""

import csv
import json
import re
from dataclasses import asdict

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from verbs import run_to

import robust_zoo
from robust_zoo.errors import UnknownCheckpoint, UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.weights.exported import checkpoint_of
from robust_zoo.weights.safetensors_file import read_header, write_safetensors

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
WORDS = ["--dataset", "cifar10", "--norm", "l2", "--eps", "0.5"]
STATISTICS = ["--mean", "0.4914,0.4822,0.4465", "--std", "0.247,0.2435,0.2616"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """mine.pth as a training left it; mine.safetensors as convert, trained.safetensors as train wrote it."""
    folder = tmp_path_factory.mktemp("own")
    checkpoint = robust_zoo.get(NAME)
    state = robust_zoo.create_model(NAME).state_dict()
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, folder / "mine.pth")
    run_to(
        "convert", folder / "mine.pth", "-a", "resnet18_x0_25", *WORDS, *STATISTICS, "-o", folder / "mine.safetensors"
    )
    measured = [{"attack": "none", "correct": 8, "n": 10, "data": "cifar10 test", "code": "x"}]
    header = {
        "name": f"{NAME}_custom", "architecture": checkpoint.architecture, "dataset": "cifar10", "norm": "l2",
        "eps": "0.5", "licence": "mit", "preprocessing": json.dumps(asdict(checkpoint.preprocessing)),
        "metrics": json.dumps(measured), "training": "here",
    }  # fmt: skip
    write_safetensors(folder / "trained.safetensors", state, header)
    return folder


@pytest.mark.parametrize("file", ["mine.safetensors", "trained.safetensors"])
def test_create_model_by_path_and_as_checkpoint_path(folder, file, own_machine):
    path, expected = folder / file, robust_zoo.create_model(NAME)
    for model in (robust_zoo.create_model(str(path)), robust_zoo.create_model("resnet18_x0_25", checkpoint_path=path)):
        assert all(torch.equal(v, expected.state_dict()[k]) for k, v in model.state_dict().items())
        for key in ("mean", "std", "input_size", "crop_pct", "num_classes", "interpolation"):
            assert model.pretrained_cfg[key] == expected.pretrained_cfg[key], key


@pytest.mark.parametrize("file", ["mine.safetensors", "trained.safetensors"])
def test_info_card_and_evaluate(folder, file, tmp_path):
    path = folder / file
    facts = json.loads(run_to("info", path, "--json").stdout)
    assert (facts["architecture"], facts["norm"], facts["eps"]) == ("resnet18_x0_25", "l2", 0.5)
    assert facts["clean_accuracy"] == (80 if file == "trained.safetensors" else None)
    shown = run_to("info", path).stdout
    assert "nan" not in shown and f"create_model({str(path)!r})" in shown
    assert "l2" in run_to("card", path).stdout
    command = ["-a", "pgd-2", "--n", "20", "--no-checks", "--json"]
    mine = json.loads(run_to("evaluate", path, *command, "--out", tmp_path / "a").stdout)
    zoo = json.loads(run_to("evaluate", NAME, *command, "--out", tmp_path / "b").stdout)
    correct = [(e["clean_correct"], e["robust_correct"]) for e in zoo]
    assert correct and [(e["clean_correct"], e["robust_correct"]) for e in mine] == correct


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight images of each of two classes."""
    root, sample = tmp_path_factory.mktemp("images") / "photos", cifar10_sample(8)
    for i, pixels in enumerate(sample.images[:16]):
        file = root / f"class{i // 8}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file)
    return root


def test_a_file_that_was_not_measured_goes_all_the_way(folder, photos, tmp_path):
    """What convert wrote has no accuracy: it is null or a dash, nowhere NaN, and nothing is refused later."""
    path, plot = folder / "mine.safetensors", tmp_path / "a.svg"
    name, cache = checkpoint_of(path).name, ("--cache-dir", tmp_path / "cache")
    assert checkpoint_of(path).clean_accuracy is None
    card = run_to("card", path).stdout
    assert "Clean accuracy: not measured yet." in card and str(path) in card
    assert ModelCard(card).data.license == "unknown"  # the hub refuses a model-index without results
    said = [run_to("info", path).stdout, card]
    said.append(run_to("attack", path, photos / "class0" / "0.png", "--out", tmp_path / "adv").stdout)
    said.append(run_to("evaluate", path, "-a", "none", "--n", "20", "--out", tmp_path / "ledger").stdout)
    said.append(run_to("report", tmp_path / "ledger", "--csv", tmp_path / "ledger.csv").stdout)

    command = ["transfer", path, NAME, "--dataset", photos, "--out", tmp_path / "cells", *cache]
    first, again = (json.loads(run_to(*command, "--json").stdout) for _ in range(2))
    assert first == again and [e["checkpoint"]["clean_accuracy"] for e in first] == [None, get(NAME).clean_accuracy]
    report = run_to("transfer", "report", tmp_path / "cells", "--csv", tmp_path / "cells.csv", "--plot", plot)
    assert f"not drawn against source accuracy, which is unknown: {name}" in report.stderr
    rows = {row["model"]: row for row in csv.DictReader((tmp_path / "cells.csv").read_text().splitlines())}
    assert rows[name]["source_accuracy"] == "" and float(rows[NAME]["source_accuracy"]) == get(NAME).clean_accuracy
    said += [
        report.stdout,
        *(file.read_text() for file in tmp_path.glob("*/*.json")),
        (tmp_path / "cells.csv").read_text(),
    ]

    advice = run_to("recommend", photos, "-c", path, "--plot", tmp_path / "b.png", *cache)
    said.append(advice.stdout)
    assert f'create_model("{path}"' in advice.stdout
    assert not [text for text in said if re.search(r"\bnan\b", text, re.IGNORECASE)]


def test_two_files_of_one_name_are_two_models(folder, photos, tmp_path):
    """Weights that know nothing, under the name of ones that do."""
    header = read_header(folder / "mine.safetensors")
    header.pop("format")
    state = {k: torch.zeros_like(v) for k, v in robust_zoo.create_model(NAME).state_dict().items()}
    write_safetensors(tmp_path / "zero.safetensors", state, header)
    files = [arg for file in (folder / "mine.safetensors", tmp_path / "zero.safetensors") for arg in ("-c", file)]
    best, worst = json.loads(run_to("recommend", photos, *files, "--json", "--cache-dir", tmp_path / "cache").stdout)
    assert best["checkpoint"] == worst["checkpoint"] and best["correct"] > worst["correct"]


@pytest.mark.parametrize("figure", [
    {"correct": 11}, {"correct": -1}, {"correct": 8.0}, {"correct": True}, {"n": 0}, {"n": "10"}, {"data": ["x"]},
    {"code": None}, {"attack": 1, "norm": "l2", "eps": 0.5}, {"attack": "pgd-20"}, {"more": 1},
])  # fmt: skip
def test_a_header_whose_figure_is_none(folder, tmp_path, figure):
    """An accuracy above 100 % would come back in cells, which are refused for it."""
    header = read_header(folder / "trained.safetensors")
    header.pop("format")
    header["metrics"] = json.dumps([json.loads(header["metrics"])[0] | figure])
    write_safetensors(tmp_path / "a.safetensors", {"fc.bias": torch.zeros(3)}, header)
    with pytest.raises(UsageError, match="cannot read"):
        checkpoint_of(tmp_path / "a.safetensors")


def test_an_accuracy_under_attack_is_no_clean_accuracy(folder, tmp_path):
    header = read_header(folder / "trained.safetensors")
    header.pop("format")
    (clean,) = json.loads(header["metrics"])
    attacked = clean | {"attack": "pgd-20", "norm": "l2", "eps": 0.5, "correct": 3}
    for metrics, expected in (([attacked], None), ([attacked, clean], 80)):
        header["metrics"] = json.dumps(metrics)
        write_safetensors(tmp_path / "a.safetensors", {"fc.bias": torch.zeros(3)}, header)
        found = checkpoint_of(tmp_path / "a.safetensors")
        assert found.clean_accuracy == expected and {m.attack for m in found.measured} >= {"pgd-20"}
        assert ("not measured" in found.evidence) == (expected is None)
    header["metrics"] = json.dumps([clean | {"correct": 0}])
    write_safetensors(tmp_path / "a.safetensors", {"fc.bias": torch.zeros(3)}, header)
    assert "0.00 %, measured on 10 images" in run_to("info", tmp_path / "a.safetensors").stdout  # 0 is an accuracy


def test_convert_says_what_is_missing(folder, tmp_path):
    bare = tmp_path / "bare.safetensors"
    result = run_to("convert", folder / "mine.pth", "-a", "resnet18_x0_25", "-o", bare)
    assert "--mean" in result.stderr
    error = run_to("info", bare, code=2).stderr
    for option in ("--dataset", "--norm", "--eps", "--mean", "--std"):
        assert option in error
    again = tmp_path / "whole.safetensors"
    run_to("convert", bare, *WORDS, *STATISTICS, "-o", again)  # the architecture is the file's own word
    assert checkpoint_of(again).threat.eps == 0.5 and "_whole_" in checkpoint_of(str(again)).name


def test_a_file_that_is_no_checkpoint_yet(folder, tmp_path):
    with pytest.raises(UsageError, match="does not say what it is") as error:
        checkpoint_of(folder / "mine.pth")
    assert "robust-zoo convert" in error.value.next
    for path in (tmp_path / "none.safetensors", "none.pth"):
        with pytest.raises(UnknownCheckpoint, match="no such file"):
            checkpoint_of(path)
    with pytest.raises(UnknownCheckpoint):
        checkpoint_of("resnet50_l2_eps9")
    assert checkpoint_of(f"{NAME}.ckpt").name == NAME


def test_ema_or_raw_of_convert(tmp_path):
    states = [robust_zoo.create_model(NAME).state_dict(), robust_zoo.create_model(NAME, num_classes=9).state_dict()]
    torch.save({"model": states[0], "model_ema": states[1]}, tmp_path / "two.pth")
    command = ["convert", tmp_path / "two.pth", "-a", "resnet18_x0_25", "-o"]
    said = run_to(*command, tmp_path / "any.safetensors").stderr
    run_to(*command, tmp_path / "raw.safetensors", "--raw")
    assert "averaged ones (model_ema) are taken" in said and "--raw" in said
    assert read_header(tmp_path / "any.safetensors")["num_classes"] == "9"
    assert read_header(tmp_path / "raw.safetensors")["num_classes"] == "10"


@pytest.mark.parametrize(
    "wrong", [{"mean": [0.5]}, {"std": [0, 1, 1]}, {"mean": ["a", 0, 0]}, {"crop_pct": None}, {"more": 1}]
)
def test_a_header_that_makes_no_sense(folder, tmp_path, wrong):
    header = read_header(folder / "trained.safetensors")
    header["preprocessing"] = json.dumps(json.loads(header["preprocessing"]) | wrong)
    header.pop("format")
    write_safetensors(tmp_path / "a.safetensors", {"fc.bias": torch.zeros(3)}, header)
    with pytest.raises(UsageError, match="cannot read"):
        checkpoint_of(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["../../evil", "/etc/x", "A", ""])
def test_a_name_out_of_a_file_is_a_name(folder, tmp_path, name):
    header = read_header(folder / "trained.safetensors") | {"name": name}
    header.pop("format")
    write_safetensors(tmp_path / "a.safetensors", {"fc.bias": torch.zeros(3)}, header)
    with pytest.raises(UsageError, match="cannot read"):
        checkpoint_of(tmp_path / "a.safetensors")
