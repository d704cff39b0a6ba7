"""`robust-zoo attack` on images of a user's own."""

import numpy as np
import pytest
import torch
from PIL import Image
from verbs import run_to as run

from robust_zoo import create_model, pixel_model
from robust_zoo.registry.lookup import get, get_dataset
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.class_names import class_names
from robust_zoo.training.evaluation.attack_images import load

STANDARD = "resnet18_x0_25_cifar10_l2_eps0"


@pytest.fixture
def images(tmp_path):
    data = cifar10_sample(1)
    files = []
    for i in range(3):
        file = tmp_path / f"image{i}.png"
        Image.fromarray(data.images[i].permute(1, 2, 0).numpy()).save(file)
        files.append(file)
    return files


def test_what_is_written_is_what_is_said(images, tmp_path):
    """The PNGs, read again: within the radius, and classified as the command said."""
    out = tmp_path / "out"
    lines = run("attack", STANDARD, *images, "--norm", "linf", "--eps", "4/255", "-o", out).stdout.splitlines()
    assert lines[-1] == str(out / "attack.png") and len(lines) == 4
    model, p = pixel_model(create_model(STANDARD)).eval(), get(STANDARD).preprocessing
    for file, line in zip(images, lines, strict=False):
        clean, adv = load(file, p), load(out / f"{file.stem}_adversarial.png", p)
        assert (adv - clean).abs().max() <= 4.5 / 255 and not torch.equal(adv, clean)
        names = [class_names(get_dataset("cifar10"))[int(model(x[None]).argmax())] for x in (clean, adv)]
        assert line.startswith(f"{file.name}: {names[0]} (") and f"-> {names[1]} (" in line and names[0] != names[1]
    assert np.asarray(Image.open(out / "attack.png")).shape == (3 * 248 + 6, 3 * 230 + 6, 3)


def test_where_nothing_is_found_it_says_so(images, tmp_path):
    out = tmp_path / "out"
    said = run("attack", STANDARD, images[0], "--norm", "l2", "--eps", "0.0001", "-o", out).stdout
    assert "no adversarial image found" in said
    assert np.array_equal(np.asarray(Image.open(out / "image0_adversarial.png")), np.asarray(Image.open(images[0])))


def test_bad_calls_say_what_to_do(images, tmp_path):
    (tmp_path / "note.png").write_text("not an image")
    assert (
        "is not an image" in run("attack", STANDARD, tmp_path / "note.png", "--norm", "l2", "--eps", "1", code=2).stderr
    )
    assert "was trained for no radius" in run("attack", STANDARD, images[0], code=2).stderr
    assert "go together" in run("attack", STANDARD, images[0], "--norm", "l2", code=2).stderr


def test_imagenet_classes_have_names():
    assert [class_names(get_dataset("imagenet"))[i] for i in (0, 281, 999)] == ["tench", "tabby", "toilet tissue"]


def test_images_are_resized_and_cropped_as_upstream(tmp_path):
    """Shorter side to 256, centre 224, against torchvision's transforms."""
    from torchvision import transforms

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)).resize((400, 300))
    picture.save(tmp_path / "a.png")
    expected = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])(picture)
    found = load(tmp_path / "a.png", get("resnet18_l2_eps3").preprocessing)
    assert found.shape == (3, 224, 224) and (found - expected).abs().mean() < 0.01
