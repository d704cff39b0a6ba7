"""`robust-zoo sources`: where files are looked for; with --check, what each source says, planted fault by fault."""

import hashlib
import json
import socket
import time
from collections import Counter
from dataclasses import replace
from threading import Lock

import pytest
from arrivals import CONTENT, PINNED, SHA256
from fault_table import command_here, refused
from shared_rows import DRIVE, DRIVE_ID, FILE, added, name_of, row

from robust_zoo.registry.places import place
from robust_zoo.weights import watch
from robust_zoo.weights.http import Told
from robust_zoo.weights.whereabouts import source_at

pytestmark = pytest.mark.usefixtures("impatient")

NAME = name_of("two")


@pytest.fixture
def two(hub, tmp_path):
    """A row on Drive and on Nextcloud, whose hash and size are known; nothing is wrong yet."""
    hub.files[FILE] = CONTENT
    hub.drive[DRIVE_ID] = FILE
    hub.cloud = f"{hub.bytes_origin}/public.php/dav/files/RQBEXagC7R7XweX/{FILE}"
    with added(tmp_path, row("two", f'["{DRIVE}", "{hub.cloud}"]', sha256=SHA256, size=len(CONTENT))):
        yield hub


def test_sources_are_listed_in_their_order_with_what_is_known(two, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(tmp_path))
    lines = command_here("sources", NAME).stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["local", "gdrive", "http"]
    assert all(f"  1,500,000 bytes  {SHA256[:12]}  " in line for line in lines)
    assert lines[1].endswith(f"  {DRIVE} (ROBUST_ZOO_DRIVE)") and lines[2].endswith(two.cloud) and not two.requests
    found = json.loads(command_here("sources", NAME, "--json").stdout)
    assert found[1] == {
        "name": NAME, "kind": "gdrive", "source": DRIVE, "variable": "ROBUST_ZOO_DRIVE", "size": 1_500_000,
        "sha256": SHA256,
    }  # fmt: skip


@pytest.mark.parametrize("head", ["", "nohead"])
def test_what_is_where_it_was_is_ok_and_not_fetched(head, two):
    for where in ("drive", "nextcloud"):
        two.fail(FILE, head, where=where, times=9)
    result = command_here("sources", NAME, "--check")
    assert result.returncode == 0 and "2 of 2 sources ok, of 1 checkpoint" in result.stderr
    assert [line.split()[:5] for line in result.stdout.splitlines()] == [
        ["ok", NAME, kind, "1,500,000", "bytes"] for kind in ("gdrive", "http")
    ]
    assert two.sent(FILE) == (2 if head else 0)


PLANTED = {
    "404": ("dead", "HTTP 404"), "410": ("dead", "HTTP 410"), "403": ("refused", "HTTP 403"),
    "429": ("no answer", "HTTP 429"), "blackhole": ("no answer", "timed out"),
    "quota": ("quota", "too many people have fetched it today"), "virus": ("page", "one more click"),
    "html": ("page", '("Sign in")'), "longer": ("other size", "1,504,000 bytes instead of 1,500,000"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_wrong_has_a_word_and_an_error(kind, two, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", "0.3")
    two.fail(FILE, kind, where="drive", times=9, value={"429": "3600", "blackhole": "1"}.get(kind, ""))
    verdict, said = PLANTED[kind]
    error = refused(1, "sources", NAME, "--check", run=command_here)
    assert f"error: {verdict}: a source of {NAME}" in error and said in error and DRIVE in error
    assert f"robust-zoo download {NAME}   is served by {two.cloud}" in error and "1 of 2 sources ok" in error
    found = json.loads(command_here("sources", NAME, "--check", "--json").stdout)
    assert [one["verdict"] for one in found] == [verdict, "ok"] and said in found[0]["detail"]
    assert found[1]["said"] == {"size": 1_500_000, "sha256": None}


def test_what_the_hub_declares_is_compared(hub):
    hub.files[PINNED.file], hub.declared[PINNED.file] = CONTENT, "0" * 64
    seen = watch.look(PINNED, source_at(PINNED.sources[0]))
    assert (seen.verdict, seen.size, seen.sha256) == ("other hash", len(CONTENT), "0" * 64) and SHA256 in seen.detail
    hub.declared.clear()
    assert watch.look(PINNED, source_at(PINNED.sources[0])).verdict == "ok"


def test_a_source_with_a_file_of_its_own_is_not_held_against_the_rows_size(two):
    two.files[FILE] = b"another file"
    own = place(two.cloud, hashlib.sha256(b"another file").hexdigest())
    assert watch.look(PINNED, source_at(own)).verdict == "ok"
    assert watch.look(PINNED, source_at(replace(own, sha256=None))).verdict == "other size"


def test_a_host_that_is_gone_is_dead_where_others_answer(hub, tmp_path):
    hub.files[FILE] = CONTENT
    gone, there = f"https://weights.invalid/{FILE}", f"{hub.mirror}/{FILE}"
    rows = [row("gone", f'["{gone}"]', sha256=SHA256), row("both", f'["{gone}", "{there}"]', sha256=SHA256)]
    with added(tmp_path, *rows):  # where nobody answers, it may be this machine that has no network
        for variant, verdict, code in (("gone", "no answer", 3), ("both", "dead", 1)):
            said = refused(code, "sources", name_of(variant), "--check", run=command_here)
            assert f"error: {verdict}: a source of {name_of(variant)}" in said


@pytest.mark.parametrize(("code", "verdict"), [(socket.EAI_NONAME, "dead"), (socket.EAI_AGAIN, "no answer")])
def test_a_name_server_that_is_away_says_nothing_of_a_host(code, verdict, monkeypatch):
    def getaddrinfo(*_, **__):
        raise socket.gaierror(code, "in words")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    seen = watch.look(PINNED, source_at(place("https://weights.example/x")))
    assert (seen.verdict, seen.answered) == (verdict, False)


def test_offline_nothing_is_asked(two, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_OFFLINE", "1")
    assert "no socket was opened" in refused(2, "sources", NAME, "--check", fields=4, run=command_here)
    assert not two.requests


def test_one_host_is_asked_one_thing_at_a_time(monkeypatch):
    lock, now, most = Lock(), Counter(), Counter()

    def told(url, credentials):
        host = url.split("/")[2]
        with lock:
            now[host] += 1
            now["all"] += 1
            most.update({key: max(0, now[key] - most[key]) for key in (host, "all")})
        time.sleep(0.02)
        with lock:
            now[host] -= 1
            now["all"] -= 1
        return Told(None, None)

    monkeypatch.setattr(watch, "told", told)
    asked = [(PINNED, source_at(place(f"https://host{i % 3}/{i}"))) for i in range(12)]
    ticks = []
    seen = watch.look_at(asked, tick=lambda: ticks.append(1))
    assert [one.source for one in seen] == [source for _, source in asked] and len(ticks) == 12
    assert {most[f"host{i}"] for i in range(3)} == {1} and most["all"] == 3
