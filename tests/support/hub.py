"""A stand-in for the Hugging Face hub on 127.0.0.1: two origins, LFS redirects, and faults to order.

Origin A answers `/{repo}/resolve/{revision}/{file}` as the hub does (commit, ETag, size, a redirect to origin B for
the bytes), and `/api/models/{repo}`, `.../revision/{revision}` and `.../tree/{revision}`, so that huggingface_hub's own
clients work; origin B serves the bytes. `/mirror/{file}` on B is a plain mirror. Both speak as hosts that are no hub do
(shares.py). A fault belongs to a file's name and is spent after `times` answers.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import shares


@dataclass
class Fault:
    """kind: see Handler. where: "head", "resolve", "bytes", "mirror", or a name of shares.py."""

    kind: str
    where: str = "bytes"
    times: int = 1
    value: str = ""


@dataclass
class Request:
    method: str
    where: str
    file: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


@dataclass
class Hub:
    """files: name -> content, drive: id -> name. `declared` overrides the sha256 that origin A declares for a file."""

    files: dict[str, bytes] = field(default_factory=dict)
    revision: str = "3f04ac96136001cfe402022100728124cbe3fac5"
    declared: dict[str, str] = field(default_factory=dict)
    drive: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    delay: float = 0.0  # seconds between chunks of 64 kB

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What answers; repositories.py has one that can be written to."""
        return Handler

    def __enter__(self) -> Hub:
        self._servers = [_Server(("127.0.0.1", 0), self.handler()) for _ in range(2)]
        for server, origin in zip(self._servers, "ab", strict=True):
            server.hub, server.origin = self, origin
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.endpoint, self.bytes_origin = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)
        self.mirror = f"{self.bytes_origin}/mirror"
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fail(self, file: str, kind: str, **kwargs: object) -> None:
        self.faults.setdefault(file, []).append(Fault(kind, **kwargs))

    def take(self, file: str, where: str) -> Fault | None:
        for fault in self.faults.get(file, []):
            if fault.where == where and fault.times:
                fault.times -= 1
                return fault
        return None

    def sent(self, file: str) -> int:
        """Body bytes sent for a file so far."""
        return sum(r.sent for r in self.requests if r.file == file)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub
    origin: str

    def handle_error(self, *_: object) -> None:  # clients that hang up are what is being tested
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def where(self, first: str, head: bool) -> str:
        if first in ("mirror", "api"):
            return first
        return "bytes" if self.server.origin == "b" else "head" if head else "resolve"

    def answer(self, head: bool) -> None:
        hub, parts = self.server.hub, self.path.split("?")[0].strip("/").split("/")
        share = shares.of(self.path, hub.drive)
        file = share.file if share else parts[-1]
        where = share.where if share else self.where(parts[0], head)
        self.request_seen = Request(self.command, where, file, dict(self.headers))
        hub.requests.append(self.request_seen)
        fault = hub.take(file, where) or Fault("")
        content = hub.files.get(file)
        if fault.kind == "nohead" and head:
            return self.reply(405, b"", {})
        if fault.kind.isdigit():
            extra = {"Retry-After": fault.value} if fault.value else {}
            return self.reply(int(fault.kind), b"fault", extra)
        if fault.kind == "loop":
            return self.reply(302, b"", {"Location": self.path})
        if fault.kind == "elsewhere":
            return self.reply(302, b"", {"Location": fault.value})
        if fault.kind == "html":
            return self.reply(200, b"<!DOCTYPE html><title>Sign in</title>", {"Content-Type": "text/html"})
        if fault.kind == "blackhole":
            time.sleep(float(fault.value or 3))
            self.close_connection = True
            return None
        if where == "api":
            return self.api(parts[2:])
        if share and (answer := shares.answer(share, fault.kind, hub.bytes_origin)):
            return self.reply(*answer)
        if content is None:
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        if self.server.origin == "a" and not share:
            return self.resolve(file, content, head, fault)
        return self.serve(content, fault)

    def api(self, parts: list[str]) -> None:
        hub = self.server.hub
        if parts[2:] and parts[3] != hub.revision:
            return self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if parts[2:3] == ["tree"]:
            answer: object = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(content),
                    "oid": "0" * 40,
                    "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134},
                }
                for name, content in hub.files.items()
            ]
        else:
            siblings = [{"rfilename": name} for name in hub.files]
            answer = {"id": "/".join(parts[:2]), "sha": hub.revision, "siblings": siblings}
        self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def resolve(self, file: str, content: bytes, head: bool, fault: Fault) -> None:
        hub = self.server.hub
        etag = fault.value if fault.kind == "etag" else hub.declared.get(file, hashlib.sha256(content).hexdigest())
        commit = fault.value if fault.kind == "commit" else hub.revision
        headers = {"X-Repo-Commit": commit, "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        self.reply(302, b"", headers | {"Location": f"{hub.bytes_origin}/blob/{file}"})

    def serve(self, content: bytes, fault: Fault) -> None:
        if fault.kind == "swap":
            content = bytes(255 - b for b in content[:1000]) + content[1000:]
        elif fault.kind == "flip":
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        elif fault.kind == "longer":
            content += b"more" * 1000
        elif fault.kind == "disguised":  # an HTML page that does not say so; a login page knows no ranges either
            content = b"<html>" + content[6:]
        start, end = 0, ""
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and fault.kind not in ("norange", "disguised"):
            first, _, end = asked[6:].partition("-")
            start = int(first)
            if start >= len(content):
                return self.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        body = content[start : int(end) + 1 if end else None]
        headers = {"Content-Type": "application/octet-stream", "ETag": '"x"'}
        if fault.kind == "endless":
            return self.pour(headers)
        if start or end:
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(content)}"
        self.reply(206 if start or end else 200, body, headers, fault)

    def pour(self, headers: dict[str, str]) -> None:
        """A body without a length and without an end, for as long as the client listens."""
        self.close_connection = True
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        while self.request_seen.sent < 1 << 30:
            self.wfile.write(bytes(1 << 16))
            self.request_seen.sent += 1 << 16

    def reply(self, status: int, body: bytes, headers: dict[str, str], fault: Fault | None = None) -> None:
        kind = fault.kind if fault else ""
        self.request_seen.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if kind == "nolength":
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            lie = 1000 if kind == "lyinglength" else 0
            self.send_header("Content-Length", fault.value if kind == "length" else str(len(body) + lie))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = len(body) // 2 if kind in ("cut", "rst", "stall") else len(body)
        for offset in range(0, stop, 1 << 16):
            chunk = body[offset : min(offset + (1 << 16), stop)]
            self.wfile.write(chunk)
            self.request_seen.sent += len(chunk)
            time.sleep(self.server.hub.delay)
        if kind == "stall":
            time.sleep(float((fault.value if fault else "") or 3))
        if kind == "rst":
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        if kind in ("cut", "stall", "rst", "lyinglength", "length"):
            self.close_connection = True
