"""Servers that do what no HTTP library offers: a table of what they say, byte by byte, over a plain socket.

A script takes the size of the file asked for and yields bytes to send, or numbers: seconds to wait. Those that never
end are cut off by the client, or by `stop`.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

Script = Callable[[int], Iterator[bytes | float]]
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
DRIP = 0.1  # seconds


def said(*parts: bytes | float) -> Script:
    """Just that."""
    return lambda size: iter(parts)


def endless(start: bytes, again: bytes, wait: float = 0.0) -> Script:
    """The start, then the same again and again."""

    def script(size: int) -> Iterator[bytes | float]:
        yield start.replace(b"SIZE", str(size).encode())
        again_ = again if wait else again * (1 + 65536 // len(again))
        for _ in itertools.count():
            yield again_
            yield wait

    return script


BOMB = gzip.compress(bytes(1 << 22))


def header(*lines: str, status: str = "200 OK", body: bytes = b"PK\x03\x04 no checkpoint") -> Script:
    """An answer with these header lines."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines))
    return said(head.encode("utf-8", "surrogateescape") + b"\r\n" + body)


SHORT = "Content-Length: 3"
# name -> (what it does, words of the cause, which are of ours or of http.client's and urllib3's)
SERVERS: dict[str, tuple[Script, str]] = {
    "body that drips": (endless(OK + b"Content-Length: SIZE\r\n\r\n", b"x", DRIP), "too slow"),
    "body without length that drips": (endless(OK + b"\r\n", b"x", DRIP), "too slow"),
    "head that drips": (endless(OK + b"X: ", b"y", DRIP), "Read timed out"),
    "status that drips": (endless(b"HTTP/1.1 ", b" ", DRIP), "Read timed out"),
    "head without end": (endless(OK, b"X-A: b\r\n"), "100 headers|without end"),
    "header without end": (endless(OK + b"X: ", b"y"), "header line|without end"),
    "100 Continue without end": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "without end"),
    "100 Continue that drips": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", DRIP), "Read timed out"),
    "chunk extension without end": (endless(CHUNKED + b"5;x=", b"y"), "without end|maximum allowed"),
    "chunk extension that drips": (endless(CHUNKED + b"5;x=", b"y", DRIP), "too slow"),
    "chunks of one byte that drip": (endless(CHUNKED, b"1\r\nx\r\n", DRIP), "too slow"),
    "chunks with long extensions": (endless(CHUNKED, b"1;" + b"y" * 9000 + b"\r\nx\r\n"), "without end"),
    "trailers without end": (endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"X-A: b\r\n"), "without end"),
    "trailers that drip": (endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"X-A: b\r\n", DRIP), "too slow"),
    "chunk below zero": (endless(CHUNKED + b"-1\r\n", b"x"), "below zero"),
    "chunk that is no number": (said(CHUNKED + b"zz\r\nx\r\n"), "InvalidChunkLength|invalid"),
    "chunk that is cut": (said(CHUNKED + b"ff\r\nx"), "IncompleteRead|bytes read"),
    "gzip": (header("Content-Encoding: gzip", body=gzip.compress(b"x")), "encoding gzip"),
    "gzip bomb": (header("Content-Encoding: gzip", body=BOMB), "encoding gzip"),
    "length below zero": (header("Content-Length: -1"), "sha256|bytes"),
    "length of 5000 digits": (header("Content-Length: " + "9" * 5000), "malformed|bytes"),
    "two lengths": (header("Content-Length: 5", "Content-Length: 6"), "InvalidHeader"),
    "header without a colon": (header("no colon\x1b[31m", SHORT, body=b"PK\3"), "sha256|bytes"),
    "header of a space": (header(" : x", SHORT, body=b"PK\3"), "sha256|bytes"),
    "header with NUL and CR": (header("X: a\0b\rContent-Length: 7", body=b"PK\3"), "IncompleteRead|bytes|sha256"),
    "head that is cut": (said(OK + b"Content-Le"), "sha256|bytes"),
    "206 without a range": (header(SHORT, status="206 Partial Content", body=b"PK\3"), "another range"),
    "206 of another range": (
        header(SHORT, "Content-Range: bytes 7-9/10", status="206 Partial Content", body=b"PK\3"), "another range"),
    "416": (header("Content-Length: 0", status="416 Range Not Satisfiable", body=b""), "HTTP 416"),
    "300": (header("Content-Length: 0", "Location: /x", status="300 Multiple Choices", body=b""), "HTTP 300"),
    "204": (header(status="204 No Content", body=b""), "HTTP 204"),
    "304": (header(status="304 Not Modified", body=b""), "HTTP 304"),
    "101": (header("Upgrade: h2c", status="101 Switching Protocols", body=b""), "HTTP 101"),
    "999": (header("Content-Length: 0", status="999 \x1b[31mred\x1b[0m \u202egnp.exe", body=b""), "HTTP 999"),
    "status that is none": (said(b"HTTP/1.1 abc OK\r\n\r\n"), "BadStatusLine"),
    "HTTP/0.9": (said(b"PK\x03\x04 just bytes"), "BadStatusLine"),
    "another protocol": (said(b"\x15\x03\x01\x00\x02\x02\x50"), "BadStatusLine|Connection"),
    "nothing": (said(), "RemoteDisconnected|Connection"),
    "message with an escape": (
        header("Content-Length: 0", "X-Error-Message: \x1b]0;owned\x07", status="403 No", body=b""), "HTTP 403"),
    "redirect with an endless body": (endless(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n", b"x"), "5 redirects"),
    "redirects without end": (
        header("Content-Length: 0", "Location: /again", status="307 Again", body=b""), "5 redirects"),
}  # fmt: skip


TARGETS = {
    "javascript:alert(1)": "redirects to a javascript",
    "file:///etc/passwd": "redirects to a file",
    "http://": "5 redirects",  # as urljoin has it, where it came from
    "//": "5 redirects",
    "http://[bad/x": "redirects to what is not",
    "http://u:pw-in-redirect@127.0.0.1:9/": "with a password",
    "http://127.0.0.1:9\\@evil.invalid/": "redirects to what is not",
    "http://b\xfccher..invalid/": "cannot be used",
    "http://b\u200bcher.invalid/": "redirects to what is not",
    "http://" + "x" * 9000 + "/": "cannot be used|Connection",
    "http://127.0.0.1:99999/": "redirects to what is not",
    "http://\x1b[31m.invalid/": "redirects to what is not",
    "https://127.0.0.1:9/": "Connection",
}
SERVERS |= {
    f"redirect to {target!r:.30}": (
        header("Content-Length: 0", f"Location: {target}", status="302 Found", body=b""),
        cause,
    )
    for target, cause in TARGETS.items()
}


class HostileServer:
    """A server on 127.0.0.1 that says one script to whoever asks. A context manager; `address` is its base."""

    def __init__(self, script: Script, size: int, tls: ssl.SSLContext | None = None) -> None:
        self.script, self.size, self.tls = script, size, tls
        self.sent, self.requests = 0, []

    def __enter__(self) -> HostileServer:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http{'s' if self.tls else ''}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._ended = False
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=self._socket.accept()[:1], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            connection if self.tls is None else self.tls.wrap_socket(connection, server_side=True) as connection,
        ):
            self.requests.append(connection.recv(65536))
            for part in self.script(self.size):
                if self._ended:
                    return
                if isinstance(part, bytes):
                    connection.sendall(part)
                    self.sent += len(part)
                else:
                    time.sleep(part)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
