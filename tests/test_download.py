"""Downloads against planted faults, over real HTTP on 127.0.0.1."""

import hashlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from robust_zoo import download, http, transport
from robust_zoo.download import Source, fetch, is_offline, plan
from robust_zoo.errors import StorageError, Unavailable, VerificationFailed
from robust_zoo.registry import get

CONTENT = random.Random(0).randbytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = "resnet50_l2_eps0.25.ckpt"
PINNED = replace(get("resnet50_l2_eps3"), file=FILE, sha256=SHA256, size=len(CONTENT))
UNPINNED = get("resnet50_l2_eps0_25")
PART = f"{FILE}.{SHA256[:12]}.part"


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


@pytest.mark.parametrize("value", [None, "", "https://huggingface.co/"])
def test_no_endpoint_is_the_public_one_whatever_was_set_at_import(monkeypatch, value):
    from huggingface_hub import constants

    earlier = "http://an.earlier.one"
    monkeypatch.setattr(constants, "ENDPOINT", earlier)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", earlier + "/{repo_id}/resolve/{revision}/{filename}")
    if value is not None:
        monkeypatch.setenv("HF_ENDPOINT", value)
    (source,) = plan(PINNED, directories=(), extra_mirrors=(), offline=False)
    assert source.location.startswith("https://huggingface.co/madrylab/")


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
    ("elsewhere broken", "resolve"), ("length", "bytes"),
]  # fmt: skip

# a length that str.isdigit() accepts and int() does not; an address that urllib can not parse
VALUES = {"elsewhere": "ftp://127.0.0.1/x", "elsewhere broken": "http://[bad/x", "429": "3600", "length": "\xb2"}


@pytest.mark.parametrize(("kind", "where"), FAILED_OVER)
def test_fails_over_to_the_mirror(hub, tmp_path, monkeypatch, kind, where):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, kind.split()[0], where=where, times=100, value=VALUES.get(kind, ""))
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    started = time.monotonic()
    assert arrives(PINNED, tmp_path).source == f"{hub.mirror}/{FILE}"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("kind", "where"), FAILED_OVER)
def test_never_wrong_bytes_and_every_source_is_listed(hub, tmp_path, kind, where):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, kind.split()[0], where=where, times=100, value=VALUES.get(kind, ""))
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
    part = tmp_path / PART
    part.write_bytes(b"another file's beginning" * 1000)
    arrives(PINNED, tmp_path)


def test_ignored_range_restarts(hub, tmp_path):
    hub.files[FILE] = CONTENT
    (tmp_path / PART).write_bytes(CONTENT[:700_000])
    hub.fail(FILE, "norange")
    arrives(PINNED, tmp_path)


def test_a_whole_part_is_not_fetched_again(hub, tmp_path):
    (tmp_path / PART).write_bytes(CONTENT)
    arrives(PINNED, tmp_path)
    assert hub.sent(FILE) == 0


def test_a_part_survives_a_login_page(hub, tmp_path):
    hub.files[FILE] = CONTENT
    (tmp_path / PART).write_bytes(CONTENT[:1_000_000])
    hub.fail(FILE, "disguised", times=100)
    with pytest.raises(Unavailable, match="HTML"):
        fetch(PINNED, tmp_path, progress=False)
    assert (tmp_path / PART).read_bytes() == CONTENT[:1_000_000]


def test_downloads_that_share_a_part_end_right(hub, tmp_path):
    """As processes do where locks lie: each starts at another point of the same file."""
    hub.files[FILE] = CONTENT
    hub.delay = 0.03

    def late(size):
        while size and not ((tmp_path / PART).exists() and (tmp_path / PART).stat().st_size >= size):
            time.sleep(0.002)
        return arrives(PINNED, tmp_path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(late, (0, 100_000, 200_000, 300_000)))
    assert len({r.headers.get("Range") for r in hub.requests if r.where == "bytes"}) > 1  # they did overlap


def test_three_processes_at_once(hub, tmp_path):
    hub.files[FILE] = CONTENT
    hub.delay = 0.02
    children = [subprocess.Popen([sys.executable, "-c", _script(tmp_path)]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert (tmp_path / PART).read_bytes() == CONTENT


@pytest.mark.parametrize("spoil", ["overwritten", "removed"])
def test_what_is_on_the_disk_counts(hub, tmp_path, monkeypatch, spoil):
    hub.files[FILE] = CONTENT
    transfer = transport._transfer
    spoils = iter([True])

    def spoilt(url, part, *arguments):
        answer = transfer(url, part, *arguments)
        if next(spoils, False):
            part.unlink()
            if spoil == "overwritten":
                part.write_bytes(CONTENT[:-1] + b"x")
        return answer

    monkeypatch.setattr(transport, "_transfer", spoilt)
    arrives(PINNED, tmp_path)


def test_a_link_in_place_of_a_part_is_not_followed(hub, tmp_path):
    hub.files[FILE] = CONTENT
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / PART).symlink_to(victim)
    arrives(PINNED, tmp_path / "downloads")
    assert victim.read_bytes() == b"precious"
    (tmp_path / "late").symlink_to(victim)  # one that appears after the check
    with pytest.raises(OSError):
        transport._open(tmp_path / "late")


def test_an_over_long_part_without_a_known_size(hub, tmp_path):
    hub.files[FILE] = CONTENT
    (tmp_path / PART).write_bytes(CONTENT + b"x")
    arrives(replace(PINNED, size=None), tmp_path)


def _script(directory):
    return (
        "from dataclasses import replace; from robust_zoo.download import fetch; from robust_zoo.registry import get;"
        f"from pathlib import Path; row = replace(get({PINNED.name!r}), file={FILE!r}, sha256={SHA256!r});"
        f"fetch(replace(row, size={len(CONTENT)}), Path({str(directory)!r}), progress=False)"
    )


def test_resumes_after_kill_9(hub, tmp_path):
    hub.files[FILE] = CONTENT
    hub.delay = 0.05
    part = tmp_path / PART
    for _ in range(3):
        before = part.stat().st_size if part.exists() else 0
        child = subprocess.Popen([sys.executable, "-c", _script(tmp_path)])
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


def test_a_size_that_is_no_number_is_as_good_as_none(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    answers = download.head

    def head(url, headers):
        answer = answers(url, headers)
        answer.headers["X-Linked-Size"] = "\xb2"
        return answer

    monkeypatch.setattr(download, "head", head)
    arrives(UNPINNED, tmp_path)


def test_a_pin_decides_against_what_the_hub_declares_and_says_so(hub, tmp_path, caplog):
    hub.files[FILE] = CONTENT
    hub.declared[FILE] = "0" * 64
    assert arrives(PINNED, tmp_path).state == "pinned"
    assert f"declares sha256 {'0' * 64}" in caplog.text


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


def test_a_local_file_that_can_not_be_read_is_passed_over(hub, tmp_path, monkeypatch):
    (tmp_path / FILE).symlink_to("/proc/self/mem")  # a file, whose reading fails for root too
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="can not be read: Input/output error"):
        fetch(PINNED, tmp_path / "downloads", offline=True)
    hub.files[FILE] = CONTENT
    arrives(PINNED, tmp_path / "downloads")


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


def test_a_disk_that_fills_keeps_the_part_to_resume(hub, tmp_path):
    hub.files[FILE] = CONTENT
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, limits[1]))
    try:
        with pytest.raises(StorageError) as error:
            fetch(PINNED, tmp_path, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert all(error.value.fields[name] for name in ("source", "expected", "actual", "next"))
    kept = (tmp_path / PART).stat().st_size
    assert 600_000 < kept <= 700_000
    arrives(PINNED, tmp_path)
    assert hub.requests[-1].sent == len(CONTENT) - kept


def test_a_directory_that_can_not_be_made(hub, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="ROBUST_ZOO_CACHE"):
        fetch(PINNED, tmp_path / "file" / "downloads", progress=False)


def test_no_way_of_writing_is_a_storage_error(hub, tmp_path):
    hub.files[FILE] = CONTENT
    (tmp_path / PART).mkdir()
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


def test_a_proxy_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"ProxyError.*see http_proxy"):
        fetch(PINNED, tmp_path, progress=False)


def test_the_stand_in_serves_huggingface_hub_itself(hub):
    hub.files[FILE] = CONTENT
    code = f"""
import hashlib, json, pathlib, huggingface_hub as h
repo, revision = {PINNED.collection.repo!r}, {hub.revision!r}
path = h.hf_hub_download(repo, {FILE!r}, revision=revision)
tree = [(f.path, f.size, f.lfs.sha256) for f in h.list_repo_tree(repo, revision=revision)]
content = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
print(json.dumps([h.model_info(repo, revision=revision).sha, tree, content]))
"""
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(answer) == [hub.revision, [[FILE, len(CONTENT), SHA256]], SHA256]
