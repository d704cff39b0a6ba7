"""Connections that leave a server which drips, or whose headers never end, as if it had fallen silent."""

from __future__ import annotations

import http.client
import io
import logging
import re
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

_LINES = 1 << 17  # bytes of header lines, chunk sizes and trailers that a body may exceed: a hundred times the usual


def _without_query(record: logging.LogRecord) -> bool:
    """urllib3 logs whole addresses at level DEBUG; a query may be a signature that lets anyone in for a while."""
    if isinstance(record.args, tuple):
        record.args = tuple(re.sub(r"\?[^\s'\")]+", "?...", a) if isinstance(a, str) else a for a in record.args)
    return True


class TooSlow(TimeoutError):
    """Bytes come, but too few."""


def session(rate: float) -> requests.Session:
    """A session for one transfer, which follows no redirect by itself.

    Its timeouts mean more than those of requests: the whole head of an answer must arrive within one, and in each of
    them so many bytes that they make up `rate`. Only waiting counts, not what is done with the bytes. From the first
    session on, urllib3 logs addresses without their queries.

    Args:
        rate: The least bytes per second.

    Returns:
        The session.
    """
    import requests
    from requests.adapters import HTTPAdapter

    class Answer(_Answer):
        least = rate

    def spoken(base: Any) -> Any:
        """A class of connections to a server, with our answers; a SOCKS proxy (PySocks) has classes of its own."""
        if base.ConnectionCls.response_class is Answer:
            return base
        connection = type("Connection", (base.ConnectionCls,), {"response_class": Answer})  # what messages say
        return type("Server", (base,), {"ConnectionCls": connection})

    def ours(manager: Any) -> Any:
        classes = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: spoken(base) for scheme, base in classes.items()}
        return manager

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            ours(self.poolmanager)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            return ours(super().proxy_manager_for(*args, **kwargs))

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:
            """None: requests would read the whole body of a redirect, however long, to see where it leads."""

    logging.getLogger("urllib3.connectionpool").addFilter(_without_query)
    opened = Session()
    for scheme in ("http", "https"):
        opened.mount(f"{scheme}://", Adapter())
    return opened


class _Answer(http.client.HTTPResponse):
    """An answer that is read through a `_Pace`; a proxy's, too."""

    least = 0.0

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._pace = _Pace(self.fp.detach(), sock, self.least)
        self.fp: Any = _Lines(self._pace)

    def begin(self) -> None:
        super().begin()
        self.headers.defects.clear()  # lines that are no headers: urllib3 would log them with the address and its query
        self.headers.set_payload("")
        self._pace.body_follows()


class _Pace(io.RawIOBase):
    """A socket's bytes, with a limit to the time for the head, and then one to the average wait for a byte."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, least: float) -> None:
        self._raw, self._sock, self._least = raw, sock, least
        self._patience = sock.gettimeout() or 0.0
        self._head, self._waited, self._arrived = True, 0.0, 0

    def body_follows(self) -> None:
        self._head, self._waited, self._arrived = False, 0.0, 0
        self._sock.settimeout(self._patience)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            self._sock.settimeout(max(self._patience - self._waited, 0.001))
        started = time.monotonic()
        count = self._raw.readinto(buffer) or 0
        self._waited += time.monotonic() - started
        self._arrived += count
        if count and self._waited >= self._patience:
            if self._head:
                raise TimeoutError("timed out")
            if self._arrived < self._least * self._waited:
                raise TooSlow(f"{self._arrived:,} bytes in {self._waited:.1f} s")
            self._waited, self._arrived = 0.0, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    """What HTTP reads by lines (heads, chunk sizes, trailers) is bounded by what is read as content."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self._lines, self._content = 0, 0

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size if size is not None and 0 <= size <= _LINES else _LINES)
        self._lines += len(line)
        if self._lines > _LINES + self._content:
            raise http.client.HTTPException(f"sends lines without end: {self._lines:,} bytes of them")
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # urllib3 takes a chunk's negative length for one
            raise http.client.HTTPException("a length below zero")
        content = super().read(size)
        self._content += len(content)
        return content
