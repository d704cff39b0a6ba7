"""Targets without their finer grain: shrunk before anything else, by every protocol, and never taken for the others."""

import re
from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2
from verbs import run

from robust_zoo import get
from robust_zoo.errors import UsageError
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.transfer import granularity
from robust_zoo.training.transfer.cells import read_cells
from robust_zoo.training.transfer.features import CPU, Backbone, batches_for, features, shrunk
from robust_zoo.training.transfer.protocols.finetune import Finetune, finetune
from robust_zoo.training.transfer.protocols.linear import Linear, linear
from robust_zoo.training.transfer.protocols.salman2020 import Salman2020, salman2020
from robust_zoo.training.transfer.task import Target, joined

ROW = get("resnet18_x0_25_cifar10_l2_eps0_5")
DATA = cifar10_sample(8)
FIRST, SECOND = DATA.subset(torch.arange(0, 80, 2)), DATA.subset(torch.arange(1, 80, 2))
TARGET = Target("sample", tuple("abcdefghij"), FIRST, None, SECOND)


def by_hand(side):
    """The same target, every image resized by torchvision."""
    resize = v2.Resize(side, antialias=True)
    small = (Images(torch.stack([resize(image) for image in data.images]), data.labels) for data in (FIRST, SECOND))
    return Target("sample", TARGET.classes, next(small), None, next(small))


def pixels(data):
    return torch.cat([images for images, _ in batches_for(data, ROW.preprocessing, 16)])


@pytest.mark.parametrize("side", [4, 8, 20, 32])
def test_shrunk_first_and_then_seen_as_any_image(side):
    """As a Compose of torchvision has it; at the images' own side nothing changes."""
    seen = pixels(shrunk(TARGET, side).train)
    view = v2.Compose([v2.Resize(side, antialias=True), v2.Resize(32, antialias=True), v2.CenterCrop(32)])
    assert torch.equal(seen, torch.stack([view(image) for image in FIRST.images]).float() / 255)
    assert torch.equal(seen, FIRST.images.float() / 255) == (side == 32)


def test_grain_finer_than_a_pixel_is_gone_and_coarser_is_not():
    fine = torch.arange(32).add(torch.arange(32)[:, None]).remainder(2)  # a checkerboard of single pixels
    coarse = (torch.arange(32)[:, None] >= 16).expand(32, 32)  # the upper half black
    images = torch.stack([fine, coarse]).mul(255).byte()[:, None].expand(-1, 3, -1, -1).contiguous()
    found = pixels(shrunk(replace(TARGET, train=Images(images, torch.zeros(2).long())), 8).train)
    assert found[0, :, 2:-2, 2:-2].std() < 0.01 and found[0].mean() == pytest.approx(0.5, abs=0.01)
    assert found[1, :, :8].max() < 0.01 and found[1, :, -8:].min() > 0.99


def test_no_shrinking_is_the_target_itself():
    assert shrunk(TARGET, 0) is TARGET


def test_features_of_each_size_have_a_file_of_their_own(tmp_path):
    """And a constant image has no grain to lose."""
    grey = replace(TARGET, train=Images(torch.full((4, 3, 32, 32), 99, dtype=torch.uint8), torch.zeros(4).long()))
    backbone = Backbone(ROW)
    found = [features(backbone, shrunk(grey, side).train, tmp_path) for side in (0, 8, 16, 8)]
    assert len(list(tmp_path.iterdir())) == 3
    assert all((array == found[0]).all() for array in found)


def test_a_subset_and_a_joined_target_stay_shrunk():
    small = shrunk(TARGET, 8)
    whole = torch.cat([pixels(small.train)[:3], pixels(small.test)[:2]])
    assert torch.equal(pixels(joined(small.train.subset(torch.arange(3)), small.test.subset(torch.arange(2)))), whole)


@pytest.mark.parametrize("protocol", ["linear", "finetune", "salman2020"])
def test_every_protocol_shrinks(protocol, tmp_path):
    """What it makes of shrunk images is what it makes of images that were shrunk by hand."""
    run = {
        "linear": lambda target, **more: linear(ROW, target, Linear(**more), cache=tmp_path),
        "finetune": lambda target, **more: finetune(
            ROW,
            target,
            Finetune(lrs=(0.01,), weight_decays=(0.0,), epochs=1, batch_size=20, augment=False, **more),
            cache=tmp_path,
            device=CPU,
        ),
        "salman2020": lambda target, **more: salman2020(ROW, target, Salman2020(epochs=1, **more), device=CPU),
    }[protocol]
    asked, made, plain = run(TARGET, shrink=8)[0], run(by_hand(8))[0], run(TARGET)[0]
    assert (asked.correct, asked.details) == (made.correct, made.details)
    assert (asked.correct, asked.details) != (plain.correct, plain.details)


def cell(size, eps, accuracy, seed=0, weights="a", name="net_l2_eps{}", norm="l2"):
    model = {"name": name.format(eps), "architecture": "net", "norm": norm, "eps": eps, "clean_accuracy": None}
    return {
        "checkpoint": model | {"approximate_mb": 1.0}, "model": model["name"], "weights_sha256": f"{weights}{eps}",
        "dataset": "emoji", "data_sha256": "d", "protocol": "linear", "metric": "top-1", "note": "", "seed": seed,
        "settings": {"bn": "source"} | ({} if size is None else {"shrink": size}), "details": {}, "n": 1000,
        "correct": round(10 * accuracy), "accuracy": accuracy, "mean_per_class": accuracy,
    }  # fmt: skip


CELLS = [
    cell(size, eps, accuracy + seed, seed)
    for size, line in {None: {0: 50, 0.5: 60, 1: 55}, 16: {0: 45, 0.5: 50, 1: 52}, 8: {0: 40, 0.5: 30}}.items()
    for eps, accuracy in line.items()
    for seed in (0, 2)
]


def test_a_line_for_each_size_and_its_best_radius():
    """Cells of before `shrink` was a setting are of whole images; a radius that was not tried stays empty."""
    (grain,) = granularity.grains(CELLS)
    assert (grain.dataset, grain.family, grain.norm, grain.radii) == ("emoji", "net", "l2", [0, 0.5, 1])
    lines = [line for line in granularity.markdown([grain]).splitlines() if line.startswith("|")]
    assert lines[0] == "| images | L2 0 | L2 0.5 | L2 1 |"
    assert lines[2:] == [
        "| as they are | 51.0 ± 1.0 % | **61.0 ± 1.0 %** | 56.0 ± 1.0 % |",
        "| 16 px first | 46.0 ± 1.0 % | 51.0 ± 1.0 % | **53.0 ± 1.0 %** |",
        "| 8 px first | **41.0 ± 1.0 %** | 31.0 ± 1.0 % |  |",
    ]


def test_a_standard_model_is_one_of_every_norm():
    linf = [cell(size, 4 / 255, 50, name="net_linf_eps4", norm="linf") for size in (0, 8)]
    found = granularity.grains([*CELLS, *linf])
    assert {grain.norm: grain.radii for grain in found} == {"l2": [0, 0.5, 1], "linf": [0, 4 / 255]}
    assert "Linf 0 | Linf 4/255" in granularity.markdown(found)


@pytest.mark.parametrize(
    "cells, said",
    [([c for c in CELLS if "shrink" not in c["settings"]], "one size"), ([], "one size"),
     ([*CELLS, cell(16, 0.5, 40, weights="b")], "several files called net_l2_eps0.5")],
)  # fmt: skip
def test_cells_that_tell_nothing_are_refused(cells, said):
    with pytest.raises(UsageError, match=said):
        granularity.grains(cells)


def test_the_command(tmp_path, few_penalties):
    """From a transfer of two models at two sizes to the table and the picture."""
    (tmp_path / "small.toml").write_text("shrink = 8\ntrain_size = 20\n")
    (tmp_path / "large.toml").write_text("train_size = 20\n")
    names = ["resnet18_x0_25_cifar10_l2_eps0", ROW.name]
    for file in ("small.toml", "large.toml"):
        # of the suite, too, --settings and --seeds are what is done
        how = ("--settings", tmp_path / file, "--seeds", 2, "--out", tmp_path / "cells")
        result = run("transfer", *names, "--suite", "sample", *how)
        assert result.exit_code == 0, result.output
    picture = tmp_path / "grain.png"
    result = run("transfer", "report", tmp_path / "cells", "--granularity", "--plot", picture)
    assert result.exit_code == 0 and picture.stat().st_size > 10_000
    lines = [line for line in result.stdout.splitlines() if "px first" in line or "as they are" in line]
    assert [line.split(" |")[0] for line in lines] == ["| as they are", "| 8 px first"] * 2
    means = {}
    for entry in read_cells(tmp_path / "cells"):
        means.setdefault((entry["dataset"], entry["model"], entry["settings"]["shrink"]), []).append(entry["accuracy"])
    assert {len(values) for values in means.values()} == {2}
    shown = [value for line in lines for value in re.findall(r"\| \**([\d.]+) ±", line)]
    assert sorted(shown) == sorted(f"{sum(values) / len(values):.1f}" for values in means.values())
