"""`recommend --for corruptions`: who is best by what was measured, without images or weights."""

import json
from dataclasses import replace

import pytest
from verbs import run_to as run

from robust_zoo.registry.corruptions import Corruptions
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.ranking import ranked

CORRUPTED = [name for name in list_models(bundled=True) if get(name).corruptions]


def figure(mean, half, data="a", n=100):
    """Of one corruption, right in so many percent at every severity."""
    return Corruptions(data, n, (("fog", (mean,) * 5),), (mean - half, mean + half), "0" * 64, "", "", clean=90)


def test_all_that_were_measured_are_ranked_by_their_means():
    found = json.loads(run("recommend", "--for", "corruptions", "--json").stdout)
    means = {name: get(name).corruptions[0].mean for name in CORRUPTED}
    assert [one["checkpoint"] for one in found] == sorted(CORRUPTED, key=lambda name: -means[name])
    assert [one["mean"] for one in found] == sorted((round(mean, 2) for mean in means.values()), reverse=True)
    assert found[0]["tied_with_best"] and not found[-1]["tied_with_best"]
    lines = run("recommend", "--for", "corruptions").stdout.splitlines()
    assert len(lines) == len(CORRUPTED) + 2 and lines[1].split()[:2] == ["1", found[0]["checkpoint"]]
    assert lines[-1].endswith("1,000 images: cifar10 bundled sample, our corruptions")
    only = json.loads(run("recommend", "--for", "corruptions", "--norm", "linf", "--json").stdout)
    assert {one["checkpoint"] for one in only} == {name for name in CORRUPTED if get(name).norm == "linf"}


def test_figures_on_other_images_are_never_mixed_and_near_means_are_tied():
    first, second, third = (get(name) for name in CORRUPTED[:3])
    rows = [
        replace(first, corruptions=(figure(70, 3),)), replace(second, corruptions=(figure(74, 3), figure(10, 1, "b"))),
        replace(third, corruptions=()),
    ]  # fmt: skip
    found = ranked(rows)
    assert {data: [row.name for row, _ in pairs] for data, pairs in found.items()} == {
        "a": [second.name, first.name],
        "b": [second.name],
    }
    assert figure(70, 3).tied(figure(74, 3)) and not figure(70, 3).tied(figure(75, 3))  # 3 * sqrt(2) is 4.24
    assert (figure(70, 3).mean, figure(70, 3).clean_accuracy) == (70, 90)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photos"], "without FOLDER"),
        (["--plot", "x.png"], "without --plot"),
        (["--budget", "3"], "without --budget"),
        (["-a", "resnet50"], "--attack corruptions"),
        (["-c", "resnet50_l2_eps3"], "evaluate resnet50_l2_eps3"),
    ],
)
def test_what_cannot_be_ranked_says_what_to_do(arguments, said):
    assert said in run("recommend", "--for", "corruptions", *arguments, code=2).stderr


def test_neither_images_nor_a_purpose():
    assert "FOLDER, or --for corruptions" in run("recommend", code=2).stderr
