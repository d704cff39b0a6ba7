"""The failure matrix (tests/support/fault_table.py), first part: what hubs, mirrors and networks do, over real HTTP."""

import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from arrivals import CONTENT, FILE, PART, PINNED, SHA256, UNPINNED, arrives, nothing_stored
from fault_table import fault, refused

from robust_zoo.errors import Unavailable, VerificationFailed
from robust_zoo.weights.sources import fetch

pytestmark = pytest.mark.usefixtures("impatient")

ROBUST = "resnet18_x0_25_cifar10_l2_eps0_5"


# --- What a source can do ------------------------------------------------------------------------------------

# row of the table, kind of fault, where, its value, exit code when it lasts and there is no other source
LASTING = [
    ("dead", "404", "resolve", "", 3), ("dead", "403", "resolve", "", 3), ("dead", "409", "bytes", "", 3),
    ("dead", "410", "bytes", "", 3), ("busy", "429", "resolve", "3600", 3), ("busy", "408", "bytes", "3600", 3),
    ("5xx", "500", "bytes", "", 3), ("5xx", "503", "resolve", "", 3),
    ("redirect", "loop", "resolve", "", 3), ("redirect", "elsewhere", "resolve", "ftp://127.0.0.1/x", 3),
    ("redirect", "elsewhere", "resolve", "http://[bad/x", 3),
    ("redirect", "elsewhere", "resolve", "http://127.0.0.1:9/x\r\nSet-Cookie: a=b", 3),
    ("black hole", "blackhole", "resolve", "3", 3), ("black hole", "blackhole", "bytes", "3", 3),
    ("stall", "stall", "bytes", "2", 3), ("cut", "cut", "bytes", "", 3), ("cut", "rst", "bytes", "", 3),
    ("html", "html", "resolve", "", 3), ("html", "html", "bytes", "", 3), ("html", "disguised", "bytes", "", 3),
    ("length", "416", "bytes", "", 3), ("length", "longer", "bytes", "", 3), ("length", "lyinglength", "bytes", "", 3),
    ("length", "length", "bytes", "\xb2", 3), ("length", "length", "bytes", str(10**10), 3),
    ("length", "endless", "bytes", "", 3),
    ("corrupted", "flip", "bytes", "", 1), ("corrupted", "swap", "bytes", "", 1),
]  # fmt: skip
counted = pytest.mark.parametrize(
    ("kind", "where", "value", "code"),
    [pytest.param(*case, marks=fault(key), id=f"{case[0]}-{case[1]}-{i}") for i, (key, *case) in enumerate(LASTING)],
)


@counted
def test_the_command_says_what_happened(kind, where, value, code, hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, kind, where=where, value=value, times=100)
    said = refused(code, "download", UNPINNED.name, "--quiet")
    assert hub.endpoint in said and nothing_stored(tmp_path / "zoo-cache")
    if code == 1:
        assert SHA256 in said and said.count("sha256") > 2
    assert hub.sent(FILE) < 2 * len(CONTENT) + (4 << 20)  # an endless body fills the sockets' buffers, no more


@counted
def test_a_mirror_steps_in(kind, where, value, code, hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, kind, where=where, value=value, times=100)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    started = time.monotonic()
    arrives(PINNED, tmp_path)
    assert time.monotonic() - started < (15 if kind == "stall" else 5)


@counted
def test_the_same_from_a_mirror(kind, where, value, code, hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "404", where="resolve", times=100)
    hub.fail(FILE, kind, where="mirror", value=value, times=100)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    with pytest.raises(VerificationFailed if code == 1 else Unavailable) as error:
        fetch(PINNED, tmp_path, progress=False)
    assert all(error.value.fields.values()) and error.value.exit_code == code
    assert hub.endpoint in error.value.source and hub.mirror in error.value.source
    assert not [p for p in tmp_path.glob("*") if p.is_file() and p.suffix != ".part"]


PASSING = [
    ("busy", "429", "resolve", "0.1"), ("busy", "408", "bytes", "0.1"), ("5xx", "500", "bytes", ""),
    ("5xx", "503", "resolve", ""), ("stall", "stall", "bytes", "2"), ("cut", "cut", "bytes", ""),
    ("cut", "rst", "bytes", ""), ("length", "nolength", "bytes", ""), ("html", "disguised", "bytes", ""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "where", "value"), [pytest.param(*case, marks=fault(key)) for key, *case in PASSING])
def test_what_passes_is_sat_out(hub, tmp_path, kind, where, value):
    hub.files[FILE] = CONTENT
    hub.delay = 0.005  # a reset discards what the kernel had received and the client had not read yet
    hub.fail(FILE, kind, where=where, value=value)
    if kind == "disguised":  # a login page came instead, once
        with pytest.raises(Unavailable):
            fetch(PINNED, tmp_path, progress=False)
    arrives(PINNED, tmp_path)
    assert hub.sent(FILE) <= 1.1 * len(CONTENT) + 100 or kind == "disguised"


@fault("html")
def test_a_part_survives_a_login_page(hub, tmp_path):
    hub.files[FILE] = CONTENT
    (tmp_path / PART).write_bytes(CONTENT[:1_000_000])
    hub.fail(FILE, "disguised", times=100)
    with pytest.raises(Unavailable, match="HTML"):
        fetch(PINNED, tmp_path, progress=False)
    assert (tmp_path / PART).read_bytes() == CONTENT[:1_000_000]


@fault("length")
def test_an_ignored_range_starts_over(hub, tmp_path):
    hub.files[FILE] = CONTENT
    (tmp_path / PART).write_bytes(CONTENT[:700_000])
    hub.fail(FILE, "norange")
    arrives(PINNED, tmp_path)


@fault("changed")
@pytest.mark.parametrize("part", [b"another file's beginning" * 1000, CONTENT + b"x", CONTENT[:-1] + b"\0"])
def test_a_file_that_changed_under_a_resume(hub, tmp_path, part):
    hub.files[FILE] = CONTENT
    (tmp_path / PART).write_bytes(part)
    arrives(PINNED, tmp_path)


@fault("hub")
@pytest.mark.parametrize(("kind", "value", "said"), [
    ("commit", "0" * 40, "revision 0000"), ("etag", "not-a-hash", "declares no sha256"), ("404", "", "HTTP 404"),
])  # fmt: skip
def test_the_hub_must_answer_for_the_pinned_revision_with_a_hash(hub, tmp_path, kind, value, said):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, kind, where="head", value=value, times=9)
    assert said in refused(3, "download", UNPINNED.name, "--quiet")


@fault("hub")
def test_a_wrong_hash_of_the_hub(hub, tmp_path, caplog):
    hub.files[FILE], hub.declared[FILE] = CONTENT, "0" * 64
    assert "0" * 64 in refused(1, "download", UNPINNED.name, "--quiet")
    assert arrives(PINNED, tmp_path).state == "pinned"  # the row's hash decides, and it says so
    assert f"declares sha256 {'0' * 64}" in caplog.text


# --- Sources that are not there ------------------------------------------------------------------------------


def nowhere():
    """A port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


ABSENT = {
    "refused": (lambda hub: {"HF_ENDPOINT": f"http://{nowhere()}"}, "refused"),
    "unknown host": (lambda hub: {"HF_ENDPOINT": "http://hub.invalid"}, "hub.invalid"),
    "not TLS": (lambda hub: {"HF_ENDPOINT": hub.endpoint.replace("http", "https")}, "SSLError"),
    "proxy": (lambda hub: {"HF_ENDPOINT": "http://hub.invalid", "http_proxy": f"http://{nowhere()}"}, "http_proxy"),
}


@fault("unreachable")
@pytest.mark.parametrize("kind", ABSENT)
def test_absent_sources_are_left_at_once(hub, tmp_path, monkeypatch, kind):
    hub.files[FILE] = CONTENT
    plant, cause = ABSENT[kind]
    for name, value in plant(hub).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ROBUST_ZOO_TIMEOUT")
    said = refused(3, "download", UNPINNED.name, "--quiet")
    assert cause in next(line for line in said.splitlines() if "source:" in line)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    started = time.monotonic()
    arrives(PINNED, tmp_path)
    assert time.monotonic() - started < 5


@fault("unreachable")
def test_what_did_not_answer_goes_last_for_the_rest_of_the_run(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "blackhole", where="resolve", value="3", times=9)
    monkeypatch.setenv("ROBUST_ZOO_MIRRORS", hub.mirror)
    arrives(PINNED, tmp_path / "a")
    hub.requests.clear()
    arrives(PINNED, tmp_path / "b")
    assert [r.where for r in hub.requests] == ["mirror"]
    hub.fail(FILE, "404", where="mirror", times=9)
    hub.faults[FILE] = hub.faults[FILE][1:]  # it is back, and still tried
    arrives(PINNED, tmp_path / "c")


class _ToHttp(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", self.server.target)
        self.end_headers()

    def log_message(self, *_):
        pass


@fault("redirect")
def test_https_is_never_left_for_http(hub, tmp_path, monkeypatch):
    hub.files[FILE] = CONTENT
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), _ToHttp)
    server.target, server.socket = f"{hub.mirror}/{FILE}", context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("HF_ENDPOINT", f"https://127.0.0.1:{server.server_port}")
    with pytest.raises(Unavailable, match="from https to http"):
        fetch(PINNED, tmp_path / "downloads", progress=False)
    server.shutdown()
    server.server_close()
    assert not hub.requests


@fault("offline")
def test_offline_opens_no_socket(tmp_path, monkeypatch):
    def no_sockets(*_):
        raise AssertionError("a socket was opened")

    said = refused(3, "download", UNPINNED.name, "--offline")
    assert FILE in said and " MB" in said and "robust-zoo download" in said
    monkeypatch.setattr(socket.socket, "connect", no_sockets)
    for row in (PINNED, UNPINNED):
        with pytest.raises(Unavailable, match="offline"):
            fetch(row, tmp_path, offline=True)


@fault("clock")
@pytest.mark.parametrize("years", [-60, 10])
def test_the_time_of_day_does_not_matter(hub, tmp_path, monkeypatch, years):
    hub.files[FILE] = CONTENT
    hub.fail(FILE, "cut")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + years * 3.15e7)
    arrives(PINNED, tmp_path)
