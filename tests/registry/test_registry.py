"""The registry against an independent table of upstream's 67 checkpoints (tests/reference/salman2020.csv)."""

import csv
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

import robust_zoo
from robust_zoo.errors import UnknownCheckpoint, UsageError
from robust_zoo.registry.lookup import get, get_architecture, list_models
from robust_zoo.threat import NORMS

CSV = list(csv.DictReader((Path(__file__).parents[1] / "reference" / "salman2020.csv").read_text().splitlines()))
REVISION = "3f04ac96136001cfe402022100728124cbe3fac5"


@pytest.mark.parametrize("row", CSV, ids=lambda row: row["name"])
def test_upstreams_collection(row):
    """What its rows share; the fields of each row are compared in test_rows.py."""
    found = get(row["name"])
    assert (found.dataset, found.recipe, found.licence) == ("imagenet", "salman2020", "mit")
    assert found.hub.revision == REVISION
    assert "reported by" in found.evidence


def test_counts():
    assert len(CSV) == 67
    first = list_models(collection="salman2020")
    assert sorted(first) == sorted(row["name"] for row in CSV)
    assert sum(get(n).sha256 is not None for n in first) == 37
    assert len(list_models(dataset="imagenet")) == 67 + 70


def test_names_are_unique_identifiers_on_every_file_system():
    names = list_models()
    assert len({n.casefold() for n in names}) == len(names)
    for name in names:
        assert name.isidentifier()
        assert get(name).name == name
        assert name == name.lower() and len(name) < 100
        assert not re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)", name)
        assert get(name).norm in NORMS


def test_every_bundled_row_is_pinned_and_measured():
    for name in list_models(bundled=True):
        row = get(name)
        assert re.fullmatch(r"[0-9a-f]{64}", row.sha256)
        assert {m.weights_sha256 for m in row.measured} == {row.sha256}
        assert row.clean_accuracy == round(row.measured[0].accuracy, 2)
        assert row.measured[0].attack == "none"
        assert "measured" in row.evidence


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("resnet50_l2_eps0.5", "resnet50_l2_eps0_5"),
        ("resnet50_l2_eps0_5", "resnet50_l2_eps0_5"),
        ("resnet50_l2_eps0.50.ckpt", "resnet50_l2_eps0_5"),
        ("resnet50_l2_eps3.0", "resnet50_l2_eps3"),
        ("resnet18_linf_eps4.0", "resnet18_linf_eps4"),
        ("resnet18_linf_eps4_0", "resnet18_linf_eps4"),
        ("resnet18_linf_eps4.0.ckpt", "resnet18_linf_eps4"),
        ("resnet18_linf_eps4/255", "resnet18_linf_eps4"),
        ("resnet18_linf_eps0.5", "resnet18_linf_eps0_5"),
        ("ResNet50_L2_eps3", "resnet50_l2_eps3"),
        (" resnet50_l2_eps3 ", "resnet50_l2_eps3"),
        ("densenet161_l2_eps3", "densenet_l2_eps3"),
        ("mobilenet_v2_l2_eps0", "mobilenet_l2_eps0"),
        ("mnasnet1_0_l2_eps0", "mnasnet_l2_eps0"),
        ("resnet50_l2_eps1.pth", "resnet50_l2_eps1"),
        ("resnet50_linf_eps4", "resnet50_linf_eps4"),
        ("Salman2020Do_R50", "resnet50_linf_eps4"),
        ("Engstrom2019Robustness.pt", "resnet50_engstrom2019_linf_eps4"),
        ("Liu2023Comprehensive_Swin-B", "swin_base_patch4_window7_224_liu2023_linf_eps4"),
        ("swin_base_patch4_window7_224.liu2023_linf_eps4", "swin_base_patch4_window7_224_liu2023_linf_eps4"),
        ("swin_base_patch4_window7_224.liu2023_linf_eps4/255", "swin_base_patch4_window7_224_liu2023_linf_eps4"),
        ("resnet50.engstrom2019_l2_eps3.0", "resnet50_engstrom2019_l2_eps3"),
    ],
)
def test_every_spelling_resolves(spelling, name):
    assert get(spelling).name == name


@pytest.mark.parametrize("row", CSV, ids=lambda row: row["name"])
def test_upstream_file_names_resolve(row):
    assert get(row["upstream_file"]).name == row["name"]


@pytest.mark.parametrize(
    "name", ["resnet50_l2_eps2", "resnet5_l2_eps3", "", "../../etc/passwd", "C:\\x", "a\0b", "http://x/y", "rèsnet50"]
)
def test_unknown_name_raises_with_the_three_closest(name):
    with pytest.raises(UnknownCheckpoint) as error:
        get(name)
    closest = error.value.expected.split("closest: ")[1].split(", ")
    assert len(closest) == 3 and all(get(c).name == c for c in closest)
    assert error.value.exit_code == 4


def test_closest_is_close():
    with pytest.raises(UnknownCheckpoint, match=r"resnet50_l2_eps3") as error:
        get("resnet50_12_eps3")
    assert error.value.next


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"pattern": "resnet50_*", "norm": "l2", "eps": (0.5, 5), "collection": "salman2020"},
            ["resnet50_l2_eps0_5", "resnet50_l2_eps1", "resnet50_l2_eps3", "resnet50_l2_eps5"],
        ),
        (
            {"norm": "linf", "eps": "4/255", "collection": "salman2020"},
            ["resnet18_linf_eps4", "resnet50_linf_eps4", "wide_resnet50_2_linf_eps4"],
        ),
        ({"norm": "linf", "eps": 0.01568627451, "architecture": "resnet18"}, ["resnet18_linf_eps4"]),
        ({"pattern": "shuffle*"}, ["shufflenet_l2_eps0", "shufflenet_l2_eps3"]),
        ({"pattern": ["vgg*eps3", "densenet_l2_eps3.0"]}, ["densenet_l2_eps3", "vgg16_bn_l2_eps3"]),
        ({"pattern": "resnet50_l2_eps0.?"}, ["resnet50_l2_eps0_1", "resnet50_l2_eps0_5"]),
        ({"architecture": ["densenet161", "mnasnet"], "eps": 0}, ["densenet_l2_eps0", "mnasnet_l2_eps0"]),
        ({"pattern": "Liu2023Comprehensive_Swin-B"}, ["swin_base_patch4_window7_224_liu2023_linf_eps4"]),
        ({"pattern": "nothing*"}, []),
        ({"bundled": True, "dataset": "imagenet"}, []),
    ],
)
def test_list_models(arguments, expected):
    assert list_models(**arguments) == expected


def test_natural_order():
    order = list_models("resnet18_l2_*")
    assert [get(n).eps for n in order] == sorted(get(n).eps for n in order)
    assert order[:3] == ["resnet18_l2_eps0", "resnet18_l2_eps0_01", "resnet18_l2_eps0_03"]


@pytest.mark.parametrize("arguments", [{"norm": "linf", "eps": 4}, {"eps": 4}, {"eps": "4"}, {"eps": (0.5, 5)}])
def test_a_bare_number_that_reads_two_ways_is_refused(arguments):
    with pytest.raises(UsageError) as error:
        list_models(**arguments)
    assert "/255" in error.value.expected


def test_a_bare_number_that_reads_one_way_is_not():
    assert list_models("resnet18_*", eps=3) == ["resnet18_l2_eps3"]


def test_wrong_filters():
    with pytest.raises(UsageError):
        list_models(norm="l3")
    with pytest.raises(UnknownCheckpoint):
        list_models(architecture="resnet51")
    assert get_architecture("mobilenetv2_100").name == "mobilenet"


def test_rows_are_frozen_and_hashable():
    row = get("resnet50_l2_eps3")
    assert hash(row) == hash(get(row.name))
    with pytest.raises(FrozenInstanceError):
        row.file = "other"


def test_public_names():
    for name in robust_zoo.__all__:
        assert getattr(robust_zoo, name) is not None
    assert set(dir(robust_zoo)) == set(robust_zoo.__all__)
    with pytest.raises(AttributeError):
        robust_zoo.nothing  # noqa: B018
