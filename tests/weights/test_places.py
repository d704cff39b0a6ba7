"""Files on hosts that are no hub: Drive, Dropbox, releases, Nextcloud, plain http; and what is said when they fail."""

import hashlib
import json
import logging
import socket
from dataclasses import replace

import checkpoints
import pytest
import torch
from arrivals import CONTENT, FILE, SHA256, UNPINNED, arrives
from fault_table import command_here, fault, refused
from shared_rows import DRIVE, DRIVE_ID, ORIGIN, added, name_of, row
from shared_rows import FILE as SHARED
from shares import SIGNATURE

import robust_zoo
from robust_zoo.errors import Unavailable, VerificationFailed
from robust_zoo.registry.places import place
from robust_zoo.weights.cache import Receipt, read_receipt, store
from robust_zoo.weights.safetensors_file import write_safetensors
from robust_zoo.weights.sources import fetch
from robust_zoo.weights.verify import provenance, verified
from robust_zoo.weights.whereabouts import source_at

pytestmark = pytest.mark.usefixtures("impatient")

KINDS = {
    "drive": DRIVE,
    "dropbox": "{hub}/s/axfuary2w1cnyrg/{file}?dl=1",
    "release": "{hub}/RobustBench/robustbench/releases/download/v1.1/{file}",
    "nextcloud": "{hub}/public.php/dav/files/RQBEXagC7R7XweX/{file}",
    "mirrored": "{hub}/mirror/{file}",
}
kinds = pytest.mark.parametrize("kind", KINDS)
NOWHERE = "http://weights.invalid/file.pt"


def address(kind, hub, file=FILE):
    if kind == "drive":
        hub.drive[DRIVE_ID] = file
    origin = hub.bytes_origin if kind == "mirrored" else hub.endpoint
    return KINDS[kind].replace("{hub}", origin).replace("{file}", file)


def shared(*sources, sha256=SHA256, size=None):
    """UNPINNED's row, with other sources."""
    return replace(UNPINNED, sources=tuple(sources), sha256=sha256, size=size)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    """A file in the robustness library's format, and the network in it."""
    path = tmp_path_factory.mktemp("genuine") / SHARED
    model = checkpoints.save(path, "shufflenet")
    return path.read_bytes(), model


@pytest.fixture
def no_sockets(monkeypatch):
    def none(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", none)
    monkeypatch.setattr(socket, "getaddrinfo", none)


# --- Each host, from an empty cache to logits ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mirrored"])
def test_from_an_empty_cache_to_logits_and_then_offline(kind, hub, genuine, own_machine, tmp_path, monkeypatch, caplog):
    content, network = genuine
    hub.files[SHARED] = content
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_mine")
    caplog.set_level(logging.DEBUG)
    at = address(kind, hub, SHARED)
    with added(tmp_path, row(kind, f'["{at}"]', sha256=hashlib.sha256(content).hexdigest(), size=len(content))):
        images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        logits = robust_zoo.create_model(name_of(kind)).eval()(images)
        assert torch.allclose(logits, network(images), rtol=1e-4, atol=1e-5)
        receipt = read_receipt(own_machine, name_of(kind))
        assert (receipt.state, receipt.source_file) == ("pinned", SHARED)
        assert at.startswith(receipt.source.removesuffix("..."))
        stored = (own_machine / "weights" / f"{name_of(kind)}.json").read_text()
        assert f'"source": "{at}"' in stored and SIGNATURE not in stored + caplog.text
        assert all("Authorization" not in request.headers for request in hub.requests)
        hub.requests.clear()
        monkeypatch.setenv("ROBUST_ZOO_OFFLINE", "1")
        assert torch.equal(robust_zoo.create_model(name_of(kind)).eval()(images), logits) and not hub.requests


@fault("cut")
@kinds
def test_a_cut_download_goes_on(kind, hub, tmp_path):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "cut", where={"dropbox": "signed", "release": "signed", "mirrored": "mirror"}.get(kind, kind))
    arrives(shared(place(address(kind, hub))), tmp_path)
    assert hub.sent(FILE) <= 1.1 * len(CONTENT)  # of a chunk that is cut, what arrived is lost
    assert any(request.headers.get("Range") for request in hub.requests)


@fault("length")
@pytest.mark.parametrize("kind", ["drive", "nextcloud"])
def test_a_host_without_ranges_starts_over(kind, hub, tmp_path):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "cut", where=kind)
    hub.fail(FILE, "norange", where=kind, times=9)
    arrives(shared(place(address(kind, hub))), tmp_path)
    assert [request.status for request in hub.requests] == [200, 200]


def test_a_drive_is_shown_by_its_id_and_has_no_other_address_than_its_own(monkeypatch):
    source = source_at(place(DRIVE))
    assert str(source) == DRIVE and not source.variable
    assert source.address == f"https://drive.usercontent.google.com/download?id={DRIVE_ID}&export=download&confirm=t"
    monkeypatch.setenv("ROBUST_ZOO_DRIVE", "https://name:pass-word@drive.example/")
    source = source_at(place(DRIVE))
    assert str(source) == f"{DRIVE} (ROBUST_ZOO_DRIVE)" and "pass-word" not in repr(source)
    assert source.address.startswith("https://name:pass-word@drive.example/download?id=1-4")


@pytest.mark.parametrize(
    "at", ["https://name:pass@host/x", "https://host/#x", "gdrive:short", "ftp://h/x", "https:///x", "https://h\\@x/"]
)
def test_what_a_place_is_not(at):
    with pytest.raises(ValueError, match="is none of"):
        place(at)


# --- Pages in place of files ---------------------------------------------------------------------------------


@fault("html")
@pytest.mark.parametrize(
    ("page", "cause", "remedy"),
    [
        (
            "quota",
            "Drive's quota for this file is used up: too many people have fetched it today",
            "try again in a day",
        ),
        ("virus", "Drive asks for one more click, as it can't scan", "fetch the file with a browser into a directory"),
        ("html", 'looks like an HTML page ("Sign in"), not a file', "robust-zoo download"),
    ],
)
def test_a_page_is_named_and_what_to_do(page, cause, remedy, hub, tmp_path, own_machine):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, page, where="drive", times=9)
    one = shared(place(address("drive", hub)))
    with pytest.raises(Unavailable) as error:
        fetch(one, tmp_path, progress=False)
    assert f"{DRIVE} (ROBUST_ZOO_DRIVE): " in error.value.source and cause in error.value.source
    assert remedy in error.value.next and "resnet50_l2_eps0_25" in error.value.next
    assert not list(tmp_path.iterdir())
    both = shared(*one.sources, place(address("nextcloud", hub)))
    assert arrives(both, tmp_path).source == address("nextcloud", hub)


@fault("html")
def test_a_page_of_drive_that_says_it_is_a_file(hub, tmp_path, monkeypatch):
    hub.files[FILE] = b"  <!DOCTYPE html><title>Google Drive - Quota exceeded</title>" + bytes(1000)
    with pytest.raises(Unavailable, match="quota for this file is used up"):
        fetch(shared(place(address("nextcloud", hub))), tmp_path, progress=False)


@fault("dead")
def test_a_host_of_a_row_is_told_no_password(hub, tmp_path):
    """So that none is asked for either: its address is the row's."""
    hub.fail(FILE, "403", where="nextcloud", times=9)
    with pytest.raises(Unavailable) as error:
        fetch(shared(place(address("nextcloud", hub))), tmp_path, progress=False)
    assert "NAME:PASSWORD" not in error.value.next and "HTTP 403" in error.value.source


# --- Whose hash ----------------------------------------------------------------------------------------------


@fault("overheard")
@pytest.mark.parametrize("allow", [False, True])
def test_plain_http_without_a_hash_is_not_asked(allow, tmp_path, no_sockets):
    with pytest.raises(Unavailable) as error:
        fetch(shared(place(NOWHERE), sha256=None), tmp_path, allow_unverified=allow, progress=False)
    assert f"{NOWHERE}: plain http, and no sha256" in error.value.source
    assert "over https" in error.value.next and "ROBUST_ZOO_PATH" in error.value.next


@fault("overheard")
@pytest.mark.parametrize("own", [False, True])
def test_plain_http_with_a_hash_is_asked(own, overheard, tmp_path):
    at = f"{overheard.plain}/mirror/{FILE}"
    one = shared(place(at, SHA256 if own else None), sha256=None if own else SHA256)
    assert arrives(one, tmp_path).state == "pinned"


@pytest.fixture
def overheard(hub, monkeypatch):
    """The hub as another machine would see it: plain http, and not by an address of this machine."""
    hub.files[FILE] = CONTENT
    hub.plain = hub.bytes_origin.replace("127.0.0.1", "weights.example")
    monkeypatch.setenv("http_proxy", hub.bytes_origin)
    monkeypatch.delenv("NO_PROXY")
    return hub


OTHER = b"another file, as RobustBench saved it" * 1000
OTHER_SHA256 = hashlib.sha256(OTHER).hexdigest()


@pytest.mark.parametrize("row_knows", [False, True])
def test_a_source_with_a_hash_of_its_own_is_judged_by_it(row_knows, hub, tmp_path):
    hub.files |= {FILE: CONTENT, "theirs.pt": OTHER}
    theirs = place(address("drive", hub, "theirs.pt"), OTHER_SHA256)
    authors = place(address("nextcloud", hub))
    one = shared(theirs, authors, sha256=SHA256 if row_knows else None, size=len(CONTENT))
    first = fetch(one, tmp_path, progress=False)
    assert (first.sha256, first.state, first.source) == (OTHER_SHA256, "pinned", DRIVE)
    hub.fail("theirs.pt", "404", where="drive", times=9)
    if row_knows:
        assert arrives(one, tmp_path).state == "pinned"
    hub.faults.clear()
    hub.files["theirs.pt"] = CONTENT  # the row's own bytes, but not those of this source
    with pytest.raises(VerificationFailed) as error:
        fetch(replace(one, sources=(theirs,)), tmp_path, progress=False)
    assert error.value.expected == f"sha256 {OTHER_SHA256} (pinned)" and SHA256 in error.value.actual


def test_what_is_cached_may_be_made_of_either_file(own_machine):
    """Of the row's, or of that of a source with its own; no other hash passes."""
    own = shared(place(DRIVE, OTHER_SHA256))
    for sha256 in (SHA256, OTHER_SHA256, "0" * 64):
        file = own_machine / "finished"
        own_machine.mkdir(exist_ok=True)
        written = write_safetensors(file, {"w": torch.ones(3)}, provenance(own, sha256))
        receipt = Receipt(own.name, written, file.stat().st_size, "pinned", DRIVE, FILE, sha256, "")
        store(file, receipt, own_machine)
        if sha256 in own.hashes:
            assert verified(own, own_machine).state == "pinned"
    assert verified(replace(own, sha256=None), own_machine).state == "vouched"  # of the row's file nothing is known
    with pytest.raises(VerificationFailed, match="damaged"):
        verified(own, own_machine)


# --- What to do, true for the row ----------------------------------------------------------------------------


@pytest.mark.parametrize("offline", [False, True])
def test_without_any_hash_it_is_said_whom_to_ask(offline, hub, tmp_path, monkeypatch):
    hub.files[SHARED] = b"x"
    hub.drive[DRIVE_ID] = SHARED
    if offline:
        (tmp_path / SHARED).write_bytes(b"x")
        monkeypatch.setenv("ROBUST_ZOO_PATH", str(tmp_path))
    with added(tmp_path, row("drive", f'["{DRIVE}"]')):
        said = refused(3, "download", name_of("drive"), "-q", *["--offline"] * offline, run=command_here)
    assert "no sha256 is known for this file, so it was not used" in said and not hub.requests
    assert f"look, or ask, for one at {ORIGIN}" in said and "hub can declare" not in said
    assert f"robust-zoo download {name_of('drive')} --allow-unverified   takes the bytes as they come" in said


def test_the_command_that_is_advised_is_one_that_can_work(hub, tmp_path):
    """Without a hash anywhere, it needs --allow-unverified: offline with nothing here, and when all hosts are dead."""
    with added(tmp_path, row("drive", f'["{DRIVE}"]')):
        advised = f"robust-zoo download {name_of('drive')} --allow-unverified"
        said = refused(3, "download", name_of("drive"), "-q", "--offline", run=command_here)
        assert f"online: {advised} (about" in said
        said = refused(3, "download", name_of("drive"), "-q", "--allow-unverified", run=command_here)
        assert f"{advised}   tries again; ROBUST_ZOO_MIRRORS" in said and "404" in said


def test_where_plain_http_is_all_there_is_no_command_is_advised_that_is_refused_again(tmp_path):
    with added(tmp_path, row("plain", f'["{NOWHERE}"]')):
        for arguments in ([], ["--offline"], ["--allow-unverified"]):
            said = refused(3, "download", name_of("plain"), "-q", *arguments, run=command_here)
            assert f"a directory in ROBUST_ZOO_PATH); then robust-zoo download {name_of('plain')} --allow-unv" in said
        assert "plain http, and no hash" in command_here("info", name_of("plain")).stdout


def test_a_hub_that_was_asked_is_not_advised_to_be_asked(hub, tmp_path, monkeypatch):
    hub.fail(FILE, "404", where="head", times=9)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    with pytest.raises(Unavailable) as error:
        fetch(UNPINNED, tmp_path, progress=False)
    assert error.value.next.startswith("try again later, so that the hub can declare its sha256; or robust-zoo")


# --- What RobustBench's users have already -------------------------------------------------------------------

RB_ID = "Sharer2026Test_Shuffle-S"


@pytest.fixture
def robustbenchs(tmp_path, genuine):
    """./models as robustbench.load_model leaves it, and a row of that id."""
    path = tmp_path / "models" / "imagenet" / "Linf" / f"{RB_ID}.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(genuine[0])
    sha256 = hashlib.sha256(genuine[0]).hexdigest()
    with added(tmp_path, row("rb", f'["{DRIVE}"]', robustbench=RB_ID, sha256=sha256)):
        yield path


@pytest.mark.parametrize("directory", ["models", "models/imagenet/Linf"])
def test_a_file_of_robustbench_is_used_where_it_lies(
    directory, robustbenchs, genuine, tmp_path, monkeypatch, no_sockets
):
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(tmp_path / directory))
    found = fetch(robust_zoo.get(RB_ID), tmp_path / "downloads", offline=True)
    assert (found.path, found.state, found.temporary) == (robustbenchs, "pinned", False)
    robustbenchs.write_bytes(robustbenchs.read_bytes()[:-1] + b"x")
    with pytest.raises(VerificationFailed):
        fetch(robust_zoo.get(RB_ID), tmp_path / "downloads", offline=True)


def test_doctor_says_what_to_set_for_a_file_of_robustbench(robustbenchs, genuine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [finding] = json.loads(command_here("doctor", "--json").stdout)
    assert (finding["name"], finding["status"]) == (name_of("rb"), "good")
    assert finding["fix"] == f"ROBUST_ZOO_PATH=models robust-zoo download {name_of('rb')}"
    monkeypatch.setenv("ROBUST_ZOO_PATH", "models")
    assert command_here("download", name_of("rb"), "-q", "--offline").returncode == 0
    robustbenchs.write_bytes(genuine[0] + b"\0")  # RobustBench's own copy, of other bytes than the authors' file
    [finding] = [f for f in json.loads(command_here("doctor", "--json").stdout) if f["path"].endswith(".pt")]
    assert finding["status"] == "unknown hash" and "may be another file" in finding["detail"]


def test_doctor_knows_files_by_upstreams_names_and_what_nobody_has_hashed(tmp_path, genuine, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"  # where RobustBench has timm put what lies on GitHub
    folder.mkdir(parents=True)
    (folder / "debenedetti-xcit.pth.tar").write_bytes(genuine[0])
    with added(tmp_path, row("tar", f'["{DRIVE}"]', file="debenedetti-xcit.pth.tar")):
        [finding] = json.loads(command_here("doctor", "--json").stdout)
        assert finding["status"] == "unknown hash" and "nobody has published one" in finding["detail"]
        assert finding["fix"] == f"ROBUST_ZOO_PATH={folder} robust-zoo download {name_of('tar')} --allow-unverified"
