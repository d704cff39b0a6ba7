"""One GET, politely and suspiciously: retries, Retry-After, redirects, ranges."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from robust_zoo.errors import UsageError

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 4.0  # seconds: a refused or unreachable source costs at most this
READ_TIMEOUT = 12.0  # seconds without a byte: a black hole or a stalled body; ROBUST_ZOO_TIMEOUT sets it
_MAX_WAIT = 30.0  # the longest Retry-After that is waited for
_MAX_HOPS = 5


class SourceFailed(Exception):
    """This source cannot serve the file; the text is the cause, for the list of sources tried."""


def request(session: requests.Session, url: str, headers: Mapping[str, str], have: int) -> requests.Response:
    """Follows up to five redirects, never from https to http, never with credentials to another origin.

    Args:
        session: Of requests.
        url: The address.
        headers: To send.
        have: How many bytes are there already: only the rest is asked for.

    Returns:
        An answer of status 200 or 206, its body not read yet.

    Raises:
        SourceFailed: Any other answer.
        UsageError: ROBUST_ZOO_TIMEOUT is no time.
        requests.RequestException: No answer.
    """
    wanted = {**headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    for _ in range(_MAX_HOPS + 1):
        response = _patient(session, url, wanted)
        if response.is_redirect:
            target = urljoin(url, response.headers["location"])
            _check_hop(url, target)
            if origin(target) != origin(url):
                wanted = {k: v for k, v in wanted.items() if k.lower() != "authorization"}
            url = target
            continue
        if response.status_code == 416 and have:  # the part is longer than what is served now
            wanted.pop("Range")
            have = 0
            continue
        if response.status_code == 206 and _range_start(response) != have:
            raise SourceFailed("answers another range than was asked for")
        if response.status_code not in (200, 206):
            raise SourceFailed(f"HTTP {response.status_code} {response.reason}".strip())
        if "text/html" in response.headers.get("content-type", ""):
            raise SourceFailed("looks like an HTML page, not a file")
        return response
    raise SourceFailed(f"more than {_MAX_HOPS} redirects")


def head(url: str, headers: Mapping[str, str]) -> requests.Response:
    """One HEAD, redirects not followed: the hub's own answer about a file, not that of where its bytes are.

    Args:
        url: The address.
        headers: To send.

    Returns:
        The answer, of any status.

    Raises:
        UsageError: ROBUST_ZOO_TIMEOUT is no time.
        requests.RequestException: No answer.
    """
    import requests

    with requests.Session() as session:
        return _patient(session, url, headers, "HEAD")


def _timeout() -> tuple[float, float]:
    """Seconds to connect, and without a byte. Raises UsageError for a ROBUST_ZOO_TIMEOUT that is none."""
    given = os.environ.get("ROBUST_ZOO_TIMEOUT", "").strip()
    try:
        read = float(given or READ_TIMEOUT)
    except ValueError:
        read = 0.0
    if not 0 < read < float("inf"):
        raise UsageError(
            f"ROBUST_ZOO_TIMEOUT={given} is no time",
            source="the environment",
            expected="seconds, e.g. 30",
            actual=repr(given),
            next="unset ROBUST_ZOO_TIMEOUT",
        )
    return min(CONNECT_TIMEOUT, read), read


def _patient(session: requests.Session, url: str, headers: Mapping[str, str], method: str = "GET") -> requests.Response:
    """One request; server errors are tried twice more, 429 and 408 once after their Retry-After (<= 30 s)."""
    for attempt in range(3):
        # trust_env stays on, so proxies work; requests would take a password from ~/.netrc, so credentials are explicit
        response = session.request(
            method,
            url,
            stream=True,
            allow_redirects=False,
            auth=_keep_headers,
            headers=dict(headers),
            timeout=_timeout(),
        )
        if response.status_code in (408, 429) and attempt == 0:
            wait = _retry_after(response)
            if wait is None:
                return response
        elif response.status_code >= 500 and attempt < 2:
            wait = 0.2 * 2**attempt + random.uniform(0, 0.2)
        else:
            return response
        response.close()
        time.sleep(wait)
    return response


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _retry_after(response: requests.Response) -> float | None:
    try:
        wait = float(response.headers.get("retry-after", "1"))
    except ValueError:  # a date: no logic here reads the clock
        return None
    return wait if 0 <= wait <= _MAX_WAIT else None


def _check_hop(url: str, target: str) -> None:
    before, after = urlsplit(url).scheme, urlsplit(target).scheme
    if after not in ("http", "https"):
        raise SourceFailed(f"redirects to a {after or 'scheme-less'} address")
    if (before, after) == ("https", "http"):
        raise SourceFailed("redirects from https to http")


def origin(url: str) -> tuple[str, str]:
    """Scheme and host with port: whom credentials belong to, and who is or is not there."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _range_start(response: requests.Response) -> int | None:
    unit, _, rest = response.headers.get("content-range", "").partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdecimal() else None
