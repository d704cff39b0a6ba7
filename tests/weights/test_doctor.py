"""`robust-zoo doctor`: files of each kind, in each place, are told for what they are, with a command that helps."""

import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import checkpoints
import pytest
from fault_table import command, command_here, refused

from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import DATA
from robust_zoo.weights import doctor
from robust_zoo.weights.cache import weights_path
from robust_zoo.weights.ensure import ensure

ROW = get("shufflenet_l2_eps0")  # without a sha256 of its own
PINNED = get("resnet50_l2_eps3")
STANDARD, ROBUST = get("resnet18_x0_25_cifar10_l2_eps0"), get("resnet18_x0_25_cifar10_l2_eps0_5")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / ROW.file
    checkpoints.save(path, "shufflenet")
    return path.read_bytes()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """torch.hub's and Hugging Face's folders of this test's machine."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    snapshots = tmp_path / "hf" / "hub" / "models--madrylab--robust-imagenet-models" / "snapshots" / "3f04ac9"
    folders = {"torch": tmp_path / "torch" / "hub" / "checkpoints", "hf": snapshots, "given": tmp_path / "Downloads"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return folders


def flipped(archive):
    """One byte of its largest tensor is another."""
    data = bytearray(archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        data[max(file.infolist(), key=lambda entry: entry.file_size).header_offset + 200] ^= 1
    return bytes(data)


CONVERTED = "resnet50_l2_eps3.safetensors"
BUNDLED = (DATA / ROBUST.file).read_bytes()
# kind: file name, content (of a sound archive), status, what the detail says
PLANTED = {
    "page": (PINNED.file, lambda _: b"\n<!DOCTYPE html><html>Log in", "html", "web page"),
    "page in upstream's spelling": ("resnet18_linf_eps4.0.ckpt", lambda _: b"<html>", "html", "web page"),
    "pointer": (PINNED.file, lambda _: b"version https://git-lfs.github.com/spec/v1\noid", "pointer", "LFS"),
    "empty": (PINNED.file, lambda _: b"", "damaged", "neither"),
    "error message": (PINNED.file, lambda _: b'{"error": "Repository not found"}', "damaged", "neither"),
    "text": (PINNED.file, lambda _: b"Not Found", "damaged", "neither"),
    "cut": (ROW.file, lambda sound: sound[: len(sound) // 2], "truncated", "end of the archive"),
    "cut at the very end": (ROW.file, lambda sound: sound[:-1], "truncated", "end of the archive"),
    "cut, of known size": (ROBUST.file, lambda _: BUNDLED[:-1000], "truncated", f"of {len(BUNDLED):,} bytes"),
    "cut safetensors": (CONVERTED, lambda _: BUNDLED[:-1000], "truncated", "tensors that fill"),
    "cut header": (CONVERTED, lambda _: BUNDLED[:100], "truncated", "header"),
    "flipped bit": (ROW.file, flipped, "damaged", "checksum"),
    "flipped bit, bundled": (ROBUST.file, lambda _: BUNDLED[:-1] + b"\0", "wrong", ROBUST.sha256),
    "another's bytes": (PINNED.file, lambda sound: sound, "wrong", PINNED.sha256),
    "another's name": (STANDARD.file, lambda _: BUNDLED, "wrong", f"the file of {ROBUST.name}"),
    "whole": (ROW.file, lambda sound: sound, "unknown hash", "every weight twice"),
    "a browser's copy": ("shufflenet_l2_eps0 (1).ckpt", lambda sound: sound, "unknown hash", "every weight twice"),
    "dashes": ("shufflenet-l2-eps0.pt", lambda sound: sound, "unknown hash", "the registry has none"),
    "legacy": (ROW.file, lambda _: b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.xxx", "unknown hash", "has none"),
    "whole and pinned": (ROBUST.file, lambda _: BUNDLED, "good", "pinned"),
    "another's conversion": (CONVERTED, lambda _: BUNDLED, "wrong", ROBUST.name),
    "somebody's conversion": (CONVERTED, lambda _: BUNDLED[:-1] + b"\0", "unknown hash", "converted"),
}


def planted(kind, sound):
    name, content, status, detail = PLANTED[kind]
    return name, content(sound), status, detail


@pytest.mark.parametrize("kind", PLANTED)
def test_a_file_is_told_for_what_it_is(kind, sound, tmp_path, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a socket was opened"))
    name, content, status, detail = planted(kind, sound)
    (tmp_path / name).write_bytes(content)
    found = doctor.examine(tmp_path / name)
    assert (found.status, found.size) == (status, len(content)) and detail in found.detail
    assert (tmp_path / name).read_bytes() == content
    assert not found.fix if kind == "whole and pinned" else found.fix


@pytest.mark.parametrize("place", ["torch", "hf", "given"])
def test_every_place_is_looked_through(place, places, sound):
    page, good = places[place] / PINNED.file, places[place] / ROBUST.file
    shutil.copy(DATA / ROBUST.file, good)
    if place == "hf":  # a hub's snapshot is links to blobs
        blob = places[place] / "blob"
        blob.write_bytes(b"<html>")
        page.symlink_to(blob)
    else:
        page.write_bytes(b"<html>")
    (places[place] / "resnet50-0676ba61.pth").write_bytes(b"another project's weights")
    given = [places["given"]] if place == "given" else []
    result = command("doctor", "--json", *given)
    found = {Path(f["path"]).name: f["status"] for f in json.loads(result.stdout)}
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert found == {page.name: "html", good.name: "good"}


def test_our_own_cache_and_site_caches(places, own_machine, tmp_path, hub, sound, monkeypatch):
    hub.files[ROW.file] = sound
    ensure(ROW, progress=False)
    shutil.copytree(own_machine, tmp_path / "site")
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(tmp_path / "site"))
    path = weights_path(tmp_path / "site", ROW.name)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    (own_machine / "weights" / "gone_l2_eps3.safetensors").write_bytes(b"x")
    result = command("doctor", "--json")
    found = {f["path"]: f for f in json.loads(result.stdout)}
    assert result.returncode == 1
    assert found[str(weights_path(own_machine, ROW.name))]["status"] == "good"
    assert found[str(path)]["status"] == "damaged" and "sha256" in found[str(path)]["detail"]
    assert found[str(own_machine / "weights" / "gone_l2_eps3.safetensors")]["status"] == "unknown hash"
    assert len(found) == 3


def test_a_sound_machine_is_exit_0_and_says_so(places):
    result = command("doctor")
    assert (result.returncode, result.stdout) == (0, "") and "nothing of ours" in result.stderr


def run_fix(fix):
    """The command as the user would paste it: bash runs the line, and `robust-zoo`, at its end, is run here."""
    told = "import json, os, sys; print(json.dumps([os.environ.get('ROBUST_ZOO_PATH', ''), sys.argv[1:]]))"
    before, ours, words = fix.rpartition("robust-zoo ")
    script = f"{before}{sys.executable} -c {shlex.quote(told)} {words}" if ours else fix
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    if not ours:
        return done
    path, arguments = json.loads(done.stdout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_ZOO_PATH", path)
        patch.setattr("robust_zoo.weights.sources._unreachable", set())
        return command_here(*arguments)


@pytest.mark.parametrize("kind", ["page", "cut", "flipped bit", "a browser's copy", "whole"])
def test_the_fix_puts_it_right(kind, sound, hub, places, own_machine):
    hub.files[ROW.file] = sound
    name, content, _, _ = planted(kind, sound)
    path = places["torch"] / (name if kind != "page" else ROW.file)
    path.write_bytes(content)
    fix = doctor.examine(path).fix
    result = run_fix(fix)
    assert result.returncode == 0, result.stderr
    assert command("verify", ROW.name).returncode == 0
    taken_where_it_lies = kind in ("a browser's copy", "whole")
    assert hub.sent(ROW.file) == (0 if taken_where_it_lies else len(sound))
    assert path.exists() == taken_where_it_lies


def test_the_fix_of_a_wrong_name_and_of_a_hubs_link(places, tmp_path):
    wrong = places["given"] / STANDARD.file
    shutil.copy(DATA / ROBUST.file, wrong)
    assert run_fix(doctor.examine(wrong).fix).returncode == 0
    assert doctor.examine(places["given"] / ROBUST.file).status == "good" and not wrong.exists()
    blob, link = tmp_path / "blob", places["hf"] / PINNED.file
    blob.write_bytes(b"<html>")
    link.symlink_to(blob)
    run_fix(doctor.examine(link).fix)  # the download fails here, without a hub
    assert not link.is_symlink() and not blob.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(places):
    path = places["given"] / PINNED.file
    path.write_bytes(b"x")
    path.chmod(0)
    assert doctor.examine(path).status == "unreadable"


def test_what_is_not_there_or_not_ours(tmp_path, places):
    refused(2, "doctor", tmp_path / "nothing", fields=4)
    (places["given"] / "foreign.pt").write_bytes(b"PK\x03\x04 not ours")
    assert doctor.examine(places["given"] / "foreign.pt") is None
    assert command("doctor", places["given"]).returncode == 0


def test_hostile_pickles_are_not_opened(tmp_path):
    """A data.pkl that would run code, named like ours: looked at, not loaded."""
    canary = tmp_path / "canary"
    path = tmp_path / ROW.file
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", f"cos\nsystem\n(S'touch {canary}'\ntR.".encode() + b"attacker.model.")
    assert doctor.examine(path).status == "unknown hash" and not canary.exists()
