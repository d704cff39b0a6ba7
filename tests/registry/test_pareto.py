"""The front by hand: who is beaten, by whom, and who is not comparable."""

from dataclasses import replace

from robust_zoo import get, list_models
from robust_zoo.registry.pareto import fields
from robust_zoo.registry.reported import Reported

BASE = get("resnet50_linf_eps4")


def row(name, clean, robust, millions, n=5000, by="someone", eps=4 / 255):
    reported = (Reported(clean, by, n), Reported(robust, by, n, "autoattack", "linf", eps))
    return replace(BASE, name=name, reported=reported, network=replace(BASE.network, parameters=int(millions * 1e6)))


def front(*rows):
    return {kind[3]: {r.checkpoint.name for r in rivals if r.front} for kind, rivals in fields(rows).items()}


def test_who_is_beaten_in_both():
    assert front(row("a", 70, 50, 10), row("b", 69, 49, 10), row("c", 60, 55, 10)) == {5000: {"a", "c"}}


def test_a_smaller_network_is_not_beaten_by_a_larger_one():
    assert front(row("a", 70, 50, 20), row("b", 69, 49, 10), row("c", 60, 40, 15)) == {5000: {"a", "b"}}


def test_equals_are_both_on_the_front():
    assert front(row("a", 70, 50, 10), row("b", 70, 50, 10), row("c", 70, 49, 10)) == {5000: {"a", "b"}}


def test_other_images_are_another_field():
    rows = [row(name, 70 - i, 50 - i, 10) for i, name in enumerate("abc")]
    rows += [row(name, 60 - i, 40 - i, 10, n=1000) for i, name in enumerate("def")]
    rows += [row(name, 60 - i, 30, 10, eps=8 / 255) for i, name in enumerate("gh")]  # two are no field
    assert front(*rows) == {5000: {"a"}, 1000: {"d"}}


def test_both_accuracies_are_of_one_author():
    mixed = replace(row("a", 99, 50, 10), reported=(Reported(99, "other", 5000), *row("a", 0, 50, 10).reported[1:]))
    assert front(mixed, row("b", 70, 49, 10), row("c", 69, 48, 10), row("d", 68, 47, 10)) == {5000: {"b"}}


def test_of_all_rows_by_brute_force():
    found = fields([get(name) for name in list_models()])
    assert len(found) >= 5
    for rivals in found.values():
        merits = {r.checkpoint.name: (r.clean.value, r.robust.value, -r.checkpoint.network.parameters) for r in rivals}
        for rival in rivals:
            mine = merits[rival.checkpoint.name]
            better = [m for m in merits.values() if m != mine and all(x >= y for x, y in zip(m, mine, strict=True))]
            assert rival.front == (not better)
            assert rival.clean.by == rival.robust.by
        clean = [r.clean.value for r in rivals]
        assert clean == sorted(clean, reverse=True)
