"""Published safetensors go before the .ckpt: half the bytes, no pickle, pinned; what they must say, and what if not."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import checkpoints
import pytest
import shared_rows
import torch
from fault_table import fault
from test_weights import no_network, nothing_kept
from verbs import run_to

import robust_zoo
from robust_zoo.cards.card import card as render
from robust_zoo.errors import Refused, Unavailable, VerificationFailed
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.places import place
from robust_zoo.registry.published import FILE, Published
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.export import as_trained
from robust_zoo.training.recipes import recipe_for
from robust_zoo.weights import bundle, cache, convert, manifest
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.published import header_digest
from robust_zoo.weights.receipts import Receipt
from robust_zoo.weights.safetensors_file import header_of, tensors_of, write_safetensors
from robust_zoo.weights.sources import Source, fetch, sources_for
from robust_zoo.weights.verify import provenance

pytestmark = pytest.mark.usefixtures("impatient")
ROW = get("shufflenet_l2_eps0")  # its sha256 is what the hub declares
REVISION = "1f" * 20
HASHLESS = replace(ROW, sources=(place(shared_rows.DRIVE),))  # nobody has published a hash of its file


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A source file, and the network in it."""
    path = tmp_path_factory.mktemp("sound") / "a.ckpt"
    return checkpoints.save(path, "shufflenet"), path.read_bytes()


def converted_by(row: Checkpoint, content: bytes, folder) -> bytes:
    (folder / row.file).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_ZOO_PATH", str(folder))
        return bytes(ensure(row, cache_dir=folder / "cache", offline=True, allow_unverified=True).content)


@pytest.fixture(scope="module")
def content(sound, tmp_path_factory):
    """What ROW's file converts to, which is what `robust-zoo publish` uploads."""
    return converted_by(ROW, sound[1], tmp_path_factory.mktemp("published"))


def published(content: bytes, row: Checkpoint = ROW) -> Checkpoint:
    return row.as_published(told(content, row))


def told(content: bytes, row: Checkpoint = ROW) -> Published:
    sha256 = hashlib.sha256(content).hexdigest()
    return Published(f"robust-zoo/{row.name}", REVISION, sha256, len(content), header_digest(row))


@pytest.fixture
def row(hub, content, sound):
    """ROW, published; the hub has both files."""
    hub.files |= {FILE: content, ROW.file: sound[1]}
    return published(content)


def asked_for(hub):
    return {request.file for request in hub.requests}


# --- What is gained ------------------------------------------------------------------------------------------


def test_half_the_bytes_no_pickle_and_pinned(hub, row, sound, content, own_machine, monkeypatch):
    read = []
    ask = convert.ask
    monkeypatch.setattr(
        convert, "ask", lambda *a, source, **k: read.append(source.read_bytes()) or ask(*a, source=source, **k)
    )
    weights = ensure(row, progress=False)
    assert (weights.state, bytes(weights.content)) == ("pinned", content)
    assert asked_for(hub) == {FILE} and hub.sent(FILE) == len(content) < len(sound[1]) / 2
    assert read == [content]  # all that a child read: no pickle
    receipt = cache.read_receipt(own_machine, ROW.name)
    assert receipt.source_sha256 == hashlib.sha256(sound[1]).hexdigest() and receipt.source.startswith(hub.endpoint)
    assert not list((own_machine / "downloads").glob("*.part"))
    no_network(monkeypatch)
    images = torch.rand(2, 3, 64, 64)
    model = robust_zoo.create_model(row.name, weights=ensure(row, offline=True)).eval()
    with torch.no_grad():
        assert torch.equal(model(images), sound[0](images))


def test_they_come_after_what_lies_here_and_before_all_else(tmp_path, content, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    row = published(content)
    sources = sources_for(row, directories=[tmp_path], extra_mirrors=["https://a"], offline=False)
    assert sources == (
        Source("local", str(tmp_path / f"{row.name}.safetensors")),
        Source("local", str(tmp_path / row.file)),
        Source("published", f"http://hub.invalid/robust-zoo/{row.name}/resolve/{REVISION}/{FILE}"),
        Source("hub", f"http://hub.invalid/{row.hub.repo}/resolve/{row.hub.revision}/{row.file}"),
        Source("mirror", f"https://a/{row.name}.safetensors"),
        Source("mirror", f"https://a/{row.file}"),
    )
    known = {source.location: source.sha256 for source in sources}
    assert [sha256 for sha256 in known.values() if sha256] == [row.published.sha256] * 3
    assert sources_for(row, directories=[tmp_path], extra_mirrors=["https://a"], offline=True) == sources[:2]


def test_many_at_once_make_one_transfer(hub, row, content):
    with ThreadPoolExecutor(4) as pool:  # each opens the lock's file for itself, as processes do
        found = list(pool.map(lambda _: ensure(row, progress=False).sha256, range(4)))
    assert found == [row.published.sha256] * 4 and hub.sent(FILE) == len(content)


@pytest.mark.parametrize("where", ["a directory", "a mirror"])
def test_whoever_has_the_file_may_serve_it(hub, row, content, where, tmp_path, monkeypatch):
    """Under NAME.safetensors, as a cache's weights/ has it, with no receipt beside it."""
    hub.files = {f"{row.name}.safetensors": content}
    if where == "a mirror":
        monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    else:
        (tmp_path / f"{row.name}.safetensors").write_bytes(content)
        monkeypatch.setenv("ROBUST_ZOO_PATH", str(tmp_path))
        no_network(monkeypatch)
    fetched = fetch(row, tmp_path / "downloads", progress=False, offline=where == "a directory")
    assert (fetched.state, fetched.path.read_bytes()) == ("pinned", content)
    assert hub.sent(f"{row.name}.safetensors") == (len(content) if where == "a mirror" else 0)


def test_no_public_hash_but_that_of_what_was_published(hub, sound, content, tmp_path):
    """Neither the published file nor the source's needs --allow-unverified: what it converts to proves it."""
    header = header_of(content, tmp_path) | provenance(HASHLESS, hashlib.sha256(sound[1]).hexdigest())
    write_safetensors(tmp_path / FILE, tensors_of(bytearray(content), tmp_path), header)
    content = (tmp_path / FILE).read_bytes()  # as it converts: the second part below would be refused
    row = published(content, HASHLESS)
    hub.files, hub.drive = {FILE: content, row.file: sound[1]}, {shared_rows.DRIVE_ID: row.file}
    assert ensure(row, progress=False).state == "pinned" and asked_for(hub) == {FILE}
    del hub.files[FILE]
    assert ensure(row, cache_dir=tmp_path / "fallen back", progress=False).state == "pinned"
    checkpoints.save(tmp_path / "other.ckpt", "shufflenet", seed=1)
    hub.files[row.file] = (tmp_path / "other.ckpt").read_bytes()
    with pytest.raises(VerificationFailed, match="not as this checkpoint converts") as error:
        ensure(row, cache_dir=tmp_path / "other", progress=False)
    assert row.published.sha256 in error.value.expected and nothing_kept(tmp_path / "other")


# --- What goes wrong -----------------------------------------------------------------------------------------


@fault("dead", "5xx", "html", "cut", "corrupted", "stall")
@pytest.mark.parametrize("kind", ["404", "503", "html", "cut", "flip", "stall"])
def test_where_it_fails_the_ckpt_is_taken(hub, row, sound, kind, tmp_path, caplog):
    hub.fail(FILE, kind, times=100)
    fetched = fetch(row, tmp_path, progress=False)
    assert fetched.path.read_bytes() == sound[1] and fetched.state == "hub-declared"
    assert f"{row.file} was served by {hub.endpoint}" in caplog.text and "after 1 other source failed" in caplog.text
    assert list(tmp_path.iterdir()) == [fetched.path]  # the cut part of the other file is gone


def test_what_was_taken_instead_is_pinned_too(hub, row, content, own_machine):
    hub.fail(FILE, "404", where="resolve", times=9)
    weights = ensure(row, progress=False)
    assert (weights.state, bytes(weights.content)) == ("pinned", content)


@fault("cut")
def test_a_cut_goes_on_from_the_byte(hub, row, content, tmp_path):
    hub.fail(FILE, "cut")
    assert fetch(row, tmp_path, progress=False).path.read_bytes() == content
    assert hub.sent(FILE) < 1.1 * len(content) and asked_for(hub) == {FILE}


@fault("kill")
def test_a_later_process_goes_on_from_the_byte(hub, row, content, own_machine):
    """Neither source can be had at first; what arrived of the published file stays, and is not fetched again."""
    hub.fail(FILE, "stall", times=5, value="1.2")
    hub.fail(row.file, "404", where="head", times=99)
    with pytest.raises(Unavailable) as error:
        ensure(row, progress=False)
    assert all(error.value.fields.values()) and error.value.next.startswith(f"robust-zoo download {row.name}")
    [part] = (own_machine / "downloads").glob("*.part")
    kept, sent = part.stat().st_size, hub.sent(FILE)
    assert kept > len(content) / 2
    assert fetch(row, part.parent, progress=False).path == part
    assert hub.sent(FILE) - sent == len(content) - kept and part.read_bytes() == content


@fault("corrupted")
def test_wrong_bytes_everywhere_are_an_error_with_both_hashes(hub, row, tmp_path):
    hub.fail(FILE, "flip", times=9)
    hub.fail(row.file, "flip", times=9)
    with pytest.raises(VerificationFailed) as error:
        fetch(row, tmp_path, progress=False)
    assert f"sha256 {row.published.sha256} (pinned)" in error.value.expected
    assert "(hub-declared)" in error.value.expected and all(error.value.fields.values())
    assert not list(tmp_path.iterdir())


@fault("offline")
def test_offline_it_says_what_a_download_would_take(row, content, monkeypatch):
    no_network(monkeypatch)
    with pytest.raises(Unavailable) as error:
        ensure(row, offline=True)
    assert error.value.next == f"online: robust-zoo download {row.name} (about {len(content) / 1e6:,.0f} MB)"


@pytest.mark.parametrize("other", ["name", "licence", "preprocessing", "source_sha256"])
@fault("other model")
def test_a_file_that_says_something_else_than_its_row_is_refused(hub, row, content, own_machine, other):
    """Whole, and with the published hash: another row's, or of this row as it was."""
    changed = {
        "name": published(content, get("shufflenet_l2_eps3")),
        "licence": replace(row, licence="apache-2.0"),
        "preprocessing": replace(row, preprocessing=replace(row.preprocessing, crop_pct=1.0)),
        "source_sha256": replace(row, sha256="0" * 64),
    }[other]
    with pytest.raises(VerificationFailed, match="not what its row converts to") as error:
        ensure(changed, progress=False)
    assert error.value.expected.startswith(other) and error.value.actual.startswith(other)
    assert all(error.value.fields.values()) and nothing_kept(own_machine) and asked_for(hub) == {FILE}


@pytest.mark.parametrize("wrong", ["NaN", "more said", "no safetensors"])
@fault("tensors")
def test_what_is_published_is_read_as_strictly_as_any_file(hub, content, own_machine, tmp_path, wrong):
    tensors, header = tensors_of(bytearray(content), tmp_path), provenance(ROW, "5a" * 32)
    if wrong == "NaN":
        tensors["fc.bias"][0] = float("nan")
    write_safetensors(tmp_path / FILE, tensors, header | {"mean": "anything"} if wrong == "more said" else header)
    hub.files[FILE] = b"PK" + content if wrong == "no safetensors" else (tmp_path / FILE).read_bytes()
    with pytest.raises((VerificationFailed, Refused)) as error:
        ensure(published(hub.files[FILE]), progress=False)
    assert all(error.value.fields.values()) and nothing_kept(own_machine)


def test_what_was_cached_before_is_judged_by_what_was_published(hub, row, content, own_machine):
    """Of other bytes under a sound receipt: the one seen first was another file, say."""
    path = cache.weights_path(own_machine, row.name)
    path.parent.mkdir(parents=True)
    sha256 = write_safetensors(path, {"w": torch.ones(3)}, provenance(ROW, "5a" * 32))
    about = (row.name, sha256, path.stat().st_size, "first-seen", "there", row.file, "5a" * 32, "", 9, "2026-11-20")
    cache.write_receipt(Receipt(*about), own_machine)
    with pytest.raises(VerificationFailed, match=f"expected: +sha256 {row.published.sha256}") as error:
        ensure(row, offline=True)
    assert "first seen on 2026-11-20 from there" in error.value.actual
    assert bytes(ensure(row, progress=False).content) == content


# --- Rows ----------------------------------------------------------------------------------------------------


def listed(folder, **rows: list[str]):
    """The registry with these rows of published.toml."""
    path = folder / "published.toml"
    path.write_text("\n".join(line for lines in rows.values() for line in lines), encoding="utf-8")
    return shared_rows.changed("PUBLISHED", path)


def test_what_is_printed_is_what_is_read(tmp_path, content):
    row = told(content)
    with listed(tmp_path, lines=row.lines(ROW.name)):
        found = get(ROW.name)
    assert found == ROW.as_published(row) and found.converted_sha256 == row.sha256
    assert get(ROW.name) == ROW


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"name": "shufflenet_l2_eps9"}, "no row"),
        ({"name": "xcit_small_12_p16_224_debenedetti2022_linf_eps8"}, "licence"),
        ({"sha256": "5A" * 32}, "64 hexadecimal"),
        ({"sha256": ""}, "64 hexadecimal"),
        ({"header": "5a"}, "64 hexadecimal"),
        ({"header": ""}, "header"),
        ({"revision": "main"}, "none of"),
        ({"revision": REVISION[:39]}, "none of"),
        ({"repo": "nobody"}, "none of"),
        ({"repo": "../../x/y"}, "none of"),
        ({"size": 0}, "bytes"),
        ({"size": "5"}, "bytes"),
        ({"size": True}, "bytes"),
        ({"licence": "mit"}, "licence"),
        ({"size": None}, "size"),
        ({"name": "resnet18_x0_25_cifar10_l2_eps0_5"}, "its row says"),  # the bundled file is another
    ],
    ids=str,
)
def test_a_bad_row_fails_when_it_is_loaded(changes, cause, tmp_path, content):
    values = {"name": ROW.name, **vars(told(content)), **changes}
    lines = [f"[{values.pop('name')}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items() if v is not None)]
    with listed(tmp_path, lines=lines), pytest.raises(Refused) as error:
        load_registry()
    assert cause in error.value.actual


def test_a_row_that_pins_what_it_converts_to_is_published_with_the_same(content):
    sha256 = hashlib.sha256(content).hexdigest()
    assert replace(ROW, converted_sha256=sha256).as_published(told(content)).published
    with pytest.raises(ValueError, match="its row says 0000"):
        replace(ROW, converted_sha256="0" * 64).as_published(told(content))


def test_bundled_weights_are_published_as_they_are(tmp_path):
    bundled = get(list_models(bundled=True)[0])
    row = Published("robust-zoo/x", REVISION, bundled.sha256, 5)
    with listed(tmp_path, lines=row.lines(bundled.name)):
        found = get(bundled.name)
        assert found.published == row and ensure(found, offline=True).state == "pinned"


def test_what_is_trained_anew_is_not_what_was_published(row):
    """Nor is it proven by any hash, or known by the logits, of the checkpoint whose training it repeats."""
    known = replace(row, fingerprint=get(list_models(bundled=True)[0]).fingerprint)
    made = as_trained(known, recipe_for(known))
    assert known.fingerprint and made.name == row.name
    assert (made.published, made.converted_sha256, made.sha256, made.fingerprint) == (None,) * 4


def stale(rows) -> list[str]:
    """Rows that convert to other bytes than were published: their header changed. Publish them again."""
    return [r.name for r in rows if r.published and not r.bundled and header_digest(r) != r.published.header]


def test_rows_still_convert_to_what_was_published(row):
    """A name fails here after its licence, its preprocessing or its source was changed: robust-zoo publish NAME."""
    assert stale(load_registry().checkpoints.values()) == []
    crop = replace(row.preprocessing, crop_pct=1.0)
    changed = (replace(row, licence="cc0"), replace(row, preprocessing=crop), replace(row, sources=()))
    assert stale([row, *changed]) == [row.name] * 3
    assert stale([replace(row, sha256="0" * 64, size=5, note="x")]) == []  # what is not said in the header


def test_the_manifest_names_what_was_published(tmp_path, content):
    row = told(content)
    with listed(tmp_path, lines=row.lines(ROW.name)):
        entries = manifest.installed()
    assert entries[f"weights/{ROW.name}.safetensors"] == manifest.Entry(row.sha256, row.size)
    assert "published.toml" in entries


# --- What is said --------------------------------------------------------------------------------------------


def test_every_verb_says_pinned(hub, row, content, sound, tmp_path, monkeypatch):
    name, sha256 = row.name, row.published.sha256
    address = f"{hub.endpoint}/{row.published.repo}/resolve/{REVISION}/{FILE}"
    with listed(tmp_path, lines=row.published.lines(name)):
        assert json.loads(run_to("list", name, "--json").stdout)[0]["status"] == "pinned"
        about = json.loads(run_to("info", name, "--json").stdout)
        assert about["sources"][0] == address and about["converted_sha256"] == sha256
        assert about["published"] == vars(row.published) and about["cached"] is None
        text = run_to("info", name).stdout
        assert (
            f"sha256 {sha256}" in text and row.published.repo in text and "pinned: must have the sha256 below" in text
        )
        line = f"{name}  published  {len(content):,} bytes  {sha256[:12]}  {address} (HF_ENDPOINT)"
        assert line in run_to("sources", name).stdout
        assert f"ok          {line}" in run_to("sources", name, "--check").stdout
        monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
        assert run_to("sources", name, "--check").stdout.count("  mirror  ") == 1  # which has no NAME.safetensors
        monkeypatch.delenv("ROBUST_ZOO_MIRRORS")
        hub.declared[FILE] = "0" * 64
        assert "other hash  " in run_to("sources", name, "--check", code=1).stdout
        [got] = json.loads(run_to("download", name, "--json", "--quiet").stdout)
        assert (got["status"], got["weights_sha256"]) == ("pinned", sha256)
        assert run_to("verify", name).stdout.split()[:3] == ["ok", name, "pinned"]
        assert run_to("cache", "ls").stdout.split()[-1] == "pinned"
        assert "pinned" in run_to("compare", name, "shufflenet_l2_eps3").stdout
        assert hashlib.sha256(sound[1]).hexdigest() in (lines := run_to("pin", name).stdout)
        assert "converted_sha256" not in lines  # that is known already
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "model.safetensors").write_bytes(content)
        said = run_to("doctor", tmp_path / "there", "--json").stdout
        assert {f["status"] for f in json.loads(said) if "there" in f["path"]} == {"good"}
        run_to("bundle", name, "-o", tmp_path / "x.tar", "--quiet")
        [(_, taken)] = bundle.unpack(tmp_path / "x.tar", cache_dir=tmp_path / "air gap")
        assert taken.state == "pinned"
        card = run_to("card", name).stdout
        assert f"| published | [{row.published.repo}](" in card and f"sha256 `{sha256}` |" in card
        assert REVISION not in render(get(name), None, repo=row.published.repo)  # its commit would be another each time
