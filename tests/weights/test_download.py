"""Downloads against planted faults, over real HTTP on 127.0.0.1."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from arrivals import CONTENT, FILE, PART, PINNED, SHA256, UNPINNED, arrives

from robust_zoo.errors import StorageError, Unavailable, UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.weights import declared, transport
from robust_zoo.weights.sources import Source, fetch, is_offline, sources_for

pytestmark = pytest.mark.usefixtures("impatient")


def test_plan_is_ordered_and_pure(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    row = get("resnet50_linf_eps4")
    sources = sources_for(row, directories=[tmp_path], extra_mirrors=["https://a/b/", "https://c"], offline=False)
    url = f"http://hub.invalid/{row.hub.repo}/resolve/{row.hub.revision}/resnet50_linf_eps4.0.ckpt"
    assert sources == (
        Source("local", str(tmp_path / row.file)),
        Source("local", str(tmp_path / "Salman2020Do_R50.pt")),
        Source("local", str(tmp_path / "imagenet" / "Linf" / "Salman2020Do_R50.pt")),
        Source("hub", url),
        Source("mirror", "https://a/b/resnet50_linf_eps4.0.ckpt"),
        Source("mirror", "https://c/resnet50_linf_eps4.0.ckpt"),
    )
    offline = sources_for(row, directories=[tmp_path], extra_mirrors=["https://c"], offline=True)
    assert offline == sources[:3]


@pytest.mark.parametrize("value", [None, "", "https://huggingface.co/"])
def test_no_endpoint_is_the_public_one_whatever_was_set_at_import(monkeypatch, value):
    from huggingface_hub import constants

    earlier = "http://an.earlier.one"
    monkeypatch.setattr(constants, "ENDPOINT", earlier)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", earlier + "/{repo_id}/resolve/{revision}/{filename}")
    if value is not None:
        monkeypatch.setenv("HF_ENDPOINT", value)
    (source,) = sources_for(PINNED, directories=(), extra_mirrors=(), offline=False)
    assert source.location.startswith("https://huggingface.co/madrylab/")


def test_pinned_and_hub_declared(hub, tmp_path):
    hub.files[FILE] = CONTENT
    assert arrives(PINNED, tmp_path / "a").state == "pinned"
    assert arrives(UNPINNED, tmp_path / "b").state == "hub-declared"


def test_a_whole_part_is_not_fetched_again(hub, tmp_path):
    (tmp_path / PART).write_bytes(CONTENT)
    arrives(PINNED, tmp_path)
    assert hub.sent(FILE) == 0


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


def test_a_size_that_is_no_number_is_as_good_as_none(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    answers = declared.head

    def head(*asked):
        answer = answers(*asked)
        answer.headers["X-Linked-Size"] = "\xb2"
        return answer

    monkeypatch.setattr(declared, "head", head)
    arrives(UNPINNED, tmp_path)


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
    with pytest.raises(Unavailable, match="cannot be read: Input/output error"):
        fetch(PINNED, tmp_path / "downloads", offline=True)
    hub.files[FILE] = CONTENT
    arrives(PINNED, tmp_path / "downloads")


def test_a_black_hole_with_the_timeouts_users_have(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "blackhole", where="resolve", value="20")
    monkeypatch.delenv("ROBUST_ZOO_TIMEOUT")
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    started = time.monotonic()
    arrives(PINNED, tmp_path)
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
def test_a_timeout_that_is_none(hub, tmp_path, monkeypatch, value):
    hub.files[FILE] = CONTENT
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", value)
    with pytest.raises(UsageError, match="ROBUST_ZOO_TIMEOUT"):
        fetch(PINNED, tmp_path, progress=False)


def test_tokens_go_to_the_hub_only(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    arrives(UNPINNED, tmp_path / "a")
    hub.fail(FILE, "404", where="resolve", times=9)
    arrives(PINNED, tmp_path / "b")
    by_place = {r.where: "authorization" in {h.lower() for h in r.headers} for r in hub.requests}
    assert by_place == {"head": True, "resolve": True, "bytes": False, "mirror": False}


def test_what_counts_as_offline(monkeypatch):
    for variable in ("ROBUST_ZOO_OFFLINE", "HF_HUB_OFFLINE"):
        assert not is_offline()
        monkeypatch.setenv(variable, "1")
        assert is_offline()
        monkeypatch.setenv(variable, "0")


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


def test_the_stand_in_serves_huggingface_hub_itself(hub):
    hub.files[FILE] = CONTENT
    code = f"""
import hashlib, json, pathlib, huggingface_hub as h
repo, revision = {PINNED.hub.repo!r}, {hub.revision!r}
path = h.hf_hub_download(repo, {FILE!r}, revision=revision)
tree = [(f.path, f.size, f.lfs.sha256) for f in h.list_repo_tree(repo, revision=revision)]
content = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
print(json.dumps([h.model_info(repo, revision=revision).sha, tree, content]))
"""
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(answer) == [hub.revision, [[FILE, len(CONTENT), SHA256]], SHA256]


@pytest.mark.fault("stall")
def test_a_stalled_source_waits_for_its_next_turn(hub, tmp_path, monkeypatch, caplog):
    """The mirror goes on from the byte at once; a source alone is tried again, and named once when it never ends."""
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "stall", value="9", times=100)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    started = time.monotonic()
    arrives(PINNED, tmp_path)
    assert time.monotonic() - started < 2.5  # one timeout of 1 s, not five
    assert hub.sent(FILE) <= 1.1 * len(CONTENT) and "after 1 other source failed" in caplog.text
    monkeypatch.delenv("ROBUST_ZOO_MIRRORS")
    (tmp_path / "alone").mkdir()
    with pytest.raises(Unavailable) as error:
        fetch(PINNED, tmp_path / "alone", progress=False)
    assert error.value.source.count(hub.endpoint) == 1 and error.value.actual == "failed sources: 1"
    assert (tmp_path / "alone" / PART).stat().st_size > 0.9 * len(CONTENT)  # halves of what was left, five times
