"""`list` by robustness, with rows that others reported of: columns, marks, order, filters."""

import json

import pytest
from second_rows import CIFAR, CONVNEXT, ENGSTROM, GIANT, SWIN, planted
from verbs import run_to


@pytest.fixture(scope="module")
def strong():
    with planted():
        yield


def listed(*args):
    """The table's lines by name, and the legend."""
    result = run_to("list", *args)
    lines = result.stdout.splitlines()
    assert all(len(line) <= 120 for line in [*lines, *result.stderr.splitlines()])
    return {line.split()[0]: line.split()[1:] for line in lines[1:]}, result.stderr.splitlines()


def test_the_table_has_each_ones_best_figure_and_its_source(strong):
    found, legend = listed(SWIN, GIANT, ENGSTROM, CONVNEXT, CIFAR)
    assert found == {
        CONVNEXT: ["88.6M", "224", "77.20", "54.40", "a", "unverified", "354", "MB"],
        ENGSTROM: ["25.6M", "224", "57.90", "<35.09", "c", "unverified", "~102", "MB"],
        CIFAR: ["0.7M", "32", "66.08*", "36.80*", "b", "bundled", "-"],
        SWIN: ["197M", "224", "79.36", "53.82", "a", "unverified", "~786", "MB"],
        GIANT: ["1013M", "336", "83.90", "71.00", "d", "unverified", "~4,052", "MB"],
    }
    assert legend[0] == "5 checkpoints; robust accuracy at the threat model that each was trained for"
    assert legend[3:] == [
        "a  AutoAttack, 5,000 images, by RobustBench model_info @78fcc9e (standard AutoAttack, 5,000 val images)",
        "b  AutoAttack, 250 images, by robust_zoo",
        "c  PGD-100, 50,000 images, by the authors' README",
        "d  AutoAttack, number of images not said, by the authors' README",
    ]


ALL = (SWIN, GIANT, ENGSTROM, CONVNEXT, CIFAR, "resnet50_linf_eps2")
ORDERS = [
    (("--sort", "robust", "--under", "linf:4/255"), [GIANT, CONVNEXT, SWIN, ENGSTROM, CIFAR, "resnet50_linf_eps2"]),
    (("--sort", "robust"), [GIANT, CONVNEXT, SWIN, ENGSTROM, CIFAR, "resnet50_linf_eps2"]),
    (("--sort", "robust", "--under", "l2:2"), [GIANT, CONVNEXT, CIFAR, ENGSTROM, "resnet50_linf_eps2", SWIN]),
    (("--sort", "clean"), [GIANT, SWIN, CONVNEXT, "resnet50_linf_eps2", CIFAR, ENGSTROM]),
    (("--sort", "params"), [CIFAR, ENGSTROM, "resnet50_linf_eps2", CONVNEXT, SWIN, GIANT]),
    (("--sort", "size"), [CIFAR, ENGSTROM, "resnet50_linf_eps2", CONVNEXT, SWIN, GIANT]),
    ((), [CONVNEXT, CIFAR, ENGSTROM, "resnet50_linf_eps2", SWIN, GIANT]),
]  # fmt: skip


@pytest.mark.parametrize(("args", "order"), ORDERS, ids=lambda value: " ".join(value)[:40])
def test_sort(strong, args, order):
    found, legend = listed(*ALL, *args)
    assert list(found) == order
    assert [row["name"] for row in json.loads(run_to("list", *ALL, *args, "--json").stdout)] == order
    if "l2:2" in args:
        assert [cells[3] for cells in found.values()] == ["70.40", *["-"] * 5] and "at l2 2" in legend[0]


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        (("--under", "linf:4/255", "--min-robust", "54", "-d", "imagenet"), [CONVNEXT, ENGSTROM, GIANT]),
        (("--under", "linf:4/255", "--min-robust", "54", "--min-clean", "70", "-d", "imagenet"), [CONVNEXT, GIANT]),
        (("--under", "linf:4/255", "--min-robust", "0", "--max-params", "90M", "-c", "liu2023"), [CONVNEXT]),
        (("--licence", "unknown"), [GIANT]),
        (("-c", "liu2023", "-c", "engstrom2019"), [CONVNEXT, ENGSTROM, GIANT]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_filters(strong, args, kept):
    assert list(listed(*args)[0]) == kept


def test_json_says_all_of_a_figure(strong):
    (row,) = json.loads(run_to("list", GIANT, "--under", "l2:2", "--json").stdout)
    assert row["robust"] == {
        "value": 70.4, "attack": "autoattack", "norm": "l2", "eps": 2.0, "n": None, "by": "the authors' README",
        "images": "", "interval": None, "size": None,
    }  # fmt: skip
    assert (row["parameters"], row["input_size"]) == (1_013_060_000, [3, 336, 336])
    (mine,) = json.loads(run_to("list", CIFAR, "--json").stdout)
    assert (mine["robust"]["value"], mine["robust"]["by"], mine["robust"]["n"]) == (36.8, "robust_zoo", 250)
    assert mine["robust"]["images"] == "cifar10 test, 250 evenly spread"
    low, high = mine["robust"]["interval"]
    assert low < 36.8 < high
    assert json.loads(run_to("list", SWIN, "--under", "l2:1", "--json").stdout)[0]["robust"] is None
