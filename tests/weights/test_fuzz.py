"""Random damage to whatever is read: never a crash, never a hang, never a changed tensor taken for a sound one."""

import hashlib
import io
import json
import random
import re
import tomllib
from contextlib import nullcontext
from dataclasses import asdict, replace

import click
import hostile
import pytest
import safetensors
import torch
from arrivals import receipt_in
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from verbs import commands

from robust_zoo.cli import main
from robust_zoo.errors import Refused, UnknownCheckpoint, UsageError, VerificationFailed
from robust_zoo.registry.load import TOML, parse
from robust_zoo.registry.lookup import canonical_name, get, list_models
from robust_zoo.threat import parse_eps
from robust_zoo.training.recipes import load_overrides, recipe_for
from robust_zoo.weights import bundle, cache, manifest
from robust_zoo.weights.cache import weights_path
from robust_zoo.weights.receipts import Receipt
from robust_zoo.weights.safetensors_file import _table, read_table, write_safetensors

ROW = get("shufflenet_l2_eps0")
RECEIPT = Receipt(
    name=ROW.name, sha256="0" * 64, size=9, state="hub-declared", source="a hub", source_file=ROW.file, revision="main",
    source_sha256="1" * 64,
)  # fmt: skip
NUMBERS = b'0 -1 1 4 65536 9223372036854775808 1e400 1.5 true null "x" [] {}'.split()


def mutated(sound, dice):
    """Bytes flipped, cut out, doubled, moved, or a number in the text that became another value."""
    content = bytearray(sound)
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        start = dice.randrange(len(content) + 1)
        end = min(len(content), start + dice.choice([1, 1, 2, 8, 64]))
        kind = dice.randrange(6)
        if kind == 0 and start < len(content):
            content[start] ^= 1 << dice.randrange(8)
        elif kind == 1:
            content[start:end] = dice.randbytes(end - start)
        elif kind == 2:
            del content[start:end]
        elif kind == 3:
            content[start:start] = content[start:end]
        elif kind == 4:
            piece = bytes(content[start:end])
            del content[start:end]
            place = dice.randrange(len(content) + 1)
            content[place:place] = piece
        elif numbers := [*re.finditer(rb"\d+", content)]:
            number = dice.choice(numbers)
            content[number.start() : number.end()] = dice.choice(NUMBERS)
    return bytes(content)


def overwrite(path, content):
    """As write_bytes; a file that is truncated first goes to the disk when it is closed, which takes milliseconds."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.peers)])
def test_mutated_safetensors_headers(tmp_path, count):
    """What passes is read by the safetensors library as the same table, and no hash is ever satisfied by it.

    All are parsed in memory, and put into a cache; what passes, and a tenth of the rest, is read from there too.
    """
    tensors = {f"layer{i}.weight": torch.full((2, i + 1), float(i)) for i in range(8)} | {"steps": torch.tensor(7)}
    path = weights_path(tmp_path, ROW.name)
    path.parent.mkdir()
    sha256 = write_safetensors(path, tensors, {"name": ROW.name, "source_file": ROW.file})
    receipt = replace(RECEIPT, sha256=sha256, size=path.stat().st_size)
    sound = path.read_bytes()
    cache.store(path, receipt, tmp_path)
    assert receipt_in(ROW, tmp_path)
    end = 8 + int.from_bytes(sound[:8], "little")
    dice, passed = random.Random(0), 0
    for turn in range(count):
        content = mutated(sound[:end], dice) + sound[end:]
        if dice.random() < 0.9 and content[8:end] != sound[8:end]:  # or nearly all would end at the header's length
            content = (len(content) - (len(sound) - end) - 8).to_bytes(8, "little") + content[8:]
        if content == sound:
            continue
        try:
            table = _table(io.BytesIO(content), len(content), path)[0]
        except Refused:
            table = None
        overwrite(path, content)
        with pytest.raises(VerificationFailed):
            receipt_in(ROW, tmp_path)
        if table is not None or turn % 10 == 0:
            with nullcontext() if table is not None else pytest.raises(Refused):
                assert read_table(path) == table
        if table is not None:
            passed += 1
            table.pop("__metadata__", None)
            theirs = {name: (t["dtype"], t["shape"]) for name, t in safetensors.deserialize(content)}
            assert {name: (t["dtype"], t["shape"]) for name, t in table.items()} == theirs, content
    assert count / 100 < passed < count / 2


@pytest.mark.parametrize("count", [8_000, pytest.param(20_000, marks=pytest.mark.peers)])
def test_mutated_manifests(tmp_path, monkeypatch, count):
    """Of a bundle whose manifest was changed, either nothing is taken, or exactly what was packed."""
    weights, texts = b"w" * 999, {"checkpoints.toml": b"rows", f"cards/{ROW.name}.md": b"card"}
    texts[f"weights/{ROW.name}.json"] = json.dumps(asdict(RECEIPT)).encode()
    files = texts | {f"weights/{ROW.name}.safetensors": weights}
    sound = manifest.render({n: manifest.Entry(hashlib.sha256(c).hexdigest(), len(c)) for n, c in files.items()})
    taken = []

    def install(row, fetched, root, *, promised):
        taken.append(fetched.path.read_bytes())
        return "taken"

    monkeypatch.setattr(bundle, "convert_into", install)
    dice, path, read = random.Random(1), tmp_path / "x.tar", 0
    path.touch()
    for _ in range(count):
        content = mutated(sound, dice)
        try:
            entries = manifest.parse(content, "here")
        except Refused:
            continue
        assert all(re.fullmatch(r"([a-z]+/)?[\w.-]+", name) for name in entries)
        read += 1
        overwrite(path, hostile.tarred({"manifest.json": content, **files}))
        try:
            outcomes = [outcome for _, outcome in bundle.unpack(path, cache_dir=tmp_path / "cache")]
        except Refused:
            continue
        assert entries == manifest.parse(sound, "here") or all(isinstance(o, VerificationFailed) for o in outcomes)
    assert read > count / 20 and taken and {*taken} == {weights}


HEAD, *BLOCKS = TOML.read_bytes().split(b"[[checkpoint]]\n")
SECTIONS = tomllib.loads(HEAD.decode())


def test_mutated_rows_are_refused_or_rows():
    dice, read = random.Random(2), 0
    for turn in range(3000):
        try:
            if turn % 20 == 0:
                data = tomllib.loads(mutated(HEAD, dice).decode()) | {"checkpoint": []}
            else:
                block = dice.choice(BLOCKS)
                data = SECTIONS | tomllib.loads("[[checkpoint]]\n" + mutated(block, dice).decode())
        except ValueError:  # not TOML; _file() makes it an error of the registry
            continue
        try:
            rows = parse(data).checkpoints
        except Refused:
            continue
        read += 1
        assert all(row.name == name and row.threat.tag for name, row in rows.items())
    assert read > 300


def test_mutated_recipes_are_usage_errors_or_recipes(tmp_path):
    base = recipe_for(get("resnet18_l2_eps3"))
    sound = b'epochs = 3\nbatch_size = 128\nlr = 0.1\nschedule = "cosine"\naugment = "crop_flip"\n'
    sound += b'threat = {norm = "linf", eps = "4/255"}\nobjective = "trades"\ntrades_beta = 3.0\n'
    dice, path, read = random.Random(3), tmp_path / "recipe.toml", 0
    path.write_bytes(sound)
    assert load_overrides(path, base).epochs == 3
    for _ in range(3000):
        overwrite(path, mutated(sound, dice))
        try:
            recipe = load_overrides(path, base)
        except UsageError:
            continue
        read += 1
        assert recipe.epochs > 0 and recipe.batch_size > 0
    assert read > 100


NASTY = [
    "", " ", "-", "--", "-1", "0", "1.5", "nan", "inf", "-inf", "1e999", "1/0", "0/0", "4/255", "9" * 400, "1" * 5000,
    "x" * 300, "x" * 5000, "../../etc/passwd", "/proc/nope/x", "/dev/null/x", "~nobody", "C:\\x", "http://x/y",
    "*", "[", "[!", "{}", "%s", "$(id)", "`id`", ";", "a\nb", "\x1b[2J", "\u202e", "é", "日本", "😀", "\udcff", "٣",
    "resnet50_l2_eps٣", "resnet50_l2_eps", "resnet50_linf_eps4/255", "RESNET50", "_l2_eps3", "x=1", "=", ",", ":",
]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(name=st.one_of(st.text(max_size=40), st.sampled_from(NASTY), st.from_regex(r"[a-z0-9_]*_(l2|linf)_eps.*")))
def test_any_name_is_found_or_unknown(name):
    try:
        assert get(name).name in list_models()
    except UnknownCheckpoint as error:
        assert "closest" in error.expected
    canonical_name(name)
    assert set(list_models(name)) <= {*list_models()}


@settings(max_examples=500, deadline=None)
@given(
    eps=st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.sampled_from(NASTY)),
    norm=st.sampled_from(["l2", "linf", None]),
)
def test_any_radius_is_a_number_or_a_usage_error(eps, norm):
    try:
        assert 0 <= parse_eps(eps, norm) < float("inf")
    except UsageError as error:
        assert error.expected


COMMANDS = {tuple(path): command for path, command in commands() if not isinstance(command, click.Group)}
BUILDS = {("site",)}  # all of it, whenever it is told where: in two seconds
# They might find work to do for minutes: their names are wrong, whatever else is.
LONG = {("train",), ("evaluate",), ("transfer",), ("recommend",), ("attack",), ("plan",)}


@pytest.mark.parametrize("path", [p for p in COMMANDS if p != ("demo",)], ids=" ".join)
def test_any_arguments_end_with_a_known_code(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUST_ZOO_OFFLINE", "1")
    dice = random.Random(" ".join(path))
    values = NASTY if path in LONG else [*NASTY, "resnet18_l2_eps3", "resnet18_x0_25_cifar10_l2_eps0_5", ".", "x.out"]
    for _ in range(5 if path in BUILDS else 60):
        words = []
        for parameter in COMMANDS[path].params:
            if isinstance(parameter, click.Argument):
                words += [dice.choice(values) for _ in range(dice.choice([0, 1, 1, 1, 2]) if path not in LONG else 1)]
            elif dice.random() < 0.3 and parameter.name not in ("help", "debug", "deep"):  # deep: a second each time
                option = dice.choice(parameter.opts)
                allowed = getattr(parameter.type, "choices", [])
                words += [option] if parameter.is_flag else [option, dice.choice([*values, *allowed])]
        result = CliRunner().invoke(main, [*path, *words])
        assert isinstance(result.exception, SystemExit | None), (words, result.exception)
        assert result.exit_code in range(7), words
        assert "Traceback" not in result.output
        if result.exit_code:
            assert result.stderr.strip(), words
