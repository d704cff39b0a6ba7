"""Downloads against planted faults, over real HTTP on 127.0.0.1."""

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from robust_zoo import http, transport
from robust_zoo.download import Source, fetch, is_offline, plan
from robust_zoo.errors import StorageError, Unavailable, VerificationFailed
from robust_zoo.registry import get

CONTENT = random.Random(0).randbytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = "resnet50_l2_eps0.25.ckpt"
PINNED = replace(get("resnet50_l2_eps3"), file=FILE, sha256=SHA256, size=len(CONTENT))
UNPINNED = get("resnet50_l2_eps0_25")


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch):
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", 1.0)
    monkeypatch.setattr(http, "READ_TIMEOUT", 1.0)


def arrives(row, directory, **kwargs):
    fetched = fetch(row, directory, progress=False, **kwargs)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.sha256 == SHA256
    return fetched


def test_plan_is_ordered_and_pure(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    row = get("resnet50_linf_eps4")
    sources = plan(row, directories=[tmp_path], extra_mirrors=["https://a/b/", "https://c"], offline=False)
    url = f"http://hub.invalid/{row.collection.repo}/resolve/{row.collection.revision}/resnet50_linf_eps4.0.ckpt"
    assert sources == (
        Source("local", str(tmp_path / row.file)),
        Source("hub", url),
        Source("mirror", "https://a/b/resnet50_linf_eps4.0.ckpt"),
        Source("mirror", "https://c/resnet50_linf_eps4.0.ckpt"),
    )
    assert [s.kind for s in plan(row, directories=[tmp_path], extra_mirrors=["https://c"], offline=True)] == ["local"]


def test_pinned_and_hub_declared(hub, tmp_path):
    hub.files[FILE] = CONTENT
    assert arrives(PINNED, tmp_path / "a").state == "pinned"
    assert arrives(UNPINNED, tmp_path / "b").state == "hub-declared"


# kind, where: what the first answer does; every one must end in the right bytes from the same hub
RECOVERED = [
    ("cut", "bytes"), ("rst", "bytes"), ("stall", "bytes"), ("500", "bytes"), ("503", "resolve"), ("429", "resolve"),
    ("408", "bytes"), ("nolength", "bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "where"), RECOVERED)
def test_recovers_at_the_same_source(hub, tmp_path, kind, where):
    hub.files[FILE] = CONTENT
    hub.delay = 0.005  # a reset discards what the kernel had received and the client had not read yet
    hub.fail(FILE, kind, where=where, value="0.1" if kind in ("429", "408") else "")
    arrives(PINNED, tmp_path)
    assert hub.sent(FILE) <= 1.1 * len(CONTENT) + 100


# what the hub does for good; a mirror has the file
FAILED_OVER = [
    ("404", "resolve"), ("403", "resolve"), ("409", "bytes"), ("410", "bytes"), ("500", "bytes"), ("429", "resolve"),
    ("loop", "resolve"), ("elsewhere", "resolve"), ("html", "resolve"), ("html", "bytes"), ("disguised", "bytes"),
    ("blackhole", "resolve"), ("swap", "bytes"), ("flip", "bytes"), ("longer", "bytes"), ("lyinglength", "bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "where"), FAILED_OVER)
def test_fails_over_to_the_mirror(hub, tmp_path, monkeypatch, kind, where):
    hub.files[FILE] = CONTENT
    values = {"elsewhere": "ftp://127.0.0.1/x", "429": "3600"}
    hub.fail(FILE, kind, where=where, times=100, value=values.get(kind, ""))
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    started = time.monotonic()
    assert arrives(PINNED, tmp_path).source == f"{hub.mirror}/{FILE}"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("kind", "where"), FAILED_OVER)
def test_never_wrong_bytes_and_every_source_is_listed(hub, tmp_path, kind, where):
    hub.files[FILE] = CONTENT
    values = {"elsewhere": "ftp://127.0.0.1/x", "429": "3600"}
    hub.fail(FILE, kind, where=where, times=100, value=values.get(kind, ""))
    wrong_bytes = kind in ("swap", "flip")
    with pytest.raises(VerificationFailed if wrong_bytes else Unavailable) as error:
        fetch(PINNED, tmp_path, progress=False)
    assert all(error.value.fields.values())
    assert hub.endpoint in error.value.source
    assert error.value.exit_code == (1 if wrong_bytes else 3)
    if wrong_bytes:
        assert SHA256 in error.value.expected and "sha256" in error.value.actual
        assert not list(tmp_path.iterdir())


def test_refused_connection_fails_over_at_once(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    started = time.monotonic()
    arrives(PINNED, tmp_path)
    assert time.monotonic() - started < 3


def test_https_to_http_is_refused():
    with pytest.raises(http.SourceFailed, match="https to http"):
        http._check_hop("https://a/x", "http://a/x")


def test_a_file_that_changed_under_a_resume_restarts_once(hub, tmp_path):
    hub.files[FILE] = CONTENT
    part = tmp_path / f"{FILE}.{SHA256[:12]}.part"
    part.write_bytes(b"another file's beginning" * 1000)
    arrives(PINNED, tmp_path)


def test_ignored_range_restarts(hub, tmp_path):
    hub.files[FILE] = CONTENT
    (tmp_path / f"{FILE}.{SHA256[:12]}.part").write_bytes(CONTENT[:700_000])
    hub.fail(FILE, "norange")
    arrives(PINNED, tmp_path)


def test_a_whole_part_is_not_fetched_again(hub, tmp_path):
    (tmp_path / f"{FILE}.{SHA256[:12]}.part").write_bytes(CONTENT)
    arrives(PINNED, tmp_path)
    assert hub.sent(FILE) == 0


def test_an_over_long_part_without_a_known_size(hub, tmp_path):
    hub.files[FILE] = CONTENT
    (tmp_path / f"{FILE}.{SHA256[:12]}.part").write_bytes(CONTENT + b"x")
    arrives(replace(PINNED, size=None), tmp_path)


def test_resumes_after_kill_9(hub, tmp_path):
    hub.files[FILE] = CONTENT
    hub.delay = 0.05
    script = (
        "from dataclasses import replace; from robust_zoo.download import fetch; from robust_zoo.registry import get;"
        f"from pathlib import Path; row = replace(get({PINNED.name!r}), file={FILE!r}, sha256={SHA256!r});"
        f"fetch(replace(row, size={len(CONTENT)}), Path({str(tmp_path)!r}), progress=False)"
    )
    part = tmp_path / f"{FILE}.{SHA256[:12]}.part"
    for _ in range(3):
        before = part.stat().st_size if part.exists() else 0
        child = subprocess.Popen([sys.executable, "-c", script])
        for _ in range(400):
            if part.exists() and part.stat().st_size > before + 200_000:
                break
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    kept = part.stat().st_size
    assert 0 < kept < len(CONTENT)
    hub.delay = 0
    arrives(PINNED, tmp_path)
    assert hub.requests[-1].sent == len(CONTENT) - kept


def test_the_hub_is_asked_and_must_answer_for_the_pinned_revision(hub, tmp_path):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "commit", where="head", value="0" * 40)
    with pytest.raises(Unavailable, match="revision 0000"):
        fetch(UNPINNED, tmp_path, progress=False)
    hub.fail(FILE, "etag", where="head", value="not-a-hash")
    with pytest.raises(Unavailable, match="declares no sha256"):
        fetch(UNPINNED, tmp_path, progress=False)
    hub.declared[FILE] = "0" * 64
    with pytest.raises(VerificationFailed, match="0000"):
        fetch(UNPINNED, tmp_path, progress=False)


def test_a_mirror_is_checked_against_what_the_hub_declares(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "404", where="resolve", times=9)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    fetched = arrives(UNPINNED, tmp_path)
    assert (fetched.state, fetched.source) == ("hub-declared", f"{hub.mirror}/{FILE}")


def test_without_any_hash_a_mirror_is_refused_unless_asked_for(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "404", where="head", times=9)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    with pytest.raises(Unavailable, match="--allow-unverified"):
        fetch(UNPINNED, tmp_path, progress=False)
    assert arrives(UNPINNED, tmp_path, allow_unverified=True).state == "unverified"


def test_local_directories_come_first_and_are_verified(hub, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    (site / FILE).write_bytes(CONTENT)
    monkeypatch.setenv("ROBUST_ZOO_PATH", f"{tmp_path / 'nothing'}{os.pathsep}{site}")
    fetched = arrives(PINNED, tmp_path / "downloads", offline=True)
    assert (fetched.path, fetched.temporary, fetched.state) == (site / FILE, False, "pinned")
    (site / FILE).write_bytes(CONTENT[:-1] + b"x")
    hub.files[FILE] = CONTENT
    assert arrives(PINNED, tmp_path / "downloads").temporary


def test_tokens_go_to_the_hub_only(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    arrives(UNPINNED, tmp_path / "a")
    hub.fail(FILE, "404", where="resolve", times=9)
    arrives(PINNED, tmp_path / "b")
    by_place = {r.where: "authorization" in {h.lower() for h in r.headers} for r in hub.requests}
    assert by_place == {"head": True, "resolve": True, "bytes": False, "mirror": False}


def test_offline_opens_no_socket(tmp_path, monkeypatch):
    def no_sockets(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", no_sockets)
    for row in (PINNED, UNPINNED):
        with pytest.raises(Unavailable, match="offline") as error:
            fetch(row, tmp_path, offline=True)
        assert all(error.value.fields.values())
    for variable in ("ROBUST_ZOO_OFFLINE", "HF_HUB_OFFLINE"):
        assert not is_offline()
        monkeypatch.setenv(variable, "1")
        assert is_offline()
        monkeypatch.setenv(variable, "0")


def test_disk_space_is_checked_before(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    usage = transport.shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr(transport.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="not enough space") as error:
        fetch(PINNED, tmp_path, progress=False)
    assert "2,400,000" in error.value.expected and "2,000,000" in error.value.actual
    assert error.value.exit_code == 5


def test_no_way_of_writing_is_a_storage_error(hub, tmp_path):
    hub.files[FILE] = CONTENT
    (tmp_path / f"{FILE}.{SHA256[:12]}.part").mkdir()
    with pytest.raises(StorageError):
        fetch(PINNED, tmp_path, progress=False)


def test_progress_is_on_stderr(hub, tmp_path, capsys):
    hub.files[FILE] = CONTENT
    fetch(PINNED, tmp_path)
    out, err = capsys.readouterr()
    assert out == "" and FILE in err


def test_the_cause_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"refused|ConnectionError"):
        fetch(PINNED, tmp_path, progress=False)
