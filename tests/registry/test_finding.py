"""Filters of list_models, and which of several figures is the best known."""

from dataclasses import replace

import pytest

from robust_zoo.errors import UsageError
from robust_zoo.registry import finding, lookup, robustness
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.reported import Reported
from robust_zoo.registry.robustness import best_robust, by_robustness, figures, parse_under

LINF4 = ("linf", 4 / 255)
ROW = replace(get("resnet50_linf_eps4"), reported=())
EPS8, L2 = get("resnet50_linf_eps8"), get("resnet50_l2_eps3")


def said(value, attack="autoattack", n=5000, norm="linf", eps=4 / 255, by="them", size=None):
    return Reported(value, by, n, attack, norm, eps, size)


def here(correct, n, attack="autoattack", data="imagenet validation", norm="linf", eps=4 / 255):
    return Measurement(attack, correct, n, data, "0" * 64, "code", norm, eps)


def with_figures(*figures_, row=ROW):
    found = {kind: tuple(f for f in figures_ if isinstance(f, kind)) for kind in (Reported, Measurement)}
    return replace(row, reported=found[Reported], measured=found[Measurement])


# (the best first, the others); where they stand in the row changes nothing
BEST = [
    (said(50.0), said(60.0, "pgd-100")),  # AutoAttack before a larger number of a weaker attack
    (said(50.0), said(40.0, "pgd-100")),  # and before a smaller one
    (here(100, 200), said(60.0, n=50_000)),  # measured here before reported
    (said(55.8, n=5000), said(56.8, n=1000), said(57.8, n=None)),  # on most images
    (said(56.1), said(57.3, n=50_000, size=256)),  # at the row's own size
    (said(33.4, "pgd-100", n=1000), said(35.0, "pgd-20", n=50_000), here(80, 200, "pgd-20")),  # bounds: the lowest
    (said(40.0), said(30.0, eps=8 / 255), said(20.0, norm="l2", eps=3.0)),  # at the threat that is asked about
    (here(80, 200), here(50, 200, data="imagenetv2"), here(50, 200, "none", norm=None, eps=None)),
]


@pytest.mark.parametrize("given", BEST, ids=range(len(BEST)))
def test_the_best_known_figure_is_the_strongest_evidence(given):
    for row in (with_figures(*given), with_figures(*reversed(given))):
        found = best_robust(row)
        best = given[0]
        value = best.value if isinstance(best, Reported) else best.accuracy
        assert (found.value, found.attack, found.n) == (value, best.attack, best.n)
        assert found.measured == isinstance(best, Measurement) and found.bound == (best.attack != "autoattack")
        assert best_robust(row, LINF4) == found


def test_without_a_figure_at_the_threat_there_is_none():
    assert best_robust(ROW) is None and best_robust(with_figures(said(40.0)), ("linf", 2 / 255)) is None
    standard = get("resnet18_x0_25_cifar10_l2_eps0")
    assert best_robust(standard) is None and best_robust(standard, ("l2", 0.5)).value == 0.0


def test_a_figure_says_all_it_is_of():
    mine, theirs = figures(with_figures(said(46.0, norm="l1", eps=75.0), here(120, 250)))
    assert (mine.under, mine.images, mine.by) == ("linf 4/255", "imagenet validation", "robust_zoo")
    assert mine.interval == pytest.approx((41.88, 54.18), abs=0.01)  # (0.4877 -+ 0.0624) / 1.0154
    assert (theirs.under, theirs.interval, theirs.attack_title) == ("l1 75", None, "AutoAttack")
    assert best_robust(with_figures(said(46.0, norm="l1", eps=75.0)), parse_under("l1", 75)).value == 46.0
    assert theirs.overall == pytest.approx((44.62, 47.38), abs=0.01)  # Wilson's, of 2,300 in 5,000
    assert replace(theirs, n=None).overall is None


def test_sorted_by_robustness():
    cifar = with_figures(said(90.0, eps=8 / 255), row=get("resnet18_x0_25_cifar10_linf_eps8"))
    rows = [
        with_figures(said(50.0)), with_figures(said(40.0)), with_figures(said(60.0, eps=8 / 255), row=EPS8),
        with_figures(said(70.0, "pgd-100", norm="l2", eps=3.0), row=L2), with_figures(said(60.0, "pgd-100")),
        with_figures(said(55.0, "pgd-100")), cifar, ROW,
    ]  # fmt: skip
    assert sorted(reversed(rows), key=by_robustness) == rows


@pytest.fixture
def planted(monkeypatch):
    """Three rows with figures, under two licences; the others as they are."""
    registry = load_registry()
    rows = dict(registry.checkpoints)
    rows["resnet18_linf_eps4"] = with_figures(said(25.3), Reported(52.9, "them", 5000), row=get("resnet18_linf_eps4"))
    rows["resnet50_linf_eps4"] = with_figures(said(40.0), Reported(64.02, "them", 5000))
    rows["wide_resnet50_2_linf_eps4"] = replace(
        with_figures(said(45.0, "pgd-100"), row=get("wide_resnet50_2_linf_eps4")), licence="unknown"
    )
    for module in (lookup, finding, robustness):
        monkeypatch.setattr(module, "load_registry", lambda: replace(registry, checkpoints=rows))


R18, R50, WIDE = "resnet18_linf_eps4", "resnet50_linf_eps4", "wide_resnet50_2_linf_eps4"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"min_robust": ("linf", "4/255")}, [R18, R50, WIDE]),
        ({"min_robust": ("linf", "4/255", 40)}, [R50, WIDE]),  # with both ends
        ({"min_robust": ["linf", "4/255", 40.1]}, [WIDE]),
        ({"min_robust": ("linf", "2/255")}, []),
        ({"min_clean": 64.02, "min_robust": ("linf", "4/255", 0)}, [R50]),  # a clean accuracy not known is not enough
        ({"max_params": "26M", "min_robust": ("linf", "4/255")}, [R18, R50]),
        ({"max_params": 25_557_031, "min_robust": ("linf", "4/255")}, [R18]),
        ({"max_params": 25_557_032, "min_robust": ("linf", "4/255")}, [R18, R50]),  # resnet50's, torchvision says
        ({"max_params": "25557.032k", "min_robust": ("linf", "4/255")}, [R18, R50]),
        ({"max_params": 0.7e6}, []),
        ({"licence": "unknown"}, [WIDE]),
        ({"licence": ["unknown", "mit"], "norm": "linf", "eps": "4/255"}, [R18, R50, WIDE]),
    ],
)
def test_filters(planted, arguments, expected):
    assert list_models(**{"collection": "salman2020"} | arguments) == expected


def test_a_collection():
    wanted = ["salman2020", "robust_zoo_cifar10"]
    names = [row.name for row in load_registry().checkpoints.values() if row.collection.name in wanted]
    assert set(list_models(collection=wanted)) == set(names)
    assert {get(name).collection.name for name in list_models(collection=wanted[0])} == {wanted[0]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"collection": "salman2021"}, "closest: salman2020"),
        ({"licence": "MIT"}, "mit"),
        ({"min_clean": 0.7}, "(40, not 0.4)"),
        ({"min_clean": 101}, "from 1 to 100"),
        ({"min_clean": float("nan")}, "from 1 to 100"),
        ({"min_clean": True}, "from 1 to 100"),
        ({"min_clean": "70"}, "from 1 to 100"),
        ({"min_robust": ("linf", "4/255", -1)}, "from 1 to 100"),
        ({"min_robust": ("linf", 4, 40)}, '"4/255"'),
        ({"min_robust": ("linf", 0)}, "above 0"),
        ({"min_robust": ("l3", 1)}, "linf"),
        ({"min_robust": 40}, '("linf", "4/255", 40)'),
        ({"min_robust": "linf"}, '("linf", "4/255", 40)'),
        ({"max_params": 90}, '"90M"'),
        ({"max_params": "ninety"}, '"90M"'),
        ({"max_params": "-90M"}, '"90M"'),
        ({"max_params": True}, '"90M"'),
        ({"max_params": float("inf")}, '"90M"'),
    ],
)
def test_nonsense_is_refused(arguments, says):
    with pytest.raises(UsageError) as raised:
        list_models(**arguments)
    assert says in raised.value.expected and raised.value.actual and raised.value.next
