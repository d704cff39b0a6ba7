"""`robust-zoo visualize`: what is written is what the functions give, the same bytes for the same seed."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from searches import shorten
from verbs import run_to as run

import robust_zoo
from robust_zoo import get, visualization
from robust_zoo.errors import Unavailable
from robust_zoo.registry.load import load_registry
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.figures.tiles import GAP, LINE
from robust_zoo.visualization import kinds, sheets
from robust_zoo.visualization.beside import standard_of

STANDARD = "resnet18_x0_25_cifar10_l2_eps0"
ROBUST = f"{STANDARD}_5"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    shorten(monkeypatch)


def arrays(file):
    with np.load(file, allow_pickle=False) as content:
        return {name: torch.from_numpy(content[name]) for name in content.files if name != "about"}, json.loads(
            str(content["about"])
        )


def test_both_models_side_by_side_and_their_arrays(tmp_path):
    out = tmp_path / "seen"
    how = "--what synthesis --what gradient --n 3 --classes cat --classes 9 -o"
    result = run("visualize", ROBUST, *how.split(), out)
    assert f"beside it: {STANDARD}" in result.stderr
    names = [f"{kind}.{ending}" for kind in ("synthesis", "gradient") for ending in ("png", "npz")]
    assert result.stdout.splitlines() == [str(out / name) for name in names]
    found, about = arrays(out / "synthesis.npz")
    for name in (STANDARD, ROBUST):
        assert torch.equal(found[name], visualization.synthesise(name, ["cat", "truck"]))
        assert found[f"{name}_labels"].tolist() == [3, 9]
    assert about["kind"] == "synthesis" and about["seed"] == 0 and about["search"]["steps"] == 3
    assert [*about["weights"]] == [STANDARD, ROBUST] and all(len(sha256) == 64 for sha256 in about["weights"].values())
    found, about = arrays(out / "gradient.npz")
    sample, rows = cifar10_sample(), [0, 333, 666]
    images, labels = sample.images[rows].float() / 255, sample.labels[rows]
    assert torch.equal(found["images"], images) and about["search"] is None
    assert torch.equal(found[ROBUST], visualization.gradients(ROBUST, images, labels))
    with Image.open(out / "synthesis.png") as picture:
        assert picture.size == (2 * (128 + GAP) + GAP, 2 * (128 + 2 * LINE + 2 * GAP))


def test_nothing_is_written_where_no_place_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = robust_zoo.visualize([ROBUST], ("gradient", "synthesis"), classes=["cat", "dog"], n=2, alone=True)
    assert [*seen] == ["gradient", "synthesis"] and [*tmp_path.iterdir()] == []
    sheet = robust_zoo.visualize(ROBUST, classes=["cat", "dog"], alone=True, out=tmp_path / "out")["synthesis"]
    assert np.array_equal(sheet.arrays[ROBUST], seen["synthesis"].arrays[ROBUST])
    assert [file.name for file in sheet.files] == ["synthesis.png", "synthesis.npz"]
    assert sheet.files[0].read_bytes() == seen["synthesis"]._repr_png_() != seen["gradient"]._repr_png_()


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    how = ["visualize", ROBUST, "--alone", "--n", "2", "--what", "synthesis", "-o"]
    for name, more in (("one", []), ("two", []), ("other", ["--seed", "1"])):
        run(*how, tmp_path / name, *more)
    one, two, other = (
        {f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("one", "two", "other")
    )
    assert one == two and [*one] and all(one[name] != other[name] for name in one)


def test_every_kind_of_images_of_ones_own(tmp_path):
    """Without --what all; each made more like the next one's class."""
    for i in range(4):
        (tmp_path / "photos" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(cifar10_sample(1).images[i].permute(1, 2, 0).numpy()).resize((64, 48)).save(
            tmp_path / "photos" / f"{i % 2}" / f"{i}.png"
        )
    result = run("visualize", STANDARD, "--images", tmp_path / "photos", "--n", 3, "-o", tmp_path / "seen")
    assert "2 classes, 4 images" in result.stderr and "beside" not in result.stderr
    assert sorted(f.name for f in (tmp_path / "seen").glob("*.npz")) == sorted(f"{name}.npz" for name in kinds.KINDS)
    found = {name: arrays(tmp_path / "seen" / f"{name}.npz")[0] for name in kinds.KINDS}
    images = found["inversion"]["images"]
    assert images.shape == (3, 3, 32, 32) and found["interpolation"][STANDARD].shape == (1, 1, 3, 32, 32)
    assert torch.equal(found["inversion"][STANDARD], visualization.invert(STANDARD, images))
    logits = sheets.create_model(STANDARD).eval()
    with torch.no_grad():
        own = sheets.pixel_model(logits)(images).argmax(1)
    assert found["more-like"][f"{STANDARD}_labels"].tolist() == own.roll(-1).tolist()
    files = [word for name in ("0/0.png", "1/1.png") for word in ("--images", tmp_path / "photos" / name)]
    run("visualize", STANDARD, *files, "-w", "gradient", "-o", tmp_path / "two")
    assert arrays(tmp_path / "two" / "gradient.npz")[0]["images"].shape[0] == 2


def test_bare_pictures_are_the_arrays_themselves(tmp_path):
    how = ("--n", 2, "--tile", 32, "--bare", "--what", "synthesis", "-o", tmp_path)
    run("visualize", ROBUST, *how)
    found, _ = arrays(tmp_path / "synthesis.npz")
    with Image.open(tmp_path / "synthesis.png") as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert pixels.shape == (3, 66, 66) and (pixels[:, 32:34] == 255).all()
    for row, name in enumerate((STANDARD, ROBUST)):
        for column, image in enumerate(found[name]):
            tile = pixels[:, 34 * row : 34 * row + 32, 34 * column : 34 * column + 32]
            assert torch.equal(tile, (image * 255).round().byte())


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_one_picture_alone(tmp_path, ending):
    file = tmp_path / "new" / f"a.{ending}"
    said = run("visualize", ROBUST, "--alone", "--n", 2, "--tile", 48, "-w", "synthesis", "-o", file).stdout
    assert said == f"{file}\n" and [*file.parent.iterdir()] == [file]
    with Image.open(io.BytesIO(file.read_bytes())) as picture:
        assert picture.format == ending.upper() and picture.width == 2 * (48 + GAP) + GAP


def test_it_goes_on_without_a_standard_model_that_cannot_be_had(tmp_path, monkeypatch):
    ensure = sheets.ensure

    def unavailable(row):
        if not row.eps:
            raise Unavailable("no source could serve it")
        return ensure(row)

    monkeypatch.setattr(sheets, "ensure", unavailable)
    said = run("visualize", ROBUST, "--n", 1, "-o", tmp_path / "a.png").stderr
    assert f"without {STANDARD} beside it: no source could serve it" in said
    assert "no source could serve it" in run("visualize", STANDARD, "-o", tmp_path, code=3).stderr


def test_the_standard_model_is_of_the_same_architecture_and_dataset():
    beside = {name: standard_of(get(name)) for name in load_registry().checkpoints}
    assert beside["resnet18_linf_eps4"] == get("resnet18_l2_eps0") and beside["resnet50_l2_eps3"] == get(
        "resnet50_l2_eps0"
    )
    assert beside["resnet18_x0_25_cifar10_linf_eps8"] == get(STANDARD) and beside["resnet50_l2_eps0"] is None
    assert beside["vit_giant_patch14_336_wang2024_linf_eps4"] is None
    for name, row in beside.items():
        assert row is None or (row.eps, row.architecture, row.dataset) == (0, get(name).architecture, get(name).dataset)


def test_searches_are_those_of_the_papers_and_can_be_gone_to_the_end(monkeypatch):
    """At 224 pixels Santurkar et al.'s; at both sizes the steps together are as long as the way across the ball."""
    monkeypatch.undo()
    assert kinds.search_for("synthesis", 224) == kinds.Search(40.0, 1.0, 60)
    assert kinds.search_for("synthesis", 32) == kinds.Search(30.0, 0.5, 60)
    for name, row in kinds.KINDS.items():
        for side, search in ((32, row.small), (224, row.large)):
            if search:
                assert kinds.search_for(name, side) == search
                way = min(search.eps, 0.25 * (3 * side**2) ** 0.5)  # noise to image is about a quarter of a cube's side
                assert search.steps * search.step_size >= way


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([ROBUST, "--what", "dreams"], "unknown kind of picture 'dreams'"),
        ([ROBUST, "--classes", "emu"], "'emu' is no class of CIFAR-10"),
        ([ROBUST, "--classes", "10"], "'10' is no class"),
        ([ROBUST, "resnet18_l2_eps3"], "cannot stand side by side"),
        (["resnet18_l2_eps3", "--what", "gradient"], "gradient is of images, and none were given"),
        ([ROBUST, "--what", "gradient", "--what", "inversion", "-o", "a.png"], "a.png is one picture"),
        ([ROBUST, "--images", "nothing.png"], "cannot read nothing.png"),
        ([ROBUST, "--images", "empty"], "not a dataset of images"),
        ([ROBUST, "--images", "one.png", "--what", "interpolation"], "between two images"),
        ([ROBUST, "--device", "abacus"], "no device"),
    ],
)
def test_bad_calls_are_refused_before_the_work(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sheets, "ensure", None)
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    found = run("visualize", *words, code=2).stderr
    assert said in found and "next:" in found


def test_a_file_in_the_way_is_said(tmp_path):
    (tmp_path / "seen").write_text("")
    assert "give another directory with -o" in run("visualize", ROBUST, "-o", tmp_path / "seen", code=5).stderr
