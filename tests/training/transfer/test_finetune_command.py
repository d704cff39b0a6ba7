"""`robust-zoo finetune`: killed anywhere it ends with the same file; who takes the file; what is refused, and how."""

import json
import re
import shutil
import signal

import numpy as np
import pytest
import timm
import torch
from photos import write_photos
from PIL import Image
from verbs import run_to

import robust_zoo
from robust_zoo.errors import UsageError
from robust_zoo.files import sha256_of
from robust_zoo.training.evaluation.predict import predict
from robust_zoo.training.signals import Stopped
from robust_zoo.training.transfer.cells import settled
from robust_zoo.training.transfer.open_files import folder_target
from robust_zoo.training.transfer.tuning.images import open_split
from robust_zoo.weights.exported import checkpoint_of
from robust_zoo.weights.safetensors_file import read_header, write_safetensors

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
CHEAP = ["--epochs", "2", "--batch-size", "16", "--norm", "l2", "--eps", "0.5", "--autoattack", "0", "--workers", "0"]


def words(photos, out, *more):
    return ["finetune", photos, "--model", NAME, "--out", out, *CHEAP, "--save-seconds", 0, "--device", "cpu", *more]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("own") / "photos", 8)


@pytest.fixture(scope="module")
def whole(zygote, photos, tmp_path_factory):
    """The uninterrupted run: two learning rates, two epochs each."""
    folder = tmp_path_factory.mktemp("whole")
    environment = {"ROBUST_ZOO_CACHE": str(folder / "cache")}
    assert zygote.wait(zygote.start(words(photos, folder / "run"), folder / "output.txt", environment)) == 0
    return folder


def test_it_ends_with_its_table_and_says_the_split(whole, photos):
    said, run = (whole / "output.txt").read_text(), whole / "run"
    result = json.loads((run / "finetune.json").read_text())
    note = open_split(photos).note
    assert f"photos: {note}" in said and result["note"] == note
    lines = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()[-3:]]
    assert lines[0] == ["accuracy", "images", "before", "after"]
    assert [line[0] for line in lines[1:]] == ["clean", "PGD-20, L2 0.5"]
    for line, before, after in zip(lines[1:], result["before"], result["after"], strict=True):
        for cell, m in zip(line[2:], (before, after), strict=True):
            assert cell.startswith(f"{100 * m['correct'] / m['n']:.1f} %")
    assert [one["lr"] for one in result["tried"]] == [0.003, 0.03] and result["recipe"]["mode"] == "all"
    best = max(result["tried"], key=lambda one: one["clean"] + one["pgd10"])
    assert result["recipe"]["lr"] == best["lr"]
    assert result["sha256"] == sha256_of(run / "model.safetensors")
    assert not list(run.glob("runs/*/checkpoint-*")) and len(list(run.glob("runs/*/log.jsonl"))) == 2
    card = (run / "card.md").read_text()
    assert all(f"| {' | '.join(line)} |" in card for line in lines) and result["sha256"] in card
    assert "AutoAttack was not run: it was not asked for" in card and str(run) not in card


def test_the_same_command_again_trains_nothing(whole, photos, monkeypatch):
    monkeypatch.setattr("robust_zoo.training.transfer.tuning.tries.train_model", None)
    assert (
        run_to(*words(photos, whole / "run")).stdout.splitlines()
        == (whole / "output.txt").read_text().splitlines()[-3:]
    )
    header = json.loads(run_to(*words(photos, whole / "run", "--json")).stdout)
    assert header["classes"] == ["airplane", "automobile", "bird", "cat"]


def test_kills_change_nothing(zygote, whole, photos, tmp_path):
    """At a file's writing, in either training, in the measuring, and at the last files; then once to the end."""
    out, environment = tmp_path / "run", {"ROBUST_ZOO_CACHE": str(whole / "cache")}
    seen = []
    for n in (8, 14, -12):
        pid = zygote.start(words(photos, out), tmp_path / "output.txt", environment, ["replace", n])
        assert zygote.wait(pid) == -signal.SIGKILL
        there = {path.name for path in out.glob("runs/*")} | {path.name for path in out.glob("evidence/*")}
        seen.append(there - {"parts"})
    assert seen == [{"lr0.003"}, {"lr0.003", "lr0.03"}, {"lr0.003", "lr0.03", "before"}], seen
    assert not (out / "finetune.json").exists()
    assert zygote.wait(zygote.start(words(photos, out), tmp_path / "output.txt", environment)) == 0
    assert sha256_of(out / "model.safetensors") == sha256_of(whole / "run" / "model.safetensors")
    for name in ("card.md", "config.json", "finetune.json"):
        assert (out / name).read_bytes() == (whole / "run" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("change", "said", "next_"),
    [
        ("grown", "another set of images", "put the images back"),
        ("mode", "another recipe", "give the command the run was begun with"),
        ("seed", "another set of images", "put the images back"),
        ("autoattack", "another number of images for AutoAttack", "give the command the run was begun with"),
    ],
)
def test_another_run_is_not_gone_on_with(whole, photos, tmp_path, change, said, next_):
    """A folder that grew, by an image that goes to the training or the test images; another mode, other splits."""
    options = {"mode": ["--mode", "head"], "seed": ["--seed", 1], "autoattack": ["--autoattack", 1]}
    more, folder = options.get(change, []), photos
    if change == "grown":
        folder = shutil.copytree(photos, tmp_path / "photos")
        Image.new("RGB", (32, 32)).save(folder / "cat" / "new.png")
    before = sha256_of(whole / "run" / "model.safetensors")
    error = run_to(*words(folder, whole / "run", *more), code=2).stderr
    assert (
        said in error
        and next_ in error
        and all(f"  {field}:" in error for field in ("model", "source", "expected", "actual", "next"))
    )
    if change == "grown":  # what differs is named, with both counts
        expected, actual = error.partition("expected:")[2].split("actual:")
        assert "'val': '4, sha256" in expected and "'val': '5, sha256" in actual and "'test'" not in expected
    assert sha256_of(whole / "run" / "model.safetensors") == before


def test_the_file_says_where_it_is_from(whole, photos):
    header = read_header(whole / "run" / "model.safetensors")
    source = robust_zoo.get(NAME)
    assert json.loads(header["source"]) == {"name": NAME, "sha256": source.sha256}
    assert json.loads(header["classes"]) == ["airplane", "automobile", "bird", "cat"]
    assert json.loads(header["recipe"])["mode"] == "all" and header["licence"] == source.licence
    assert json.loads(header["preprocessing"])["num_classes"] == 4
    tuned = checkpoint_of(whole / "run" / "model.safetensors")
    assert tuned.name == "resnet18_x0_25_photos_all_l2_eps0" and tuned.eps == 0
    assert [m.attack for m in tuned.measured] == ["none", "pgd-20"]


def test_who_takes_the_file(whole, photos, tmp_path, monkeypatch):
    """create_model both ways and timm's local-dir give the same logits; evaluate counts what the table counted."""
    file, images = whole / "run" / "model.safetensors", torch.rand(2, 3, 32, 32)
    models = [robust_zoo.create_model(file), robust_zoo.create_model("resnet18_x0_25", checkpoint_path=file)]
    robust_zoo.register_with_timm()
    models.append(timm.create_model(f"local-dir:{whole / 'run'}", pretrained=True))
    with torch.no_grad():
        logits = [model.eval()(images) for model in models]
    assert logits[0].shape == (2, 4) and all(torch.equal(one, logits[0]) for one in logits)
    for model in models:
        for key in ("mean", "std", "input_size", "crop_pct", "num_classes", "interpolation"):
            assert str(model.pretrained_cfg[key]).strip("()[]") == str(models[0].pretrained_cfg[key]).strip("()[]"), key
    assert models[2].pretrained_cfg["label_names"] == ["airplane", "automobile", "bird", "cat"]

    split = open_split(photos)
    for i in split.test.rows:
        name = split.test.source.names[i]
        (tmp_path / "test" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, tmp_path / "test" / name)
    command = [
        "evaluate",
        file,
        "--data",
        tmp_path / "test",
        "-a",
        "none",
        "--no-checks",
        "--json",
        "--out",
        tmp_path / "l",
    ]
    (entry,) = json.loads(run_to(*command).stdout)
    after = json.loads((whole / "run" / "finetune.json").read_text())["after"]
    assert (entry["clean_correct"], entry["n"]) == (after[0]["correct"], after[0]["n"])

    attack = [
        "attack",
        file,
        photos / "cat" / "300.png",
        "-a",
        "fgsm",
        "--norm",
        "l2",
        "--eps",
        "0.5",
        "-o",
        tmp_path / "adv",
    ]
    attack[2] = next((photos / "cat").iterdir())
    assert re.search(r"(airplane|automobile|bird|cat) \(\d+ %\) -> ", run_to(*attack).stdout)
    card = run_to("card", file).stdout
    assert f"fine-tuned from {NAME} on photos" in card and "datasets:" not in card and "What it kept of" in card


@pytest.mark.peers
def test_publish_and_transfer_take_the_file(whole, photos, tmp_path):
    """A stranger with timm alone gets the same logits out of the published folder; a probe on it is a cell."""
    file = whole / "run" / "model.safetensors"
    run_to("publish", file, "--namespace", "me", "--dry-run", "--offline", "--out", tmp_path / "pub")
    published = tmp_path / "pub" / "resnet18_x0_25_photos_all_l2_eps0"
    assert sha256_of(published / "model.safetensors") == sha256_of(file)
    (cell,) = json.loads(run_to("transfer", file, "--dataset", photos, "--out", tmp_path / "cells", "--json").stdout)
    assert cell["weights_sha256"] == sha256_of(file) and cell["n"] == 6
    again = run_to(*words(photos, tmp_path / "again", "--model", file, "--mode", "head"))
    assert read_header(tmp_path / "again" / "model.safetensors")["classes"] == read_header(file)["classes"], again


def test_predict_is_the_models_own_word(whole, photos, tmp_path):
    file = whole / "run" / "model.safetensors"
    (photos / ".hidden.png").write_text("x")
    (photos / "notes.txt").write_text("x")
    rows = json.loads(run_to("predict", photos, "--model", file, "--top", 9, "--json").stdout)
    assert [row["file"] for row in rows] == sorted(map(str, photos.rglob("[!.]*.png"))) and len(rows) == 32
    model = robust_zoo.pixel_model(robust_zoo.create_model(file)).eval()
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(row["file"]))) for row in rows])
    with torch.no_grad():
        chances = model(pixels.permute(0, 3, 1, 2).float() / 255).softmax(1)
    names = ["airplane", "automobile", "bird", "cat"]
    for row, chance in zip(rows, chances, strict=True):
        assert [one["class"] for one in row["classes"]] == [names[i] for i in chance.argsort(descending=True)]
        assert row["classes"][0]["percent"] == pytest.approx(100 * chance.max().item(), abs=1e-3)
    one = run_to("predict", rows[0]["file"], "-m", file).stdout.rstrip("\n").split("\t")
    assert one == [rows[0]["file"], rows[0]["classes"][0]["class"], f"{rows[0]['classes'][0]['percent']:.1f}"]
    (tmp_path / "empty").mkdir()
    for wrong, said in (("nothing.png", "no such file"), ("empty", "not a dataset"), ("notes.png", "not an image")):
        (tmp_path / "notes.png").write_text("x")
        assert said in run_to("predict", tmp_path / wrong, "-m", file, code=2).stderr
    assert [p.file for p in predict(file, [photos / "cat"])] == sorted((photos / "cat").iterdir())


def test_transfer_keeps_the_model_of_a_cell(photos, tmp_path, monkeypatch):
    """Its file gives what the cell counted; a cell that is there without its model is done again, else it is read."""
    command = [
        "transfer",
        NAME,
        "--dataset",
        photos,
        "--norm",
        "l2",
        "--eps",
        "0.5",
        "--out",
        tmp_path / "cells",
        "--json",
    ]
    (cell,) = json.loads(run_to(*command).stdout)
    assert not list(tmp_path.glob("cells/*/"))
    (kept,) = json.loads(run_to(*command, "--keep").stdout)
    (file,) = tmp_path.glob("cells/*/model.safetensors")
    assert file.parent.name + ".json" in {path.name for path in tmp_path.glob("cells/*.json")}
    assert settled(kept) == settled(cell) and read_header(file)["licence"] == robust_zoo.get(NAME).licence
    tuned, split = checkpoint_of(file), folder_target(photos, 0)
    assert tuned.collection.dataset.class_names == split.classes and "linear_seed0" in tuned.name
    assert {m.attack: (m.correct, m.n) for m in tuned.measured} == {
        "none": (cell["correct"], cell["n"]),
        "pgd-20": (cell["details"]["robust"]["correct"], cell["details"]["robust"]["n"]),
    }
    files = [photos / split.test.source.names[i] for i in split.test.rows]
    card = file.with_name("card.md").read_text()
    assert f"| clean | {cell['n']} | {cell['accuracy']:.1f} % (" in card and "| PGD-20, L2 0.5 |" in card
    assert sha256_of(file) in card and split.note[1:60] in card and "which nothing was chosen by" in card
    assert f"Chosen: penalty {cell['chosen']['penalty']:g}." in card and "Before" not in card
    names = [one.classes[0] for one in predict(file, files)]
    assert sum(a == split.classes[b] for a, b in zip(names, split.test.labels, strict=True)) == cell["correct"]
    monkeypatch.setattr("robust_zoo.training.transfer.protocols.table.linear", None)
    assert json.loads(run_to(*command, "--keep").stdout) == [kept]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--mode", "heads"], 2, "unknown mode 'heads'"),
        (["--model", "resnet18_l2_eps33"], 4, "closest"),
        (["--eps", "0", "--mode", "adversarial"], 2, "a radius of 0"),
        (["--val", "nowhere"], 2, "no such file"),
        (["--device", "cuda:99"], 2, "no device"),
    ],
)
def test_bad_calls_say_what_to_do(photos, tmp_path, more, code, said):
    result = run_to(*words(photos, tmp_path / "out", *more), code=code)
    assert said in result.stderr and "next:" in result.stderr


def test_a_file_in_the_way_is_no_full_disk(photos, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert "move the file away" in run_to(*words(photos, tmp_path / "out"), code=5).stderr


def test_a_signal_saves_and_says_so(photos, tmp_path, monkeypatch):
    def stopped(*args, **kwargs):
        raise Stopped("SIGTERM")

    monkeypatch.setattr("robust_zoo.training.transfer.tuning.run.probe", stopped)
    error = run_to(*words(photos, tmp_path / "out"), code=75).stderr
    assert "stopped (SIGTERM) and saved; the same command goes on" in error


def test_a_folder_with_a_model_of_another_kind_is_left_alone(photos, tmp_path):
    (tmp_path / "model.safetensors").write_text("mine")
    assert "holds a model already" in run_to(*words(photos, tmp_path), code=2).stderr
    assert (tmp_path / "model.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    "wrong", [{"classes": '["a"]'}, {"classes": '["a", "b", "c", 4]'}, {"radii": "{}"}, {"dataset": "../x"}]
)
def test_a_header_whose_classes_make_no_sense(whole, tmp_path, wrong):
    header = read_header(whole / "run" / "model.safetensors") | wrong
    header.pop("format")
    write_safetensors(tmp_path / "a.safetensors", {"fc.bias": torch.zeros(4)}, header)
    with pytest.raises(UsageError, match="cannot read"):
        checkpoint_of(tmp_path / "a.safetensors")
