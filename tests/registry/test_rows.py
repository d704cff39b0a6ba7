"""Every field of every row against an oracle from elsewhere; and that one changed character would be noticed."""

import json
import random
import re
import tomllib
from pathlib import Path

import pytest
from row_oracles import UPSTREAM, differences
from second_generation import ROWS

from robust_zoo.errors import Refused
from robust_zoo.registry import load
from robust_zoo.registry.load import MEASURED, TOML, load_registry, parse
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.measurement import Measurement

TEXT = TOML.read_text(encoding="utf-8")
FIGURES = json.loads(MEASURED.read_text(encoding="utf-8"))
HEAD, *BLOCKS = TEXT.split("[[checkpoint]]\n")
SECTIONS = tomllib.loads(HEAD)
PINNED = [name for name in list_models() if get(name).sha256]
OTHER = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/ "


@pytest.mark.parametrize("name", list_models())
def test_every_field_is_what_its_oracle_says(name):
    assert differences(get(name)) == []


def test_every_row_has_an_oracle():
    assert len(UPSTREAM) == 67 and len(PINNED) == 37 + 8 + 8
    newer = {*list_models()} - UPSTREAM.keys() - {*list_models(bundled=True)}
    assert newer <= ROWS.keys()
    assert newer >= {name for name, row in ROWS.items() if row["wave"] == "1"} and len(newer) == 70


def noticed(block, measured):
    """Whether a row that was changed, or whose measurements were, is refused, or differs from its oracle."""
    try:
        rows = tomllib.loads("[[checkpoint]]\n" + block)
        rows["checkpoint"][0]["measured"] = json.loads(measured)
        [row] = parse(SECTIONS | rows).checkpoints.values()
    except (Refused, ValueError):
        return True
    return differences(row) != []


def same(one, other):
    """Whether two texts say the same in JSON."""
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize("name", PINNED)
def test_one_changed_character_in_any_field_is_noticed(name):
    """Every character of every value of the row itself; of its measurements, a few of each value."""
    [block] = [block for block in BLOCKS if f'name = "{name}"\n' in block]
    block = re.sub(r"\n# .*", "", block)  # the comment above the next section is no field
    measured = json.dumps(FIGURES.get(name, []), indent=0)
    assert not noticed(block, measured)
    draw = random.Random(name)

    def changed(text, place):
        return text[:place] + draw.choice([c for c in OTHER if c != text[place]]) + text[place + 1 :]

    fields = list(re.finditer(r"^\w+ = (.+)$", block, re.MULTILINE))
    assert len(fields) >= 8
    for match in fields:
        for place in range(match.start(1), match.end(1)):
            other = changed(block, place)
            assert noticed(other, measured), f"{match[0]} became {other[match.start() : match.end()]}"
    for match in re.finditer(r'^"\w+": (.+?),?$', measured, re.MULTILINE):
        places = range(match.start(1), match.end(1))
        for place in draw.sample(places, min(3, len(places))):
            other = changed(measured, place)
            if same(other, measured):  # 1.0 as 1e0
                continue
            assert noticed(block, other), f"{match[0]} became {other[match.start() : match.end()]}"


@pytest.mark.parametrize("table", load_registry().keys.values(), ids=lambda table: table.name)
def test_patterns_of_keys_are_patterns(table):
    for pattern in (*table.drop, *table.reshape, *table.transpose, *(old for old, _ in table.rename)):
        assert re.compile(pattern).pattern


def test_measurements_of_no_row_are_refused(tmp_path, monkeypatch):
    for text in ('{"resnet50_l2_eps33": []}', '{"resnet50_l2_eps3": [{}]}', '{"resnet50_l2_eps3": 5}', "[]", "{"):
        (tmp_path / "measured.json").write_text(text, encoding="utf-8")
        monkeypatch.setattr(load, "MEASURED", tmp_path / "measured.json")
        with pytest.raises(Refused, match="registry cannot be read"):
            load_registry.__wrapped__()


def test_every_measured_figure_names_its_evidence():
    root = Path(__file__).parents[2] / "results"
    folder = {True: "tables/", False: ""}
    named = {name: [folder["table" in f] + f["entry"] for f in figures] for name, figures in FIGURES.items()}
    assert {f"{name}/{entry}" for name, found in named.items() for entry in found} == {
        path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.json")
    }
    for name in named:
        for m in get(name).measured:
            entry = json.loads((root / name / f"{m.entry}.json").read_text())
            assert (entry["robust_correct"], entry["n"], entry["norm"], entry["eps"]) == (m.correct, m.n, m.norm, m.eps)
            assert m.digits == m.entry.rpartition("__")[2] and len(m.digits) == 12
        for c in get(name).corruptions:
            entry = json.loads((root / name / "tables" / f"{c.entry}.json").read_text())
            assert {f"{kind} {i}": count for kind, counts in c.correct for i, count in enumerate(counts, 1)} == {
                condition: count for condition, count in entry["correct"].items() if condition != "clean"
            }
            assert (c.clean, c.n, c.weights_sha256) == (entry["correct"]["clean"], entry["n"], get(name).sha256)
            assert (c.data, c.mean) == (entry["dataset"], pytest.approx(entry["mean_accuracy"]))
            assert c.interval == pytest.approx(entry["mean_interval_95"], abs=1e-4)


@pytest.mark.parametrize(
    "entry", ["../x__0123456789ab", "x_0123456789ab", "x__0123456789aB", 5, "x" * 182 + "__" + "0" * 12]
)
def test_evidence_that_is_no_entry_is_refused(entry):
    """But for none at all, as figures of exported files have it."""
    plain = {"attack": "none", "correct": 1, "n": 2, "data": "d", "weights_sha256": "0" * 64, "code": "c"}
    assert Measurement(**plain).digits == ""
    with pytest.raises(ValueError, match="whose evidence is"):
        Measurement(**plain, entry=entry)


def test_rows_that_are_none_are_refused(monkeypatch):
    for change in (
        {"checkpoint": [{}]},
        {"checkpoint": [{"name": 5}]},
        {"checkpoint": 5},
        {"architecture": {"x": {}}},
        {"collection": {"x": {"preprocessing": {}}}},
        {"checkpoint": [{"name": "x", "norm": "l7", "eps": 1}]},
        {"collection": SECTIONS["collection"] | {"x": SECTIONS["collection"]["liu2023"] | {"kind": "decoder"}}},
    ):
        with pytest.raises(Refused, match="registry"):
            parse(tomllib.loads(TEXT) | change)


def test_a_damaged_registry_is_five_fields_not_a_traceback(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from robust_zoo.cli import main
    from robust_zoo.registry import load

    (tmp_path / "checkpoints.toml").write_text(TEXT[:5000] + '"', encoding="utf-8")
    monkeypatch.setattr(load, "TOML", tmp_path / "checkpoints.toml")
    load_registry.cache_clear()
    try:
        result = CliRunner().invoke(main, ["list"])
        assert result.exit_code == 6 and "pip install --force-reinstall" in result.stderr
    finally:
        monkeypatch.undo()
        load_registry.cache_clear()
