"""`robust-zoo attack` on a folder: every image once, in folders of the same names, in bounded memory; and targets."""

import csv
import tarfile
import weakref
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from verbs import run_to as run

from robust_zoo import create_model, pixel_model
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.attacks.pictures import targeted_pictures
from robust_zoo.training.data.cifar10_sample import cifar10_classes, cifar10_sample
from robust_zoo.training.data.encoded import EncodedImages
from robust_zoo.training.data.folders import open_folder
from robust_zoo.training.data.unlabelled import Unlabelled
from robust_zoo.training.evaluation import attack_images
from robust_zoo.training.evaluation.attack_files import outputs, read_saved
from robust_zoo.training.evaluation.attack_images import attack_each
from robust_zoo.views import View

ROBUST = "resnet18_x0_25_cifar10_l2_eps0_5"
NAMES = cifar10_classes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images of two classes of no model; two are alike but for their ending, one lies deeper, one is no image."""
    root = tmp_path_factory.mktemp("attacked") / "photos"
    pixels = cifar10_sample(1).images
    places = (
        [f"pets/{i}.png" for i in range(4)] + ["pets/3.bmp", "things/old/5.png"] + [f"things/{i}.png" for i in range(4)]
    )
    for image, place in zip(pixels, places, strict=True):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / place)
    (root / "pets" / "notes.txt").write_text("x")
    return root


def lines(out):
    return [*csv.DictReader((out / "report.csv").read_text(encoding="utf-8").splitlines())]


def test_a_folder_becomes_a_folder_and_a_report(folder, tmp_path):
    out = tmp_path / "out"
    result = run("attack", ROBUST, folder, "-a", "pgd-2", "--batch-size", 3, "-o", out)
    assert "2 classes, 10 images; left out: 1 .txt" in result.stderr
    source, made, report = open_folder(folder), open_folder(out), lines(out)
    assert [line["image"] for line in report] == list(source.names)
    assert made.classes == source.classes and made.labels.tolist() == source.labels.tolist()
    assert sorted(line["saved"] for line in report) == sorted(str(out / name) for name in made.names)
    assert {"pets/3_adversarial.png", "pets/3_adversarial_2.png", "things/old/5_adversarial.png"} <= {*made.names}
    model, threat = pixel_model(create_model(ROBUST)).eval(), get(ROBUST).threat
    given = Unlabelled(tuple(map(Path, source.names)), View(32, 32), source)
    images, adv_images = given.batch(range(10)), torch.stack([read_saved(Path(line["saved"])) for line in report])
    with torch.no_grad():
        before, after = (model(x).argmax(1).tolist() for x in (images, adv_images))
    assert [(line["before"], line["after"]) for line in report] == [
        (NAMES[a], NAMES[b]) for a, b in zip(before, after, strict=True)
    ]
    fooled = [line["fooled"] == "yes" for line in report]
    assert fooled == [a != b for a, b in zip(before, after, strict=True)] and sum(fooled) > 0
    sizes = rules("l2").size(adv_images - images).flatten()
    assert sizes.max() <= threat.eps + 1e-6 and [f"{s:.6f}" for s in sizes] == [line["l2"] for line in report]
    said = f"{sum(fooled)} of 10 images ({10 * sum(fooled):.1f} %) are called something else within l2 eps 0.5"
    assert result.stdout.splitlines() == [said, str(out / "report.csv"), str(out / "attack.png")]


def test_batches_do_not_matter(folder, tmp_path):
    one, all_ = ([*attack_each(ROBUST, [folder], None, "fgsm", tmp_path / f"{n}", batch_size=n)] for n in (1, 10))
    for a, b in zip(one, all_, strict=True):
        assert (a.file, a.before[0], a.after[0]) == (b.file, b.before[0], b.after[0])
        assert (a.adv_image - b.adv_image).abs().max() <= 1.01 / 255


def test_no_more_than_a_batch_and_the_sheet_is_held(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(attack_images, "_SHEET_ROWS", 2)
    born, most = [], 0
    for one in attack_each(ROBUST, [folder], None, "fgsm", tmp_path / "out", batch_size=3):
        born.append(weakref.ref(one))
        assert one.image.untyped_storage().nbytes() == one.image.nbytes  # no view of its batch
        del one
        most = max(most, sum(ref() is not None for ref in born))
    assert len(born) == 10 and most <= 3 + 2
    with Image.open(tmp_path / "out" / "attack.png") as sheet:
        assert sheet.height < 2 * 320


def test_a_target_is_reached_and_said(folder, tmp_path):
    how = ("--norm", "l2", "--eps", 3, "-a", "pgd-5", "--target", "truck", "-o", tmp_path / "out")
    result = run("attack", ROBUST, folder, *how)
    report = lines(tmp_path / "out")
    assert all((line["fooled"] == "yes") == (line["after"] == "truck" != line["before"]) for line in report)
    count = Counter(line["fooled"] for line in report)["yes"]
    assert count >= 5 and f"{count} of 10 images ({10 * count:.1f} %) are called truck within l2 eps 3" in result.stdout
    named, numbered = (
        run("attack", ROBUST, folder / "pets" / "0.png", *how[:6], "-t", target, "-o", tmp_path / "one").stdout
        for target in ("truck", 9)
    )
    assert named == numbered and "-> truck" in named
    same = run(
        "attack", ROBUST, tmp_path / "one" / "0_adversarial.png", *how[:6], "-t", 9, "-o", tmp_path / "two"
    ).stdout
    assert "it was called truck before" in same


@pytest.mark.parametrize("attack", ["pgd-20", "pgd-20x2", "fgsm"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_target_of_a_linear_model_is_reached_where_the_ball_reaches_it(norm, attack):
    """Of two classes: the score rises by eps times the weight's dual norm at most, and all of it is taken."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 8, 8, generator=rng)

    class Two(nn.Module):
        def forward(self, images):
            score = ((images - 0.5) * weight).flatten(1).sum(1) - 0.5
            return torch.stack([torch.zeros_like(score), score], 1)

    images = (0.5 + 0.02 * torch.randn(64, 3, 8, 8, generator=rng)).mul(255).round() / 255
    margin, eps = Two()(images)[:, 1], {"l2": 0.06, "linf": 1 / 255}[norm]
    reach = eps * (weight.norm() if norm == "l2" else weight.abs().sum())
    found = targeted_pictures(Two().eval(), images, torch.ones(64, dtype=torch.long), ThreatModel(norm, eps), attack)
    reached = Two()(found)[:, 1] > 0
    assert reached[margin + 0.9 * reach > 0].all() and not reached[margin + reach < 0].any()  # 0.1 for 8 bits
    assert 0 < reached.sum() < 64
    assert (rules(norm).size(found - images) <= eps + 1e-6).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-t", "emu"], "'emu' is no class of CIFAR-10"),
        (["-t", "10"], "'10' is no class"),
        (["-t", "cat", "-a", "autoattack"], "leads away from a class"),
        (["-t", "cat", "-a", "pgd-zero"], "unknown attack"),
        (["--eps", "0", "--norm", "l2"], "nothing would change"),
        (["-o", "{folder}/pets/out"], "outside the folder of images"),
        (["-o", "{folder}"], "outside the folder of images"),
        (["{folder}/pets/0.png"], "or one folder alone"),
        (["--device", "abacus"], "no device"),
    ],
)
def test_bad_calls_are_refused_before_the_work(folder, tmp_path, monkeypatch, words, said):
    monkeypatch.setattr(attack_images, "create_model", None)
    monkeypatch.chdir(tmp_path)
    found = run("attack", ROBUST, folder, *(word.format(folder=folder) for word in words), code=2).stderr
    assert said in found and "next:" in found


def test_an_image_that_cannot_be_decoded_is_named(folder, tmp_path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "1.png").write_bytes((folder / "pets" / "1.png").read_bytes())
    (tmp_path / "in" / "a" / "2.png").write_bytes(b"x")
    said = run(
        "attack", ROBUST, tmp_path / "in", "-a", "fgsm", "--batch-size", 1, "-o", tmp_path / "out", code=1
    ).stderr
    assert "cannot decode a/2.png" in said and "take the file away" in said
    assert (tmp_path / "out" / "a" / "1_adversarial.png").exists() and not (tmp_path / "out" / "report.csv").exists()


def test_no_name_leads_out_of_the_directory(tmp_path):
    odd = ["../../x/1.jpg", "/etc/1.jpg", "a:b/c?.jpg", "./d/1.jpg", "..\\e/1.jpg"]
    source = EncodedImages(odd, [1] * len(odd), torch.zeros(len(odd)), ("a",), bytes)
    found = outputs(Unlabelled(tuple(map(Path, odd)), View(32, 32), source), tmp_path / "out")
    places = [path.relative_to(tmp_path / "out").as_posix() for path in found]
    assert places == [f"{name}_adversarial.png" for name in ("x/1", "etc/1", "a_b/c_", "d/1", ".._e/1")]


def test_a_tar_file_is_taken_as_it_lies(folder, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(folder / "pets", "pets")
    out = tmp_path / "out"
    run("attack", ROBUST, tmp_path / "photos.tar", "-a", "fgsm", "-o", out)
    assert [line["image"] for line in lines(out)] == [
        f"pets/{name}" for name in ("0.png", "1.png", "2.png", "3.bmp", "3.png")
    ]
    assert len([*(out / "pets").iterdir()]) == 5
