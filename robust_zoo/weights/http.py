"""One GET or HEAD, suspiciously: which answers count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robust_zoo.weights.asked import Asked, opened
from robust_zoo.weights.causes import SourceFailed
from robust_zoo.weights.credentials import Credentials

if TYPE_CHECKING:
    import requests

_MAX_HOPS = 5


def request(
    session: requests.Session, url: str, have: int, credentials: Credentials | None = None
) -> requests.Response:
    """Follows up to five redirects, never from https to http, never with credentials to another origin.

    Args:
        session: From `opened`.
        url: The address.
        have: How many bytes are there already: only the rest is asked for.
        credentials: For this origin; those in the address come first.

    Returns:
        An answer of status 200 or 206, its body not read yet.

    Raises:
        SourceFailed: Any other answer, or none.
        UsageError: ROBUST_ZOO_TIMEOUT is no time.
        requests.RequestException: No answer.
    """
    wanted = {"Range": f"bytes={have}-"} if have else {}
    asked = Asked(session, url, credentials)
    for _ in range(_MAX_HOPS + 1):
        response = asked.answer("GET", wanted)
        if response.is_redirect:
            asked.go_to(response.headers["location"])
            response.close()
            continue
        if response.status_code == 416 and wanted:  # the part is longer than what is served now
            wanted, have = {}, 0
            response.close()
            continue
        if response.status_code not in (200, 206):
            raise asked.failed(response)
        if response.status_code == 206 and _range_start(response) != have:
            raise SourceFailed("answers another range than was asked for")
        if "text/html" in response.headers.get("content-type", ""):
            raise SourceFailed("looks like an HTML page, not a file")
        if (encoding := response.headers.get("content-encoding", "").strip().lower()) not in ("", "identity"):
            raise SourceFailed(f"answers in the encoding {encoding}, which was not asked for")
        return response
    raise SourceFailed(f"more than {_MAX_HOPS} redirects")


def head(url: str, credentials: Credentials | None = None) -> requests.Response:
    """One HEAD, redirects not followed: the hub's own answer about a file, not that of where its bytes are.

    Args:
        url: The address.
        credentials: For this origin; those in the address come first.

    Returns:
        The answer, of a status below 400.

    Raises:
        SourceFailed: Any other answer.
        UsageError: ROBUST_ZOO_TIMEOUT is no time.
        requests.RequestException: No answer.
    """
    with opened() as session:
        asked = Asked(session, url, credentials)
        response = asked.answer("HEAD", {})
        if response.status_code >= 400:
            raise asked.failed(response)
        return response


def _range_start(response: requests.Response) -> int | None:
    unit, _, rest = response.headers.get("content-range", "").partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdecimal() else None
