"""From a name to logits: empty cache, stand-in hub, conversion, cache, offline; and what must never pass."""

import fcntl
import hashlib
import os
import socket
import subprocess
from dataclasses import replace

import checkpoints
import pytest
import torch
from arrivals import receipt_in

import robust_zoo
from robust_zoo.errors import Refused, StorageError, Unavailable, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights import cache
from robust_zoo.weights.ensure import ensure, provenance
from robust_zoo.weights.safetensors_file import read_header

ROW = get("shufflenet_l2_eps0")  # small, and one of the thirty whose hash only the hub declares


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A checkpoint in upstream's format, and the network in it."""
    path = tmp_path_factory.mktemp("sound") / "a.ckpt"
    return checkpoints.save(path, "shufflenet"), path.read_bytes()


@pytest.fixture(scope="module")
def converted(sound, tmp_path_factory):
    """A cache that holds ROW's weights, made once; tests copy it."""
    path = tmp_path_factory.mktemp("converted")
    (path / "site").mkdir()
    (path / "site" / ROW.file).write_bytes(sound[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_ZOO_PATH", str(path / "site"))
        ensure(ROW, cache_dir=path / "cache", offline=True, allow_unverified=True)
    return path / "cache"


@pytest.fixture
def cached(converted, own_machine):
    """This test's own cache, with ROW's weights and a receipt that says hub-declared."""
    subprocess.run(["cp", "-r", str(converted), str(own_machine)], check=True)
    receipt = replace(cache.read_receipt(own_machine, ROW.name), state="hub-declared")
    path = cache.weights_path(own_machine, ROW.name)
    kept = path.rename(path.with_suffix(".moving"))
    cache.store(kept, receipt, own_machine)
    return own_machine


def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_from_an_empty_cache_to_logits_then_offline(hub, sound, own_machine, monkeypatch):
    network, content = sound
    hub.files[ROW.file] = content
    model = robust_zoo.create_model(ROW.name).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), network(images))
    receipt = cache.read_receipt(own_machine, ROW.name)
    assert (receipt.state, receipt.source_sha256) == ("hub-declared", hashlib.sha256(content).hexdigest())
    assert receipt.revision == hub.revision and receipt.source.startswith(hub.endpoint)
    header = read_header(cache.weights_path(own_machine, ROW.name))
    assert (header["name"], header["norm"], header["eps"]) == (ROW.name, "l2", "0.0")
    assert header["source_sha256"] == receipt.source_sha256 and header["revision"] == hub.revision
    assert not list((own_machine / "downloads").glob("*.part"))

    asked = len(hub.requests)
    monkeypatch.setenv("ROBUST_ZOO_OFFLINE", "1")
    no_network(monkeypatch)
    again = robust_zoo.create_model(ROW.name).eval()
    with torch.no_grad():
        assert torch.equal(again(images), network(images))
    assert len(hub.requests) == asked


def test_a_pinned_row_refuses_what_the_stand_in_serves(hub, sound, own_machine):
    row = get("resnet50_l2_eps3")
    hub.files[row.file] = sound[1]
    with pytest.raises(VerificationFailed) as error:
        ensure(row, progress=False)
    assert row.sha256 in error.value.expected
    assert hashlib.sha256(sound[1]).hexdigest() in error.value.actual
    assert error.value.exit_code == 1 and all(error.value.fields.values())
    assert nothing_kept(own_machine)


def nothing_kept(root):
    return [p for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"] == []


def declared_by_the_hub(content: bytes, hub) -> Checkpoint:
    hub.files[ROW.file] = content
    return ROW


def _nan(network):
    state = {k: v.clone() for k, v in network.state_dict().items()}
    state["fc.bias"][0] = float("nan")
    return checkpoints.checkpoint(state)


FAULTS = {
    "code": (lambda network, canary: {"model": _Payload(canary)}, Refused, 6),
    "nan": (lambda network, canary: _nan(network), VerificationFailed, 1),
    "another model": (lambda network, canary: checkpoints.checkpoint({"w": torch.ones(3)}), VerificationFailed, 1),
}


class _Payload:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_contents_with_the_declared_hash_are_refused_and_not_cached(hub, sound, own_machine, tmp_path, fault):
    make, kind, code = FAULTS[fault]
    torch.save(make(sound[0], tmp_path / "canary"), tmp_path / "bad.ckpt")
    row = declared_by_the_hub((tmp_path / "bad.ckpt").read_bytes(), hub)
    with pytest.raises(kind) as error:
        ensure(row, progress=False)
    assert error.value.exit_code == code and all(error.value.fields.values())
    assert not (tmp_path / "canary").exists()
    assert nothing_kept(own_machine)


@pytest.mark.parametrize("kind", ["flip", "swap", "html", "404"])
def test_bad_transfers_leave_nothing(hub, sound, own_machine, kind):
    row = declared_by_the_hub(sound[1], hub)
    hub.fail(ROW.file, kind, times=100)
    with pytest.raises((VerificationFailed, Unavailable)) as error:
        ensure(row, progress=False)
    assert all(error.value.fields.values())
    assert nothing_kept(own_machine)


def test_a_cached_file_is_verified_before_use(cached):
    found = ensure(ROW, offline=True)
    assert (found.state, found.path) == ("hub-declared", cache.weights_path(cached, ROW.name))


@pytest.mark.parametrize("position", [0.0, 0.001, 0.3, 0.99])
def test_a_damaged_cache_is_refused_offline(cached, monkeypatch, position):
    path = cache.weights_path(cached, ROW.name)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    no_network(monkeypatch)
    with pytest.raises(VerificationFailed, match="damaged") as error:
        ensure(ROW, offline=True)
    assert all(error.value.fields.values()) and error.value.exit_code == 1


def test_a_damaged_cache_heals_online(cached, hub, sound):
    path = cache.weights_path(cached, ROW.name)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    hub.files[ROW.file] = sound[1]
    assert ensure(ROW, progress=False).path.read_bytes() == good
    assert path.with_suffix(".corrupt").exists()


def test_receipts_of_others_and_lost_receipts_are_refused(cached):
    path = cache.weights_path(cached, ROW.name)
    other = get("shufflenet_l2_eps3")
    for suffix in (".safetensors", ".json"):
        path.with_suffix(suffix).rename(cache.weights_path(cached, other.name).with_suffix(suffix))
    with pytest.raises(VerificationFailed, match="receipt"):  # eps 0's weights served as eps 3's
        ensure(other, offline=True)
    cache.weights_path(cached, other.name).with_suffix(".json").unlink()
    with pytest.raises(VerificationFailed, match="receipt"):
        ensure(other, offline=True)


def test_a_row_that_was_pinned_since_is_checked_against_the_pin(cached):
    pinned = replace(ROW, sha256="0" * 64)
    with pytest.raises(VerificationFailed, match="made of"):
        receipt_in(pinned, cached)


def test_unverified_weights_are_used_only_when_asked_for(converted, own_machine):
    subprocess.run(["cp", "-r", str(converted), str(own_machine)], check=True)
    with pytest.raises(Unavailable):
        ensure(ROW, offline=True)
    assert ensure(ROW, offline=True, allow_unverified=True).state == "unverified"


def test_a_site_cache_is_used_and_never_written(converted, cached, tmp_path, monkeypatch):
    before = sorted((p, p.stat().st_mtime_ns) for p in cached.rglob("*"))
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(cached))
    own = tmp_path / "own"
    assert ensure(ROW, cache_dir=own, offline=True).path == cache.weights_path(cached, ROW.name)
    assert sorted((p, p.stat().st_mtime_ns) for p in cached.rglob("*")) == before
    assert not own.exists()


def test_a_link_at_the_target_is_replaced_not_followed(converted, own_machine, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    target = cache.weights_path(own_machine, ROW.name)
    target.parent.mkdir(parents=True)
    target.symlink_to(victim)
    file = tmp_path / "new.tmp"
    file.write_bytes(cache.weights_path(converted, ROW.name).read_bytes())
    cache.store(file, cache.read_receipt(converted, ROW.name), own_machine)
    assert victim.read_text() == "precious" and not target.is_symlink()


def test_an_unwritable_cache_is_a_storage_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StorageError, match="ROBUST_ZOO_CACHE") as error:
        ensure(ROW, cache_dir=blocked, offline=True)
    assert error.value.exit_code == 5


def test_without_a_working_lock_it_is_still_right(hub, sound, own_machine, monkeypatch):
    hub.files[ROW.file] = sound[1]
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # it says yes to everyone
    assert ensure(ROW, progress=False).state == "hub-declared"
    assert not list((own_machine / "downloads").glob("*.part"))
    monkeypatch.setattr("robust_zoo.weights.ensure.cached", lambda *_, **__: None)  # it came a moment after we looked
    path = ensure(ROW, progress=False).path
    assert not path.with_suffix(".corrupt").exists()  # what another process may be reading stays under its name


def test_cache_root(tmp_path, monkeypatch):
    assert cache.cache_root(tmp_path / "x") == tmp_path / "x"
    monkeypatch.setenv("ROBUST_ZOO_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_root().is_relative_to(tmp_path / "xdg")


def test_leftovers_and_entries(cached):
    folder = cache.weights_path(cached, ROW.name).parent
    for name in (".a.123.tmp", "shufflenet_l2_eps3.corrupt", "unknown_model.safetensors", "alone.json"):
        (folder / name).write_bytes(b"x")
    (cached / "downloads" / "x.part").write_bytes(b"x")
    assert cache.cached_names(cached) == [ROW.name, "unknown_model"]
    found = {p.name for p in cache.leftovers(cached, set(robust_zoo.list_models()))}
    assert found >= {".a.123.tmp", "shufflenet_l2_eps3.corrupt", "unknown_model.safetensors", "alone.json", "x.part"}
    assert f"{ROW.name}.safetensors" not in found and f"{ROW.name}.json" not in found


def test_provenance_depends_on_row_and_source_only():
    assert provenance(ROW, "a" * 64) == provenance(ROW, "a" * 64)
    assert all(isinstance(v, str) for v in provenance(ROW, "a" * 64).values())
