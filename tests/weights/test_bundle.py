"""Bundles: what was packed arrives bit by bit, offline, and no archive gets anything else into a cache."""

import hashlib
import io
import json
import random
import socket
import tarfile

import checkpoints
import pytest
import torch
from fault_table import command, command_here, fault, refused

from robust_zoo import create_model
from robust_zoo.cli.card import card_of
from robust_zoo.errors import Refused, UnknownCheckpoint, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.weights import bundle, manifest
from robust_zoo.weights.bundle import unpack
from robust_zoo.weights.cache import read_receipt, weights_path
from robust_zoo.weights.ensure import Weights, ensure

ROW = get("shufflenet_l2_eps0")  # the smallest, and without a sha256 of its own
PINNED = get("resnet18_l2_eps0")


def write(out, found):
    bundle.pack(out, found, card_of)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A connected machine's cache, with one checkpoint that a hub vouched for, and the bundle made of it."""
    from hub import Hub

    home = tmp_path_factory.mktemp("site")
    checkpoints.save(home / ROW.file, "shufflenet")
    with Hub() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", running.endpoint)
        running.files[ROW.file] = (home / ROW.file).read_bytes()
        weights = ensure(ROW, cache_dir=home / "cache", progress=False)
    write(home / "site.tar", [(ROW, weights)])
    return home


def members(path):
    with tarfile.open(path) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


def pack(path, entries, *, listed=None):
    """A tar file of (name or TarInfo, content) after a manifest of `listed`, or of all that are plain files."""
    files = {n: c for n, c in entries if isinstance(n, str)} if listed is None else listed
    hashes = {n: manifest.Entry(hashlib.sha256(c).hexdigest(), len(c)) for n, c in files.items()}
    with tarfile.open(path, "w") as tar:
        for name, content in [("manifest.json", manifest.render(hashes)), *entries]:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_weights_arrive_bit_by_bit_without_a_socket(site, own_machine, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a socket was opened"))
    [(name, got)] = unpack(site / "site.tar")
    assert (name, got.state) == (ROW.name, "vouched")
    assert got.path.read_bytes() == weights_path(site / "cache", ROW.name).read_bytes()
    there, here = read_receipt(site / "cache", ROW.name), read_receipt(own_machine, ROW.name)
    assert (there.state, here.state) == ("hub-declared", "vouched")
    assert (here.sha256, here.source_sha256) == (there.sha256, there.source_sha256)
    assert "site.tar" in here.source
    original = checkpoints.network("shufflenet")
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (create_model(ROW.name).eval()(images) - original(images)).abs().max() < 1e-5


def test_the_same_weights_give_the_same_bundle(site, tmp_path):
    weights = ensure(ROW, cache_dir=site / "cache", offline=True)
    write(tmp_path / "again.tar", [(ROW, weights)])
    assert (tmp_path / "again.tar").read_bytes() == (site / "site.tar").read_bytes()


def test_a_bundle_is_read_by_any_tar_and_holds_card_and_rows(site):
    files = {info.name: content for info, content in members(site / "site.tar")}
    assert next(iter(files)) == "manifest.json"
    listed = json.loads(files.pop("manifest.json"))["files"]
    assert {n: hashlib.sha256(c).hexdigest() for n, c in files.items()} == {n: e["sha256"] for n, e in listed.items()}
    assert set(files) == {
        "checkpoints.toml",
        *(f"{n}" for n in (f"weights/{ROW.name}.json", f"weights/{ROW.name}.safetensors", f"cards/{ROW.name}.md")),
    }
    assert ROW.name.encode() in files[f"cards/{ROW.name}.md"]


def test_the_command_line_packs_and_takes(site, own_machine, tmp_path):
    packed = command(
        "bundle", "shufflenet_l2_eps0", "-o", tmp_path / "x.tar", "--offline", "--cache-dir", site / "cache"
    )
    assert packed.returncode == 0 and packed.stdout.startswith(str(tmp_path / "x.tar")), packed.stderr
    taken = command_here("download", "--from-bundle", tmp_path / "x.tar", "--json")
    [found] = json.loads(taken.stdout)
    assert (taken.returncode, found["name"], found["status"]) == (0, ROW.name, "vouched")
    assert command("verify", ROW.name).stdout.split()[2] == "vouched"


def test_sound_weights_in_the_cache_stay_and_broken_ones_are_replaced(site, own_machine):
    pinned = ensure_like(site, own_machine, state="hub-declared")
    [(_, got)] = unpack(site / "site.tar")
    assert got.state == "hub-declared" and read_receipt(own_machine, ROW.name).state == "hub-declared"
    pinned.write_bytes(b"broken")
    [(_, got)] = unpack(site / "site.tar")
    assert got.state == "vouched" and got.path.stat().st_size > 1e6


def ensure_like(site, root, state):
    """A copy of the site's cache entry, under a receipt of that state."""
    path = weights_path(root, ROW.name)
    path.parent.mkdir(parents=True)
    source = weights_path(site / "cache", ROW.name)
    path.write_bytes(source.read_bytes())
    receipt = json.loads(source.with_suffix(".json").read_text()) | {"state": state}
    path.with_suffix(".json").write_text(json.dumps(receipt))
    return path


def test_what_was_unverified_stays_so(site, tmp_path, own_machine):
    ensure_like(site, tmp_path / "doubtful", "unverified")
    refused(3, "bundle", ROW.name, "-o", tmp_path / "x.tar", "--offline", "--cache-dir", tmp_path / "doubtful")
    assert not (tmp_path / "x.tar").exists()
    weights = ensure(ROW, cache_dir=tmp_path / "doubtful", offline=True, allow_unverified=True)
    write(tmp_path / "x.tar", [(ROW, weights)])
    [(_, got)] = unpack(tmp_path / "x.tar")
    assert got.state == "unverified"


def test_weights_that_change_while_they_are_packed_make_no_bundle(site, tmp_path):
    path = ensure_like(site, tmp_path / "cache", "pinned")
    weights = ensure(ROW, cache_dir=tmp_path / "cache", offline=True)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationFailed, match="changed"):
        write(tmp_path / "x.tar", [(ROW, weights)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]


@pytest.mark.parametrize("what", ["bundled only", "no directory", "unknown"])
def test_a_bundle_that_can_not_be_made(tmp_path, what):
    name, out, code = {
        "bundled only": ("*cifar10*", tmp_path / "x.tar", 2),
        "no directory": (ROW.name, tmp_path / "no" / "x.tar", 5),
        "unknown": ("resnet5_l2_eps3", tmp_path / "x.tar", 4),
    }[what]
    refused(code, "bundle", name, "-o", out, fields=4)
    assert not out.exists()


# --- What an archive may not do ------------------------------------------------------------------------------


def linked(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


WEIGHTS, RECEIPT = f"weights/{ROW.name}.safetensors", f"weights/{ROW.name}.json"
HOSTILE = {
    "climbs": [("../../evil.txt", b"x")],
    "absolute": [("/tmp/evil.txt", b"x")],
    "backslashes": [("weights\\..\\..\\evil", b"x")],
    "climbs under weights": [("weights/../../evil.safetensors", b"x")],
    "symbolic link": [(linked(WEIGHTS, tarfile.SYMTYPE, "/etc/passwd"), b"")],
    "hard link": [(linked(WEIGHTS, tarfile.LNKTYPE, "/etc/passwd"), b"")],
    "device": [(linked(WEIGHTS, tarfile.CHRTYPE, ""), b"")],
    "directory": [(linked("weights", tarfile.DIRTYPE, ""), b"")],
    "sparse": [(linked(WEIGHTS, tarfile.GNUTYPE_SPARSE, ""), b"")],
    "python": [("weights/setup.py", b"x")],
    "hidden": [("weights/.x.safetensors", b"x")],
    "twice": [("checkpoints.toml", b"x"), ("checkpoints.toml", b"x")],
    "no receipt": [(WEIGHTS, b"x")],
    "no weights": [(RECEIPT, b"{}")],
    "huge card": [("cards/x.md", b"x" * (1 << 20) + b"x")],
}


@fault("archive")
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(content, tmp_path, own_machine):
    path = pack(tmp_path / "evil.tar", content)
    before = sorted(p for p in tmp_path.rglob("*"))
    assert "evil.tar" in refused(6, "download", "--from-bundle", path)
    assert sorted(p for p in tmp_path.rglob("*") if "__pycache__" not in str(p)) == before


def test_the_manifest_and_the_archive_must_agree(tmp_path):
    text = [("checkpoints.toml", b"x")]
    for listed in ({}, {"checkpoints.toml": b"xy"}, {"checkpoints.toml": b"x", "cards/x.md": b"y"}):
        with pytest.raises(Refused, match="not a bundle"):
            list(unpack(pack(tmp_path / "x.tar", text, listed=listed)))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"x" * 2000, b"\0" * 10240], ids=["empty", "zip", "text", "zeros"]
)
def test_what_is_no_archive_at_all(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    refused(6, "download", "--from-bundle", tmp_path / "x.tar")


def test_no_such_bundle(tmp_path):
    refused(2, "download", "--from-bundle", tmp_path / "x.tar")
    refused(2, "download", "--from-bundle", tmp_path / "x.tar", ROW.name, fields=3)


def changed(site, path, **replaced):
    """The site's bundle with other content under some names; the manifest fits it."""
    texts = {info.name: content for info, content in members(site / "site.tar") if info.name != "manifest.json"}
    for name, content in replaced.values():
        texts[name] = content
    return pack(path, [*texts.items()])


def only(path):
    [(name, outcome)] = unpack(path)
    return name, outcome


@fault("other model")
def test_another_checkpoints_weights_under_hashes_that_fit(site, tmp_path, own_machine):
    """The same architecture, and everything in the bundle agrees: the file itself says what it is."""
    receipt = json.loads(weights_path(site / "cache", ROW.name).with_suffix(".json").read_text())
    other = get("shufflenet_l2_eps3")
    content = weights_path(site / "cache", ROW.name).read_bytes()
    told = json.dumps(receipt | {"name": other.name, "source_file": other.file}).encode()
    path = pack(
        tmp_path / "x.tar", [(f"weights/{other.name}.json", told), (f"weights/{other.name}.safetensors", content)]
    )
    name, outcome = only(path)
    assert name == other.name and isinstance(outcome, VerificationFailed) and outcome.exit_code == 1
    assert not list(own_machine.glob("weights/*"))


def test_broken_contents_under_hashes_that_fit(site, tmp_path, own_machine):
    """NaN, other bytes than the row pins, receipts that are none."""
    content = bytearray(weights_path(site / "cache", ROW.name).read_bytes())
    content[-4 << 10 : -3 << 10] = b"\xff" * 1024  # NaN in the last tensors
    receipt = weights_path(site / "cache", ROW.name).with_suffix(".json").read_bytes()
    cases = [
        {"w": (WEIGHTS, bytes(content)), "r": (RECEIPT, receipt)},
        {"w": (WEIGHTS, b"\0" * 100)},
        {"r": (RECEIPT, b"[]")},
        {"r": (RECEIPT, b"\xff")},
        {"r": (RECEIPT, receipt.replace(ROW.name.encode(), b"other"))},
    ]
    for case in cases:
        outcome = only(changed(site, tmp_path / "x.tar", **case))[1]
        assert isinstance(outcome, (VerificationFailed, Refused)), case.keys()
        assert not list(own_machine.glob("weights/*")) and not list(own_machine.glob("downloads/*.part"))


def test_a_pinned_row_takes_only_what_was_made_of_its_bytes(site, tmp_path):
    receipt = json.loads(weights_path(site / "cache", ROW.name).with_suffix(".json").read_text())
    told = json.dumps(receipt | {"name": PINNED.name}).encode()
    path = pack(
        tmp_path / "x.tar", [(f"weights/{PINNED.name}.json", told), (f"weights/{PINNED.name}.safetensors", b"x")]
    )
    outcome = only(path)[1]
    assert isinstance(outcome, VerificationFailed) and PINNED.sha256 in str(outcome)


def test_a_bundle_of_a_newer_registry_gives_what_is_known(site, tmp_path, own_machine):
    texts = [(info.name, content) for info, content in members(site / "site.tar")[1:]]
    unknown = [("weights/resnet999_l2_eps3.json", b"{}"), ("weights/resnet999_l2_eps3.safetensors", b"x")]
    outcomes = dict(unpack(pack(tmp_path / "x.tar", [*unknown, *texts])))
    assert isinstance(outcomes["resnet999_l2_eps3"], UnknownCheckpoint)
    assert isinstance(outcomes[ROW.name], Weights)
    assert command_here("download", "--from-bundle", tmp_path / "x.tar").returncode == 4


def test_cut_and_mutated_bundles_never_give_other_bytes(site, tmp_path, own_machine, monkeypatch):
    """200 mutations of one byte, in headers and texts mostly, and 20 cuts: an error, or what was packed."""
    good = (site / "site.tar").read_bytes()
    sha256 = read_receipt(site / "cache", ROW.name).sha256
    taken = []

    def install(row, fetched, root, *, promised):  # the contained check has its own tests, and takes seconds
        taken.append((row.name, hashlib.sha256(fetched.path.read_bytes()).hexdigest(), promised))
        return Weights(fetched.path, promised, fetched.state, fetched.source, bytearray())

    monkeypatch.setattr(bundle, "convert_into", install)
    draw = random.Random(0)
    refusals = 0
    for case in range(220):
        data = bytearray(good)
        if case < 200:
            data[draw.randrange(50_000 if case % 8 else len(good))] ^= 1 << draw.randrange(8)
        else:
            del data[draw.randrange(len(good) - 10_240) :]
        (tmp_path / "x.tar").write_bytes(data)
        try:
            outcomes = [outcome for _, outcome in unpack(tmp_path / "x.tar")]
        except Refused:
            refusals += 1
        else:
            refusals += not any(isinstance(outcome, Weights) for outcome in outcomes)
    assert set(taken) == {(ROW.name, sha256, sha256)}
    assert refusals >= 200


def test_a_signed_bundle_is_taken_from_its_signer_alone(site, own_machine, tmp_path):
    from test_manifest import sign

    [(_, listed), *_] = members(site / "site.tar")
    (tmp_path / "manifest.json").write_bytes(listed)
    public, signature = sign(tmp_path / "manifest.json", tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = sign(tmp_path / "manifest.json", tmp_path / "other")
    how = ("download", "--from-bundle", site / "site.tar", "--signature", signature, "--public-key")
    assert "does not hold" in refused(1, *how, other)
    changed = [(info.name, content) for info, content in members(site / "site.tar")[1:]]
    changed[-1] = (changed[-1][0], changed[-1][1][:-1] + bytes([changed[-1][1][-1] ^ 1]))
    forged = pack(tmp_path / "forged.tar", changed)
    found = command(*how[:2], forged, *how[3:], public)
    assert found.returncode == 1 and "does not hold" in found.stderr, found
    assert not weights_path(own_machine, ROW.name).exists()
    assert command_here(*how, public).returncode == 0
    assert weights_path(own_machine, ROW.name).exists()
    refused(2, "download", ROW.name, "--signature", signature, "--public-key", public, fields=3)
    refused(2, "download", "--from-bundle", site / "site.tar", "--public-key", public, fields=3)
