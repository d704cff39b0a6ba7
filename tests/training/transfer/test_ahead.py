"""What `recommend` compares, what it says before it fetches anything, and what it ends with."""

import pytest
import torch
from PIL import Image
from verbs import run

from robust_zoo.registry.lookup import get, list_models
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.transfer import ahead
from robust_zoo.training.transfer.ahead import duration, look_ahead, provable
from robust_zoo.training.transfer.protocols.linear import PENALTIES

CPU = torch.device("cpu")
BUNDLED = list_models(bundled=True)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("ROBUST_ZOO_OFFLINE", "1")
    monkeypatch.setenv("ROBUST_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("robust_zoo.training.transfer.recommend.PENALTIES", PENALTIES[:2])
    monkeypatch.setattr(ahead, "forward_seconds", lambda checkpoint, device: 0.01)


@pytest.fixture
def uncounted(monkeypatch):
    """Networks that are as fast as each other: building and counting them takes its second."""
    monkeypatch.setattr(ahead, "forward_flops", lambda checkpoint: 1)


@pytest.fixture
def photos(tmp_path):
    """Two classes of five images."""
    data = cifar10_sample(5)
    for i, (image, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
        if label < 2:
            file = tmp_path / "my photos" / f"class{label}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(file)
    return tmp_path / "my photos"


def test_time_goes_by_the_arithmetic_of_each_network(monkeypatch, offline):
    """1.814 and 4.089 billion multiply-adds are ResNet-18's and ResNet-50's in torchvision's own table."""
    timed = []
    monkeypatch.setattr(ahead, "forward_seconds", lambda checkpoint, device: timed.append(checkpoint.name) or 0.01)
    chosen = [get("resnet50_l2_eps3"), get("resnet18_l2_eps3"), get("resnet18_l2_eps0"), get(BUNDLED[0])]
    found = look_ahead(chosen[:3], 200, CPU)
    assert timed == ["resnet18_l2_eps3"] and found.seconds == pytest.approx(200 * 0.01 * (2 + 4.089 / 1.814), rel=2e-3)
    assert found.missing == tuple(chosen[:3]) and found.bytes == sum(c.approximate_size for c in chosen[:3])
    assert str(found) == "3 checkpoints: 0 here, 3 to download (391 MB); features of 200 images take about 9 s"
    monkeypatch.setattr(ahead, "forward_flops", lambda checkpoint: 1)
    assert str(look_ahead(chosen[3:], 1, CPU)) == "1 checkpoint: 1 here; features of 1 image take about 1 s"
    assert [duration(s) for s in (0.2, 89, 90, 600, 5400)] == ["1 s", "89 s", "2 min", "10 min", "1.5 h"]


def test_without_a_choice_what_is_at_hand_is_compared(photos, offline, uncounted):
    result = run("recommend", photos, "--workers", 0, "--json")
    assert all(name in result.stdout for name in BUNDLED) and "resnet18_l2" not in result.stdout
    announced, why, instead = [
        line for line in result.stderr.splitlines() if "checkpoint" in line or "instead" in line
    ][:3]
    assert "15 checkpoints: 0 here, 15 to download" in announced and "offline mode is on" in why
    assert instead.startswith("8 checkpoints: 8 here; features of 10 images")
    named = run("recommend", photos, "--workers", 0, "--norm", "linf")
    assert "resnet18_x0_25_cifar10_l2" not in named.stdout
    best = named.stdout.splitlines()[1].split()[1]
    assert named.stdout.endswith(f"robust-zoo finetune '{photos}' --model {best}\n") and "_linf_eps" in best


def test_what_was_asked_for_is_not_exchanged(photos, offline, uncounted):
    result = run("recommend", photos, "-a", "resnet18", "--workers", 0)
    assert result.exit_code == 3 and "offline mode is on" in result.stderr and "instead" not in result.stderr


def test_checkpoints_that_nobody_can_prove_are_left_out(photos, offline, uncounted):
    usable, unproven = provable([get(name) for name in list_models(collection="liu2023")])
    assert usable == [] and len(unproven) == 12
    result = run("recommend", photos, "--collection", "liu2023")
    assert result.exit_code == 2 and f"robust-zoo download {unproven[0].name} --allow-unverified" in result.stderr
    mixed = run("recommend", photos, "--under", "linf:4/255", "--min-robust", "45", "--max-params", "60M")
    assert "without a public hash left out" in mixed.stderr and mixed.exit_code == 3
    assert run("recommend", photos, "--max-params", "20K").stderr.startswith("error: no checkpoint is like that")
    assert "needs a threat model" in run("recommend", photos, "--min-robust", "45").stderr
