"""How far the origin of cached weights is proven: derived from rows, hashes and places, never a receipt's word."""

import json
import os
import tomllib
from dataclasses import asdict, replace

import checkpoints
import pytest
import torch
from fault_table import command, fault, refused

import robust_zoo
from robust_zoo.errors import Refused, VerificationFailed
from robust_zoo.owners import own_directory
from robust_zoo.registry.load import TOML, load_registry, parse
from robust_zoo.registry.lookup import get
from robust_zoo.weights import bundle, verify
from robust_zoo.weights.cache import weights_path
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.first_seen import noted
from robust_zoo.weights.receipts import STATES, Receipt
from robust_zoo.weights.safetensors_file import write_safetensors
from robust_zoo.weights.verify import provenance, verified

ROW = get("shufflenet_l2_eps0")  # without a sha256 of its own
SOURCE = "5a" * 32
DAY = "2026-11-20"
PINNED = replace(ROW, sha256=SOURCE)
HASHLESS = replace(ROW, sources=())


def plant(root, state="hub-declared", tensors=None, **changes):
    """Weights of ROW in a cache, under a receipt that says so; returns the sha256 of the file."""
    path = weights_path(root, ROW.name)
    path.parent.mkdir(parents=True)
    sha256 = write_safetensors(path, tensors or {"w": torch.ones(3)}, provenance(ROW, SOURCE))
    receipt = Receipt(ROW.name, sha256, path.stat().st_size, state, "somewhere", ROW.file, SOURCE, "abc", 1000, DAY)
    path.with_suffix(".json").write_text(json.dumps(asdict(receipt) | changes))
    return sha256


@pytest.fixture(autouse=True)
def not_warned(monkeypatch):
    monkeypatch.setattr(verify, "_warned", set())


@pytest.mark.parametrize(
    ("row", "said", "own", "site"),
    [
        (ROW, "hub-declared", "hub-declared", "vouched"),
        (ROW, "vouched", "vouched", "vouched"),
        (ROW, "unverified", "unverified", "unverified"),
        (ROW, "pinned", "vouched", "vouched"),  # the row pins nothing
        (PINNED, "pinned", "pinned", "vouched"),
        (PINNED, "hub-declared", "pinned", "vouched"),  # it was pinned since
        (PINNED, "unverified", "pinned", "unverified"),
        (PINNED, "first-seen", "pinned", "unverified"),  # the file that was seen first is the one that was pinned since
        (PINNED, "vouched", "vouched", "vouched"),
        (ROW, "first-seen", "unverified", "unverified"),  # the hub can be asked
        (HASHLESS, "first-seen", "first-seen", "first-seen"),  # the site's copy is the same file
        (HASHLESS, "unverified", "unverified", "unverified"),
        (HASHLESS, "hub-declared", "vouched", "vouched"),
    ],
)
def test_a_state_is_derived(row, said, own, site, own_machine, tmp_path, monkeypatch):
    for root in (own_machine, tmp_path / "site"):
        plant(root, said)
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(tmp_path / "site"))
    seen = noted(row, own_machine)
    assert (verified(row, own_machine).state, verified(row, tmp_path / "site", seen).state) == (own, site)
    assert {own, site} <= {*STATES}


@pytest.mark.parametrize("said", STATES)
@pytest.mark.parametrize("row", [ROW, PINNED], ids=["", "pinned"])
def test_the_hash_of_the_converted_file_decides_wherever_it_lies(row, said, own_machine, tmp_path, monkeypatch):
    for root in (own_machine, tmp_path / "site"):
        sha256 = plant(root, said)
    own_machine.chmod(0o777)
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(tmp_path / "site"))
    for root in (own_machine, tmp_path / "site"):
        assert verified(replace(row, converted_sha256=sha256), root).state == "pinned"
        with pytest.raises(VerificationFailed) as error:
            verified(replace(row, converted_sha256="0" * 64), root)
        assert "0" * 64 in error.value.expected and sha256 in error.value.actual


@fault("receipt")
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="a platform without owners")
@pytest.mark.parametrize(
    ("place", "mode"),
    [(".", 0o777), (".", 0o775), (".", 0o1777), ("weights", 0o757), ("safetensors", 0o666), ("json", 0o664)],
)
def test_a_cache_that_others_may_write_is_someones_word(place, mode, own_machine, caplog):
    plant(own_machine, "pinned")
    path = weights_path(own_machine, ROW.name)
    places = {".": own_machine, "weights": path.parent, "safetensors": path, "json": path.with_suffix(".json")}
    assert verified(PINNED, own_machine).state == "pinned" and not caplog.records
    places[place].chmod(mode)
    assert [verified(PINNED, own_machine).state for _ in range(2)] == ["vouched"] * 2
    [record] = caplog.records
    assert f"others may write to {places[place]}" in record.getMessage() and "chmod go-w" in record.getMessage()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a directory away")
def test_a_cache_of_another_user_is_someones_word(own_machine, caplog):
    plant(own_machine)
    os.chown(own_machine, 12345, -1)
    assert verified(ROW, own_machine).state == "vouched"
    assert "belongs to user 12345" in caplog.text


def test_what_we_make_no_one_else_may_write(tmp_path):
    before = os.umask(0)
    try:
        own_directory(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o755, 0o755]


@fault("receipt")
@pytest.mark.parametrize(
    "changes",
    [
        {"state": "perfect"},
        {"state": "first seen"},
        {"state": "first-seen", "seen": ""},
        {"seen": "yesterday"},
        {"source_size": "1"},
        {"state": ""},
        {"state": None},
        {"state": ["pinned"]},
        {"size": "big"},
        {"size": True},
        {"source": 5},
        {"sha256": None},
    ],
    ids=str,
)
def test_a_receipt_that_says_what_none_says(changes, own_machine):
    plant(own_machine, **changes)
    with pytest.raises(VerificationFailed, match="damaged"):
        verified(ROW, own_machine)


@fault("receipt")
def test_the_command_line_says_the_derived_state(own_machine):
    plant(own_machine, "pinned")
    assert command("verify", ROW.name).stdout.split()[:3] == ["ok", ROW.name, "vouched"]
    assert command("cache", "ls").stdout.split()[-1] == "vouched"
    assert json.loads(command("info", ROW.name, "--json").stdout)["cached"]["state"] == "vouched"
    weights_path(own_machine, ROW.name).with_suffix(".json").write_text('{"state": "pinned"}')
    assert "a receipt" in refused(1, "verify", ROW.name)


@fault("receipt")
def test_a_huge_sparse_file_is_judged_by_its_size(own_machine, monkeypatch):
    plant(own_machine)
    os.truncate(weights_path(own_machine, ROW.name), 1 << 40)
    monkeypatch.setattr("robust_zoo.weights.cache.read_hashed", lambda _: pytest.fail("it was read"))
    with pytest.raises(VerificationFailed) as error:
        verified(ROW, own_machine)
    assert error.value.actual == f"{1 << 40:,} bytes"


def test_a_bundle_is_judged_by_the_row(own_machine, tmp_path, monkeypatch):
    sha256 = plant(tmp_path / "there")
    found = verified(ROW, tmp_path / "there")
    bundle.pack(tmp_path / "x.tar", [(ROW, found)], lambda _: "")
    monkeypatch.setattr(bundle, "get", lambda _: replace(ROW, converted_sha256="0" * 64))
    [(_, outcome)] = bundle.unpack(tmp_path / "x.tar")
    assert isinstance(outcome, VerificationFailed) and "0" * 64 in outcome.expected and sha256 in outcome.actual
    assert not weights_path(own_machine, ROW.name).exists()


def test_a_bundle_of_vouched_weights_says_vouched(tmp_path):
    plant(tmp_path / "there", "pinned")
    bundle.pack(tmp_path / "x.tar", [(ROW, verified(ROW, tmp_path / "there"))], lambda _: "")
    with bundle.archive.opened(tmp_path / "x.tar") as opened:
        assert json.loads(opened.texts[f"weights/{ROW.name}.json"])["state"] == "vouched"


def test_what_converts_to_another_file_is_not_kept(hub, own_machine, tmp_path):
    checkpoints.save(tmp_path / ROW.file, "shufflenet")
    hub.files[ROW.file] = (tmp_path / ROW.file).read_bytes()
    with pytest.raises(VerificationFailed) as error:
        ensure(replace(ROW, converted_sha256="0" * 64), progress=False)
    assert error.value.expected.startswith("sha256 " + "0" * 64) and all(error.value.fields.values())
    assert not weights_path(own_machine, ROW.name).exists()
    found = error.value.actual.removeprefix("sha256 ")
    assert ensure(replace(ROW, converted_sha256=found), progress=False).state == "pinned"


def test_pin_prints_what_the_row_lacks(own_machine):
    sha256 = plant(own_machine)
    result = command("pin", ROW.name, "--offline")
    assert result.returncode == 0, result.stderr
    lines = tomllib.loads(result.stdout)
    assert lines == {"sha256": SOURCE, "converted_sha256": sha256} and result.stdout.startswith(f"# {ROW.name}\n")
    text = TOML.read_text(encoding="utf-8").replace(f'name = "{ROW.name}"\n', f'name = "{ROW.name}"\n{result.stdout}')
    row = parse(tomllib.loads(text)).checkpoints[ROW.name]
    assert verified(row, own_machine).state == "pinned"


@pytest.mark.parametrize(("said", "code"), [("vouched", 2), ("unverified", 3)])
def test_pin_takes_no_ones_word(said, code, own_machine):
    plant(own_machine, said)
    refused(code, "pin", ROW.name, "--offline", fields=4)


@pytest.mark.parametrize("value", ["5a" * 31, "5A" * 32, "", 5])
@pytest.mark.parametrize("key", ["sha256", "converted_sha256"])
def test_a_hash_of_a_row_is_64_digits(key, value):
    data = tomllib.loads(TOML.read_text(encoding="utf-8"))
    data["checkpoint"][0][key] = value
    with pytest.raises(Refused):
        parse(data)
    assert load_registry()


@fault("tensors")
@pytest.mark.parametrize("wrong", ["missing", "extra", "shape"])
def test_tensors_of_another_architecture_under_a_hash_that_fits(wrong, own_machine):
    """Nothing in a receipt shows it: the network itself says what it needs."""
    tensors = {name: value.clone() for name, value in checkpoints.network("shufflenet").state_dict().items()}
    if wrong == "missing":
        del tensors["fc.bias"]
    if wrong == "extra":
        tensors["fc.scale"] = torch.ones(1)
    if wrong == "shape":
        tensors["fc.weight"] = tensors["fc.weight"][:10].clone()
    plant(own_machine, tensors=tensors)
    with pytest.raises(VerificationFailed, match=f"{ROW.name}: not the tensors of shufflenet") as error:
        robust_zoo.create_model(ROW.name)
    assert "fc." in error.value.actual and all(error.value.fields.values())
