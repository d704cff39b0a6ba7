"""`compare`: facts side by side, figures of one kind in a line, image by image with a ledger."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from second_rows import CIFAR, CONVNEXT, ENGSTROM, GIANT, SWIN, planted
from verbs import run, run_to

from robust_zoo.registry.lookup import get, list_models
from robust_zoo.training.evaluation import paired

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def strong():
    with planted():
        yield


def shown(*args):
    """The cells of each line by its first one, and the legend; two or more spaces stand between cells."""
    result = run_to("compare", *args)
    lines = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines() if line]
    return lines, result.stderr.splitlines()


def test_facts_and_figures(strong):
    lines, legend = shown(SWIN, CONVNEXT, GIANT)
    assert lines[:3] == [["A", SWIN], ["B", CONVNEXT], ["C", GIANT]]
    facts = {line[0]: line[1:] for line in lines}
    assert facts["architecture"] == ["swin_large_patch4_window7_224", "convnext_base", "vit_giant_patch14_336"]
    assert facts["parameters"] == ["197M", "88.6M", "1013M"] and facts["trained for"] == ["linf eps 4/255"] * 3
    assert facts["input"] == ["3x224x224", "3x224x224", "3x336x336"]
    assert facts["resize"][2] == "384 bicubic, center" and facts["mean"][0] == "0.485 0.456 0.406"
    assert facts["licence"] == ["apache-2.0", "apache-2.0", "unknown"] and facts["weights"] == ["unverified"] * 3
    assert facts["size"] == ["~786 MB", "354 MB", "~4,052 MB"]
    figures = lines[next(i for i, line in enumerate(lines) if line[0] == "ACCURACY, %") + 1 :]
    assert figures == [
        ["clean, 5,000 images", "79.36 a", "76.02 a", "-", "apart"],
        ["clean, 1,000 images", "-", "77.20 b", "-", "alone"],
        ["clean, number of images not said", "-", "-", "83.90 b", "alone"],
        ["AutoAttack, linf 4/255, 5,000 images", "53.82 a", "54.40 a", "-", "overlap"],
        ["AutoAttack, linf 4/255, 1,000 images", "-", "56.80 b", "-", "alone"],
        ["AutoAttack, linf 4/255, number of images not said", "-", "-", "71.00 b", "alone"],
        ["AutoAttack, linf 4/255, 5,000 images of 256 px", "-", "57.30 a", "-", "alone"],
    ]  # the giant's figure at L2 2 has nothing beside it
    assert legend[1:] == [
        "a  RobustBench model_info @78fcc9e (standard AutoAttack, 5,000 val images)",
        "b  the authors' README",
    ]


def test_measured_and_reported_never_look_alike(strong):
    lines, legend = shown(CIFAR, ENGSTROM)
    facts = {line[0]: line[1:] for line in lines}
    assert facts["PGD-20, linf 4/255, 1,000 images"] == ["54.70* (51.6-57.8) c", "-", "alone"]
    assert facts["PGD-100, linf 4/255, number of images not said"] == ["-", "73.00 a", "alone"]
    assert "c  measured by robust_zoo on cifar10 test, 1000 evenly spread" in legend


def test_json(strong):
    found = json.loads(run_to("compare", SWIN, CONVNEXT, "--json").stdout)
    assert [row["name"] for row in found["checkpoints"]] == [SWIN, CONVNEXT]
    assert found["checkpoints"][0]["parameters"] == 196_532_476
    line = next(x for x in found["figures"] if x["attack"] == "autoattack" and x["comparable"])
    assert (line["norm"], line["n"], line["note"]) == ("linf", 5000, "")
    assert {name: figure["value"] for name, figure in line["figures"].items()} == {SWIN: 53.82, CONVNEXT: 54.4}
    nothing = dict.fromkeys(("p", "only_first", "only_second", "difference", "interval_95"))
    assert line["pairs"] == [{"names": [SWIN, CONVNEXT], "apart": False, **nothing}]
    assert {x["note"] for x in found["figures"] if not x["comparable"]} == {"alone"}


def p_of(a, b):
    """McNemar's exact p of two arrays of right and wrong, by its formula."""
    b_only, a_only = int((b & ~a).sum()), int((a & ~b).sum())
    n = a_only + b_only
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(a_only, b_only) + 1)) / 2**n)


def right(file, clean):
    with np.load(file.with_suffix(".npz")) as arrays:
        broken_by = arrays["fell" if "fell" in arrays else "broken_by"]
    return broken_by != -2 if clean else broken_by == -1


def test_a_ledger_tells_apart_image_by_image(monkeypatch):
    """Against the ledger's own files, read here without the package."""
    names = [n for n in list_models(bundled=True, architecture="resnet18_x0_25") if get(n).eps][:2]
    found = json.loads(run_to("compare", *names, "--ledger", RESULTS, "--json").stdout)["figures"]
    checked = 0
    for line in found:
        if not line["pairs"]:
            continue
        files = []
        for name, figure in line["figures"].items():
            weights = {m.weights_sha256 for m in get(name).measured}
            for file in (RESULTS / name).glob("*.json"):
                entry = json.loads(file.read_text())
                if entry["weights_sha256"] in weights and (
                    (entry["attack"], entry["norm"] or "", entry["eps"], entry["n"], entry["dataset"])
                    == (figure["attack"], figure["norm"], figure["eps"], figure["n"], figure["images"])
                ):
                    files.append(file)
        a, b = (right(file, line["attack"] == "none") for file in files)
        pair = line["pairs"][0]
        assert (pair["only_first"], pair["only_second"]) == ((a & ~b).sum(), (b & ~a).sum())
        assert pair["difference"] == pytest.approx(100 * (a.mean() - b.mean()), abs=1e-9)
        assert pair["interval_95"][0] < pair["difference"] < pair["interval_95"][1]
        assert pair["p"] == pytest.approx(p_of(a, b), rel=1e-9)
        assert line["pairs"][0]["apart"] == (p_of(a, b) < 0.05)
        checked += 1
    assert checked >= 2

    read = paired.read_fates
    other = {names[0]: "0" * 64}
    monkeypatch.setattr(
        paired, "read_fates",
        lambda file: (
            read(file)[0] | ({"data_sha256": other[file.parent.name]} if file.parent.name in other else {}),
            *read(file)[1:],
        ),
    )  # fmt: skip
    told = json.loads(run_to("compare", *names, "--ledger", RESULTS, "--json").stdout)["figures"]
    assert {pair["p"] for line in told for pair in line["pairs"]} == {None}  # other images: nothing is paired


WRONG = [
    ([], 2, "2 to 6"),
    (["resnet50_linf_eps4"], 2, "1 checkpoint cannot"),
    (["resnet50_linf_eps4", "resnet50_linf_eps4.0.ckpt"], 2, "1 checkpoint cannot"),  # one and the same
    (["resnet50_*"], 2, "2 to 6"),
    (["resnet50_linf_eps4", "resnet51_linf_eps4"], 4, "closest"),
    (["resnet50_linf_eps4", "resnet18_linf_eps4", "--ledger", "/nowhere"], 2, "a ledger of robust-zoo evaluate"),
]


@pytest.mark.parametrize(("args", "code", "says"), WRONG, ids=range(len(WRONG)))
def test_wrong_input(args, code, says):
    result = run("compare", *args)
    assert (result.exit_code, says in result.stderr) == (code, True), result.stderr
    assert result.stdout == "" and "next:" in result.stderr
