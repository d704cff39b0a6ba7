"""Every field of every row against an oracle from elsewhere; and that one changed character would be noticed."""

import random
import re
import tomllib

import pytest
from row_oracles import UPSTREAM, differences
from second_generation import ROWS

from robust_zoo.errors import Refused
from robust_zoo.registry.load import TOML, load_registry, parse
from robust_zoo.registry.lookup import get, list_models

TEXT = TOML.read_text(encoding="utf-8")
HEAD, *BLOCKS = TEXT.split("[[checkpoint]]\n")
SECTIONS = tomllib.loads(HEAD)
PINNED = [name for name in list_models() if get(name).sha256]
OTHER = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/ "


@pytest.mark.parametrize("name", list_models())
def test_every_field_is_what_its_oracle_says(name):
    assert differences(get(name)) == []


def test_every_row_has_an_oracle():
    assert len(UPSTREAM) == 67 and len(PINNED) == 37 + 8 + 4
    newer = {*list_models()} - UPSTREAM.keys() - {*list_models(bundled=True)}
    assert newer <= ROWS.keys()
    assert newer >= {name for name, row in ROWS.items() if row["wave"] == "1"} and len(newer) == 70


def noticed(block):
    """Whether a row that was changed is refused, or differs from its oracle."""
    try:
        [row] = parse(SECTIONS | tomllib.loads("[[checkpoint]]\n" + block)).checkpoints.values()
    except (Refused, tomllib.TOMLDecodeError):
        return True
    return differences(row) != []


@pytest.mark.parametrize("name", PINNED)
def test_one_changed_character_in_any_field_is_noticed(name):
    """Every character of every value of the row itself; of its measurements, a few of each value."""
    [block] = [block for block in BLOCKS if f'name = "{name}"\n' in block]
    block = re.sub(r"\n# .*", "", block)  # the comment above the next section is no field
    assert not noticed(block)
    draw = random.Random(name)
    fields = 0
    measured = block.index("[[checkpoint.measured]]") if "[[checkpoint.measured]]" in block else len(block)
    for match in re.finditer(r"^(\w+) = (.+)$", block, re.MULTILINE):
        fields += 1
        places = range(match.start(2), match.end(2))
        for place in places if match.start() < measured else draw.sample(places, min(3, len(places))):
            character = draw.choice([c for c in OTHER if c != block[place]])
            changed = block[:place] + character + block[place + 1 :]
            assert noticed(changed), f"{match[1]}: {match[2]} became {changed[match.start(2) : match.end(2)]}"
    assert fields >= 8


def test_rows_that_are_none_are_refused(monkeypatch):
    for change in (
        {"checkpoint": [{}]},
        {"checkpoint": [{"name": 5}]},
        {"checkpoint": 5},
        {"architecture": {"x": {}}},
        {"collection": {"x": {"preprocessing": {}}}},
        {"checkpoint": [{"name": "x", "norm": "l7", "eps": 1}]},
        {"collection": SECTIONS["collection"] | {"x": SECTIONS["collection"]["liu2023"] | {"kind": "decoder"}}},
        {"keys": SECTIONS["keys"] | {"x": {"drop": [], "rename": [], "reshape": ["("]}}},
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
