"""The failure matrix (tests/support/fault_table.py), third part: servers that mean harm, and what they are told."""

import base64
import hashlib
import json
import re
import ssl
import subprocess
import time
import traceback
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from arrivals import CONTENT, FILE, PINNED, SHA256, UNPINNED, arrives
from fault_table import command, fault, refused
from hostile_servers import OK, SERVERS, HostileServer, endless, header
from safetensors.numpy import save as save_file
from verbs import run_to

from robust_zoo import __version__
from robust_zoo.errors import Unavailable, VerificationFailed
from robust_zoo.weights.cache import store
from robust_zoo.weights.receipts import Receipt
from robust_zoo.weights.sources import fetch
from robust_zoo.weights.verify import provenance

pytestmark = pytest.mark.usefixtures("impatient")


def row_of(name):
    if "drip" in name or "without end" in name or "long extensions" in name or "endless" in name:
        return "drip"
    return "malformed"


@pytest.mark.parametrize("name", [pytest.param(name, marks=fault(row_of(name))) for name in SERVERS])
def test_a_hostile_server_ends_and_the_next_source_has_its_turn(name, hub, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", "0.4")
    script, cause = SERVERS[name]
    with HostileServer(script, len(CONTENT)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        started = time.monotonic()
        with pytest.raises((Unavailable, VerificationFailed)) as error:
            fetch(PINNED, tmp_path / "alone", progress=False)
        said = str(error.value)
        assert server.requests and re.search(cause, error.value.source), said
        assert said.replace("\n", "").isprintable() and "pw-in-redirect" not in said and len(said) < 2500
        assert all(error.value.fields.values())
        assert not [
            entry for entry in caplog.records if entry.name.startswith("urllib3") and entry.levelname != "DEBUG"
        ]
        hub.files[FILE] = CONTENT
        monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
        arrives(PINNED, tmp_path / "mirrored")
        assert time.monotonic() - started < 20 and server.sent < 64 << 20


BY_PROXY = "http://hub.invalid"  # over plain http, to a proxy of ours that hears all that is said


@pytest.fixture
def overheard(hub, monkeypatch):
    """The stand-in hub, asked as http://hub.invalid through a proxy: itself."""
    hub.files[FILE] = CONTENT
    monkeypatch.setenv("HF_ENDPOINT", BY_PROXY)
    monkeypatch.setenv("http_proxy", hub.endpoint)
    return hub


def authorization(hub):
    """Where requests came to, and whether they brought credentials."""
    return [(r.where, next((v.split()[0] for h, v in r.headers.items() if h.lower() == "authorization"), ""))
            for r in hub.requests]  # fmt: skip


@fault("drip")
@pytest.mark.parametrize(("wait", "least", "arrived"), [(0.05, "", True), (0.2, "", False), (0.2, "100", True)])
def test_a_slow_network_is_no_hostile_server(hub, tmp_path, monkeypatch, wait, least, arrived):
    """20 kB/s, then 5 kB/s, of which 10 are asked by default."""
    content = CONTENT[:20_000]

    def slowly(size):
        yield OK + f"Content-Length: {len(content)}\r\n\r\n".encode()
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]
            yield wait

    row = replace(PINNED, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", "0.5")
    monkeypatch.setenv("ROBUST_ZOO_MIN_RATE", least)
    with HostileServer(slowly, len(content)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        if arrived:
            assert fetch(row, tmp_path, progress=False).path.read_bytes() == content
        else:
            with pytest.raises(Unavailable, match=r"too slow(.*\n)+.*ROBUST_ZOO_MIN_RATE"):
                fetch(row, tmp_path, progress=False)


@fault("secret")
def test_nothing_is_told_over_plain_http(overheard, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert arrives(PINNED, tmp_path / "a").state == "pinned"  # the hash decides, whoever said the bytes
    monkeypatch.setenv("HF_ENDPOINT", BY_PROXY.replace("//", "//user:pass-word@"))
    arrives(PINNED, tmp_path / "b")
    assert {told for _, told in authorization(overheard)} == {""} and "pass-word" not in str(overheard.requests)


@fault("hub")
def test_a_hash_that_was_said_over_plain_http_is_none(overheard, tmp_path):
    with pytest.raises(Unavailable, match="counts over https only"):
        fetch(UNPINNED, tmp_path, progress=False)


@fault("secret")
def test_this_machine_is_asked_without_a_proxy(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY")
    arrives(PINNED, tmp_path)
    assert authorization(hub) == [("resolve", "Bearer"), ("bytes", "")]


@fault("token")
@pytest.mark.parametrize("status", ["401", "403"])
@pytest.mark.parametrize("place", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "file"])
def test_a_refused_token_is_said_and_left_out_once(hub, tmp_path, monkeypatch, status, place):
    hub.files[FILE] = CONTENT
    if place == "file":
        place = str(tmp_path / "token")
        (tmp_path / "token").write_text("hf_secret\n")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", place)
    else:
        monkeypatch.setenv(place, "hf_secret")
    hub.fail(FILE, status, where="head")
    hub.fail(FILE, status, where="resolve")
    assert arrives(UNPINNED, tmp_path / "a").state == "hub-declared"
    assert [told for _, told in authorization(hub)] == ["Bearer", "", "Bearer", "", ""]
    hub.fail(FILE, status, where="resolve", times=2)
    with pytest.raises(Unavailable) as error:
        fetch(PINNED, tmp_path / "b", progress=False)
    assert error.value.source.count(f"HTTP {status}") == 2 and f"the token of {place}" in error.value.source
    assert place in error.value.next and "hf_secret" not in str(error.value)


@fault("token")
def test_an_expired_token_is_named(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    hub.fail("resnet18_l2_eps3.ckpt", "401", where="resolve")
    said = refused(3, "download", "resnet18_l2_eps3", "--quiet")
    assert authorization(hub) == [("resolve", "Bearer"), ("resolve", "")]
    assert "HTTP 401 Unauthorized with the token of HF_TOKEN; HTTP 404 Not Found without it" in said
    assert "renew or remove the token of HF_TOKEN; then robust-zoo download resnet18_l2_eps3" in said
    assert "tries again" not in said and "hf_expired" not in said


@fault("redirect")
@pytest.mark.parametrize("tail", ["?a=@b", "?signature=" + "x" * 3000, "#part", "?a b", "?b\xfccher=\u540d"])
def test_sound_redirects_are_followed(hub, tmp_path, monkeypatch, tail):
    hub.files[FILE] = CONTENT
    answer = header("Content-Length: 0", f"Location: {hub.mirror}/{FILE}{tail}", status="307 There", body=b"")
    with HostileServer(answer, 0) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        arrives(PINNED, tmp_path)


@fault("token")
def test_without_a_token_it_is_said_how_to_give_one(hub, tmp_path, monkeypatch):
    hub.fail(FILE, "401", where="resolve", times=9)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    hub.fail(FILE, "403", where="mirror", times=9)
    with pytest.raises(Unavailable) as error:
        fetch(PINNED, tmp_path, progress=False)
    assert error.value.source.count("no token or password") == 2
    assert (
        "set HF_TOKEN" in error.value.next
        and "@ before the host of the address in ROBUST_ZOO_MIRRORS" in error.value.next
    )


@fault("token")
@pytest.mark.parametrize("token", ["hf_s\xe9cret", "hf secret", "hf_\x1b[31m", "hf_\u202e"])
def test_a_token_that_is_none_is_not_sent(hub, tmp_path, monkeypatch, token):
    hub.files[FILE] = CONTENT
    monkeypatch.setenv("HF_TOKEN", token)
    arrives(PINNED, tmp_path / "a")
    assert {told for _, told in authorization(hub)} == {""}
    hub.fail(FILE, "401", where="resolve", times=9)
    with pytest.raises(Unavailable) as error:
        fetch(PINNED, tmp_path / "b", progress=False)
    assert "correct the token of HF_TOKEN" in error.value.next and token not in str(error.value)


@fault("secret")
def test_a_password_in_an_address_is_used_where_it_belongs(hub, tmp_path, monkeypatch, caplog):
    hub.files[FILE] = CONTENT
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint.replace("//", "//name:p%40ss-word@"))
    fetched = arrives(PINNED, tmp_path / "a")
    told = {r.where: r.headers.get("Authorization") for r in hub.requests}
    assert told == {"resolve": f"Basic {base64.b64encode(b'name:p@ss-word').decode()}", "bytes": None}
    hub.fail(FILE, "404", where="resolve", times=9)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror.replace("//", "//name:pass-word@") + "?token=query-secret")
    mirrored = arrives(PINNED, tmp_path / "b")
    assert hub.requests[-1].headers["Authorization"].startswith("Basic")
    assert mirrored.source == f"{hub.mirror}/{FILE}?..." and "after 1 other" in caplog.text
    assert not re.search("ss-word|query-secret|hf_secret", fetched.source + mirrored.source + caplog.text)


SECRET = "pa55-word"
ADDRESSES = {  # of what a variable is given -> what the error must name
    "HF_ENDPOINT": [f"http://user:{SECRET}@127.0.0.1:9", f"user:{SECRET}@127.0.0.1:9", f"https://u:{SECRET}@[bad",
                    f"http://u:a#{SECRET}@h", f"http://u:12?{SECRET}@h", f"ftp://u:{SECRET}@h", "nonsense", "http://",
                    f"https://127.0.0.1:9/?token={SECRET}", "http://h:99999", "http://h\\@127.0.0.1:9", "http://\x1b[31m",
                    "https://b\xfccher..invalid"],
    "ROBUST_ZOO_MIRRORS": [f"https://user:{SECRET}@127.0.0.1:9/a", f"htp://u:{SECRET}@h", f"https://127.0.0.1:9/?sig={SECRET}",
                           "127.0.0.1:9"],
    "https_proxy": [f"http://user:{SECRET}@127.0.0.1:9", f"http://user:a#{SECRET}@127.0.0.1:9", f"socks5://u:{SECRET}@h:1",
                    f"http://u:{SECRET}@[bad"],
    "REQUESTS_CA_BUNDLE": ["/nowhere/ca.pem", __file__],
    "SSL_CERT_FILE": ["/nowhere/ca.pem"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param(variable, value, marks=fault("secret"))
        for variable, values in ADDRESSES.items()
        for value in values
    ],
)
def test_the_variable_is_named_and_no_secret(variable, value, hub, tmp_path, monkeypatch):
    secure = hub.endpoint.replace("http", "https") if "CERT" in variable or "CA" in variable else "https://hub.invalid"
    monkeypatch.setenv("HF_ENDPOINT", secure)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(Unavailable) as error:
        fetch(PINNED, tmp_path, progress=False)
    said = str(error.value)
    assert variable in error.value.source and SECRET not in said and said.replace("\n", "").isprintable()
    assert "".join(traceback.format_exception(error.value)).count(SECRET) == 0


@fault("token")
def test_a_server_that_repeats_the_token(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-of-mine")
    echo = header(
        "Content-Length: 0", "X-Error-Message: secret-of-mine or hf_abcdefghijkl \u202e", status="401 No", body=b""
    )
    with HostileServer(echo, 0) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        with pytest.raises(Unavailable) as error:
            fetch(PINNED, tmp_path, progress=False)
    assert len(server.requests) == 2 and "*** or hf_***" in str(error.value)
    assert not re.search("secret-of-mine|hf_abc|\u202e", str(error.value))


@fault("corrupted")
def test_wrong_bytes_of_the_only_source_are_fetched_once_more(hub, tmp_path):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "flip")
    arrives(PINNED, tmp_path / "a")
    assert [r.where for r in hub.requests] == ["resolve", "bytes"] * 2
    hub.requests.clear()
    hub.fail(FILE, "flip", times=9)
    with pytest.raises(VerificationFailed):
        fetch(PINNED, tmp_path / "b", progress=False)
    assert [r.where for r in hub.requests] == ["resolve", "bytes"] * 2


@fault("hub")
@pytest.mark.parametrize("lines", [
    ["X-Linked-Size: " + "9" * 5000], ["X-Linked-Size: -1"], ["X-Linked-Size: 9", "X-Linked-Size: 10"],
    ["X-Linked-Size: 999999999999999"],
])  # fmt: skip
def test_sizes_that_the_hub_cannot_mean(lines, hub, tmp_path, monkeypatch):
    answer = header("Content-Length: 0", f'X-Linked-Etag: "{SHA256}"', *lines, status="302 Found", body=b"")
    with HostileServer(answer, 0) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        hub.files[FILE] = CONTENT
        monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
        assert arrives(UNPINNED, tmp_path).state == "hub-declared"


def test_requests_say_who_asks(hub, tmp_path):
    hub.files[FILE] = CONTENT
    arrives(UNPINNED, tmp_path)
    assert {r.headers["User-Agent"] for r in hub.requests} == {f"robust_zoo/{__version__}"}


@fault("secret")
def test_a_password_in_a_receipt_is_not_printed(own_machine, tmp_path, monkeypatch):
    """Earlier versions kept the address of a mirror as it was given."""
    weights = save_file({"w": np.zeros(1, np.float32)}, metadata=provenance(UNPINNED, SHA256))
    finished = tmp_path / "finished.tmp"
    finished.write_bytes(weights)
    source = f"https://user:{SECRET}@mirror.example/\x1b[31m/{FILE}?token={SECRET}"
    receipt = Receipt(
        UNPINNED.name, hashlib.sha256(weights).hexdigest(), len(weights), "hub-declared", source, FILE, SHA256, ""
    )
    own_machine.mkdir()
    path = store(finished, receipt, own_machine).with_suffix(".json")
    assert path.read_text().count(SECRET) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", source.replace("\x1b[31m", ""))
    verbs = (["verify"], ["cache", "ls"], ["info", UNPINNED.name], ["doctor"], ["bundle", UNPINNED.name, "-o", "b.tar"])
    said = [run_to(*arguments) for arguments in verbs]
    assert re.search(r"https://mirror\.example/\S+\?\.\.\.\n", said[2].stdout)
    assert "https://mirror.example/\\x1b[31m/" in said[3].stdout
    everything = "".join(result.stdout + result.stderr for result in said)
    assert SECRET not in everything and "\x1b" not in everything
    assert SECRET.encode() not in Path("b.tar").read_bytes()


@fault("malformed", "drip")
def test_all_of_them_and_the_command(hub, monkeypatch):
    """One command that meets every hostile server, and the verbs that look at what is left."""
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", "0.4")
    with ExitStack() as stack:
        servers = [stack.enter_context(HostileServer(script, 1000)) for script, _ in SERVERS.values()]
        monkeypatch.setenv("ROBUST_ZOO_MIRRORS", " ".join(server.address for server in servers))
        result = command("download", "resnet18_l2_eps3", "--quiet", "--json", timeout=120)
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert result.stderr.replace("\n", "").isprintable()
    said = json.loads(result.stdout)[0]["error"]["source"]  # on stderr, its middle is left out
    assert all(server.address in said and server.requests for server in servers) and len(servers) >= 40
    for arguments in (["verify"], ["doctor"], ["cache", "ls"], ["cache", "prune"]):
        result = command(*arguments)
        assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A key and a certificate of 127.0.0.1, which is trusted."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@fault("drip")
@pytest.mark.parametrize("name", ["body that drips", "head that drips", "trailers that drip", "trailers without end"])
def test_the_same_over_https(name, certificate, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", "0.4")
    script, cause = SERVERS[name]
    with HostileServer(script, len(CONTENT), tls=certificate) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        started = time.monotonic()
        with pytest.raises(Unavailable) as error:
            fetch(PINNED, tmp_path, progress=False)
    assert re.search(cause, error.value.source), error.value
    assert time.monotonic() - started < 8 and server.sent < 64 << 20


@fault("drip")
@pytest.mark.parametrize("start", [b"\x16\x03\x03\x40\x00\x02", b""])
def test_a_handshake_that_drips(start, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", "0.4")
    with HostileServer(endless(start, b"\x00", 0.1), 0) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address.replace("http", "https"))
        started = time.monotonic()
        with pytest.raises(Unavailable):
            fetch(PINNED, tmp_path, progress=False)
    assert time.monotonic() - started < 5


@fault("drip", "unreachable")
@pytest.mark.parametrize(
    "name", ["head that drips", "head without end", "100 Continue without end", "HTTP/0.9", "999", "nothing"]
)
def test_a_hostile_proxy(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", "0.4")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    with HostileServer(SERVERS[name][0], 0) as server:
        monkeypatch.setenv("https_proxy", server.address.replace("//", f"//user:{SECRET}@"))
        started = time.monotonic()
        with pytest.raises(Unavailable) as error:
            fetch(PINNED, tmp_path, progress=False)
    assert server.requests and time.monotonic() - started < 8
    assert "https_proxy" in error.value.source and SECRET not in str(error.value)
    assert str(error.value).replace("\n", "").isprintable()
