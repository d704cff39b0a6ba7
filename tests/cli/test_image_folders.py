"""Folders of images at the command line: what was taken and left out is on stderr, in the table and in the cell."""

import json

import pytest
from PIL import Image
from verbs import run_to as run

from robust_zoo.training.data.cifar10_sample import cifar10_classes, cifar10_sample
from robust_zoo.training.transfer.protocols.linear import PENALTIES

ROBUST = "resnet18_x0_25_cifar10_l2_eps0_5"


def write(root, n, kind="png", classes=3, start=0):
    data, names = cifar10_sample(), cifar10_classes()
    for label in range(classes):
        (root / names[label]).mkdir(parents=True, exist_ok=True)
        for k, i in enumerate((data.labels == label).nonzero().flatten()[start : start + n].tolist()):
            pixels = Image.fromarray(data.images[i].permute(1, 2, 0).numpy())
            pixels.save(root / names[label] / f"{start + k}.{kind}")


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """30 images to train on, half of them .bmp, 15 to choose by, 15 to test on; and what lies about."""
    root = tmp_path_factory.mktemp("folders") / "photos"
    write(root / "Train", 5)
    write(root / "Train", 5, "bmp", start=5)
    write(root / "val", 5, start=10)
    write(root / "test", 5, start=15)
    (root / "Train" / "bird" / "Thumbs.db").write_text("x")
    (root / "Train" / "bird" / "1.heic").write_text("x")
    return root


def test_transfer_says_what_it_took(splits, tmp_path):
    command = ["transfer", ROBUST, "--dataset", splits, "--out", tmp_path / "cells", "--cache-dir", tmp_path]
    result = run(*command)
    note = ("3 classes, 30 train, 15 val, 15 test images; val is for choosing; "
            "left out: 1 .heic, what is hidden or a system's (Thumbs.db)")  # fmt: skip
    assert f"{splits}: {note}\n" in result.stderr and f"photos: {note}\n" in result.stdout
    (cell,) = json.loads(run(*command, "--json").stdout)
    assert cell["note"] == note and cell["n"] == 15


def test_recommend_takes_the_training_images(splits, tmp_path, monkeypatch):
    monkeypatch.setattr("robust_zoo.training.transfer.recommend.PENALTIES", PENALTIES[:2])
    result = run("recommend", splits, "-a", "resnet18_x0_25", "--workers", 0, "--cache-dir", tmp_path)
    assert "linear probes on 30 images of 3 classes" in result.stdout
    assert "3 classes, 30 images in Train; not looked at: test, val; left out: 1 .heic" in result.stderr


def test_evaluate_measures_the_folder_that_it_is_given(splits, tmp_path):
    """Every bundled image as a PNG under its class's name: the count that the sample gives."""
    write(tmp_path / "cifar", 1000, classes=10)
    measure = ["evaluate", ROBUST, "--attack", "none", "--no-checks", "--json", "--out", tmp_path / "ledger"]
    result = run(*measure, "--data", tmp_path / "cifar")
    (of_folder,), (of_sample,) = json.loads(result.stdout), json.loads(run(*measure).stdout)
    assert of_folder["clean_correct"] == of_sample["clean_correct"] and of_folder["n"] == of_sample["n"] > 100
    assert of_folder["dataset"] == "cifar10 folder" and f"10 classes, {of_sample['n']:,} images" in result.stderr
    assert run(*measure, "--data", splits).stderr.count("3 classes, 15 images in test") == 1
    (splits / "test" / "emu").mkdir()
    Image.new("RGB", (32, 32)).save(splits / "test" / "emu" / "1.png")
    assert "'emu' is no class of CIFAR-10" in run(*measure, "--data", splits, code=2).stderr
    assert "comes with the package" in run(*measure, "-d", "sample", "--data", splits, code=2).stderr
