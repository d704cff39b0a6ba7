"""Weights without a public hash: refused, noted when they are asked for, and any other file later is an alarm."""

import hashlib
import re
import shutil
import tomllib
from dataclasses import replace
from datetime import UTC, datetime

import checkpoints
import pytest
from fault_table import command_here, fault, refused

import robust_zoo
from robust_zoo.errors import Refused, Unavailable, UsageError, VerificationFailed
from robust_zoo.registry import load
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get
from robust_zoo.weights import bundle, first_seen, manifest
from robust_zoo.weights.cache import leftovers, read_receipt, weights_path
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.first_seen import OtherFile
from robust_zoo.weights.verify import cached, verified

NAME = "shufflenet_l2_eps0"  # the smallest, and without a sha256 of its own
HUB = re.compile(r'sources = \["hf:madrylab/robust-imagenet-models@[^"]*"\]')


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files that may be the checkpoint's: folders that have it, sha256, bytes."""
    found = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"files{seed}")
        checkpoints.save(folder / get(NAME).file, "shufflenet", seed=seed)
        content = (folder / get(NAME).file).read_bytes()
        found.append((folder, hashlib.sha256(content).hexdigest(), len(content)))
    return found


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    """The registry with no place on a hub: nobody says in public what the file is."""
    path = tmp_path_factory.mktemp("registry") / "checkpoints.toml"
    text, n = HUB.subn("sources = []", load.TOML.read_text(encoding="utf-8"), count=1)
    assert n == 1
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "TOML", path)
        load_registry.cache_clear()
        yield get(NAME)
    load_registry.cache_clear()


@pytest.fixture(scope="module")
def converted(row, files, tmp_path_factory):
    """Caches of two users, who took one of the files each."""
    roots = []
    for folder, _, _ in files:
        roots.append(tmp_path_factory.mktemp("user"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ROBUST_ZOO_PATH", str(folder))
            weights = ensure(row, cache_dir=roots[-1], offline=True, allow_unverified=True)
        assert weights.state == "first-seen"
    return roots


@pytest.fixture
def own(converted, own_machine):
    """This user's cache, with the first file."""
    shutil.copytree(converted[0], own_machine)
    return own_machine


def is_an_alarm(error, files):
    """Both hashes, both days, both addresses, and what to do."""
    today = datetime.now(UTC).date().isoformat()
    assert f"sha256 {files[0][1]}, first seen on {today} from {files[0][0]}" in error.expected
    assert files[1][1] in error.actual and f", on {today} from " in error.actual
    assert error.exit_code == 1 and all(error.fields.values()) and "--allow-unverified" in error.next


def test_it_is_refused_until_it_is_asked_for_and_then_needs_no_flag(row, files, own_machine, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(files[0][0]))
    monkeypatch.setenv("ROBUST_ZOO_OFFLINE", "1")
    with pytest.raises(Unavailable, match="allow-unverified"):
        robust_zoo.create_model(NAME)
    assert "--allow-unverified" in refused(3, "download", NAME, run=command_here)
    result = command_here("download", NAME, "--allow-unverified")
    assert result.returncode == 0 and result.stdout.split()[:2] == [NAME, "first-seen"], result.stderr
    today = datetime.now(UTC).date().isoformat()
    lines = tomllib.loads("\n".join(line for line in result.stderr.splitlines() if " = " in line))
    said = f"recorded by robust_zoo on {today} from {files[0][0] / row.file}"
    assert lines == {"sha256": files[0][1], "size": files[0][2], "sha256_from": said}

    monkeypatch.delenv("ROBUST_ZOO_PATH")
    assert robust_zoo.create_model(NAME) is not None
    assert command_here("verify", NAME).stdout.split()[:3] == ["ok", NAME, "first-seen"]
    assert f"{today} from {files[0][0]}" in command_here("info", NAME).stdout
    assert "first-seen" in command_here("cache", "ls").stdout
    pinned = tomllib.loads(command_here("pin", NAME, "--offline").stdout)
    assert pinned == lines | {"converted_sha256": read_receipt(own_machine, NAME).sha256}


@fault("first seen")
def test_an_address_is_noted_without_its_secrets_and_the_alarm_names_both(row, files, hub, own_machine, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror.replace("http://", "http://me:secret@") + "?token=abc")
    hub.files[row.file] = (files[0][0] / row.file).read_bytes()
    assert ensure(row, allow_unverified=True, progress=False).state == "first-seen"
    noted = weights_path(own_machine, NAME).with_suffix(".json").read_text()
    assert "secret" not in noted and "abc" not in noted and f"{hub.mirror}/{row.file}" in noted
    weights_path(own_machine, NAME).unlink()
    assert weights_path(own_machine, NAME).with_suffix(".json") not in leftovers(own_machine, {NAME})
    assert ensure(row, progress=False).state == "first-seen"  # the same bytes: no flag
    weights_path(own_machine, NAME).unlink()
    hub.files[row.file] = (files[1][0] / row.file).read_bytes() + b"\0"  # and of another size
    for asked in (False, True):
        with pytest.raises(OtherFile) as raised:
            ensure(row, allow_unverified=asked, progress=False)
        changed = hashlib.sha256(hub.files[row.file]).hexdigest()
        assert files[0][1] in raised.value.expected and changed in raised.value.actual
        assert hub.mirror in raised.value.actual and "secret" not in str(raised.value)
    assert not weights_path(own_machine, NAME).exists()


@fault("first seen")
def test_another_file_on_a_disk_is_an_alarm(row, files, own, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(files[1][0]))
    weights_path(own, NAME).unlink()
    for asked in (False, True):
        with pytest.raises(OtherFile) as raised:
            ensure(row, offline=True, allow_unverified=asked)
        is_an_alarm(raised.value, files)


@fault("first seen")
def test_another_file_in_a_sites_cache_is_an_alarm(row, files, own, converted, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(converted[1]))
    text = refused(1, "verify", NAME, run=command_here)
    assert files[0][1] in text and files[1][1] in text
    assert "wrong" in command_here("doctor").stdout
    weights_path(own, NAME).unlink()
    for asked in (False, True):
        with pytest.raises(OtherFile) as raised:
            ensure(row, offline=True, allow_unverified=asked)
        is_an_alarm(raised.value, files)
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(converted[0]))  # the same file, whoever converted it
    assert ensure(row, offline=True).state == "first-seen"


@fault("first seen")
def test_a_site_that_says_the_same_of_other_bytes_is_an_alarm(row, files, own, converted, tmp_path, monkeypatch):
    """Its receipt claims our source; its file was converted of another, and says so of itself in part only."""
    site = shutil.copytree(converted[1], tmp_path / "site")
    path = weights_path(site, NAME)
    path.write_bytes(path.read_bytes().replace(files[1][1].encode(), files[0][1].encode()))
    text = path.with_suffix(".json").read_text().replace(files[1][1], files[0][1])
    forged = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(text.replace(read_receipt(converted[1], NAME).sha256, forged))
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(site))
    weights_path(own, NAME).unlink()
    with pytest.raises(OtherFile) as raised:
        ensure(row, offline=True, allow_unverified=True)
    assert forged in raised.value.actual and read_receipt(own, NAME).sha256 in raised.value.expected


def test_a_sites_copy_is_unverified_until_it_is_asked_for(row, files, converted, own_machine, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(converted[0]))
    with pytest.raises(Unavailable):
        ensure(row, offline=True)
    assert ensure(row, offline=True, allow_unverified=True).path == weights_path(converted[0], NAME)
    assert ensure(row, offline=True).state == "first-seen"
    refused(2, "pin", NAME, "--offline", fields=5, run=command_here)  # the file itself was not seen
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(converted[1]))
    with pytest.raises(OtherFile) as raised:
        ensure(row, offline=True, allow_unverified=True)
    assert str(converted[0]) in raised.value.expected and str(converted[1]) in raised.value.actual


def test_a_cache_that_others_may_write_notes_nothing(row, own):
    own.chmod(0o777)
    assert verified(row, own).state == "unverified" and first_seen.noted(row, own) is None
    assert cached(row, (own,), allow_unverified=False) is None


@fault("first seen")
def test_a_bundle_hands_it_over_and_another_is_an_alarm(row, files, converted, own_machine, tmp_path):
    for user, root in enumerate(converted):
        bundle.pack(tmp_path / f"{user}.tar", [(row, verified(row, root))], lambda _: "")
    with bundle.archive.opened(tmp_path / "0.tar") as opened:
        assert '"state": "unverified"' in opened.texts[f"weights/{NAME}.json"].decode()
    result = command_here("download", "--from-bundle", tmp_path / "0.tar")
    assert result.stdout.split()[:2] == [NAME, "unverified"] and "--allow-unverified" in result.stderr
    with pytest.raises(Unavailable):
        ensure(row, offline=True)
    assert ensure(row, offline=True, allow_unverified=True).state == "first-seen"
    assert ensure(row, offline=True).state == "first-seen"
    for gone in (False, True):
        if gone:
            weights_path(own_machine, NAME).unlink()
        [(_, outcome)] = bundle.unpack(tmp_path / "1.tar")
        assert isinstance(outcome, OtherFile)
        assert files[0][1] in outcome.expected and files[1][1] in outcome.actual
    [(_, outcome)] = bundle.unpack(tmp_path / "0.tar")
    assert outcome.state == "first-seen"


def test_a_row_that_is_pinned_later_decides(row, files, own):
    assert verified(replace(row, sha256=files[0][1]), own).state == "pinned"
    with pytest.raises(VerificationFailed) as raised:
        verified(replace(row, sha256=files[1][1]), own)
    assert files[1][1] in raised.value.expected
    assert files[0][1] in raised.value.actual and "first seen on" in raised.value.actual


@fault("first seen")
def test_another_file_is_not_converted_under_the_name(row, files, own, tmp_path):
    out = tmp_path / "x.safetensors"
    text = refused(1, "convert", files[1][0] / row.file, "--name", NAME, "-o", out, run=command_here)
    assert files[0][1] in text and files[1][1] in text and not out.exists()


@fault("first seen")
def test_two_files_at_once_are_not_both_first(row, files, own, tmp_path):
    """A process that fetched another file while this one was stored does not overwrite it."""
    from robust_zoo.weights.ensure import convert_into
    from robust_zoo.weights.sources import Fetched

    before = weights_path(own, NAME).read_bytes()
    late = Fetched(files[1][0] / row.file, files[1][1], "first-seen", str(files[1][0]), temporary=False)
    with pytest.raises(OtherFile) as raised:
        convert_into(row, late, own)
    is_an_alarm(raised.value, files)
    assert weights_path(own, NAME).read_bytes() == before


def test_weights_of_unknown_licence_stay(row, own, tmp_path, monkeypatch):
    closed = replace(row, licence="unknown", licence_from="the authors, who name none")
    with pytest.raises(UsageError, match="cannot be passed on") as raised:
        bundle.pack(tmp_path / "x.tar", [(closed, verified(row, own))], lambda _: "")
    assert "the authors, who name none" in raised.value.actual and NAME in raised.value.model
    assert all(raised.value.fields.values()) and not (tmp_path / "x.tar").exists()
    unknown = next(c for c in load_registry().checkpoints.values() if c.licence == "unknown")
    text = refused(2, "bundle", NAME, unknown.name, "-o", tmp_path / "x.tar", "--offline", run=command_here)
    assert unknown.name in text and unknown.licence_from in text and not (tmp_path / "x.tar").exists()


def test_the_manifest_says_which_licences_are_unknown(row, monkeypatch):
    closed = replace(row, licence="unknown", sha256="5a" * 32)
    monkeypatch.setattr(manifest, "load_registry", lambda: replace(load_registry(), checkpoints={NAME: closed}))
    entries = manifest.parse(manifest.render(manifest.installed()), "here")
    assert {name: entry.licence for name, entry in entries.items() if entry.licence} == {
        f"source/{row.file}": "unknown"
    }
    text = manifest.render(entries).replace(b'"unknown"', b'"none"')
    with pytest.raises(Refused):
        manifest.parse(text, "here")
