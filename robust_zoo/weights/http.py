"""One GET or HEAD, suspiciously: which answers count."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robust_zoo.files import is_sha256
from robust_zoo.weights.addresses import is_private
from robust_zoo.weights.asked import Asked, opened
from robust_zoo.weights.causes import SourceFailed
from robust_zoo.weights.credentials import Credentials
from robust_zoo.weights.pages import WebPage

if TYPE_CHECKING:
    import requests

_MAX_HOPS = 5
_PAGE = 1 << 16  # bytes of a web page that are looked at


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
    response = _followed(asked, "GET", wanted)[-1]
    if response.status_code == 416 and wanted:  # the part is longer than what is served now
        response.close()
        have = 0
        response = _followed(asked, "GET", {})[-1]
    if response.status_code not in (200, 206):
        raise asked.failed(response)
    if response.status_code == 206 and _range_start(response) != have:
        raise SourceFailed("answers another range than was asked for")
    _require_file(response)
    if (encoding := response.headers.get("content-encoding", "").strip().lower()) not in ("", "identity"):
        raise SourceFailed(f"answers in the encoding {encoding}, which was not asked for")
    return response


@dataclass(frozen=True)
class Told:
    """What a server says of a file without sending it.

    Attributes:
        size: In bytes, None when it does not say.
        sha256: That it declares in a way that no one else on the way could, None when it does not.
    """

    size: int | None
    sha256: str | None


def told(url: str, credentials: Credentials | None = None) -> Told:
    """Asks for a file's head, redirects followed; where HEAD is refused, for its first byte.

    Args:
        url: The address.
        credentials: For this origin; those in the address come first.

    Returns:
        What was said of it.

    Raises:
        SourceFailed: There is no such file, or a web page in its place.
        UsageError: ROBUST_ZOO_TIMEOUT is no time.
        requests.RequestException: No answer.
    """
    with opened() as session:
        asked = Asked(session, url, credentials)
        answers = _followed(asked, "HEAD", {})
        if answers[-1].status_code != 200 or _is_page(answers[-1]):  # what a page says is in its body
            answers[-1].close()
            asked = Asked(session, url, credentials)
            answers = _followed(asked, "GET", {"Range": "bytes=0-0"})
        with answers[-1] as last:
            if last.status_code not in (200, 206):
                raise asked.failed(last)
            _require_file(last)
            sizes = [_whole(last), *(answer.headers.get("x-linked-size", "") for answer in answers)]
            declared = [_declared(answer) for answer in answers]
        size = next((int(size) for size in sizes if re.fullmatch("[0-9]{1,15}", size)), None)
        return Told(size, next(filter(None, declared), None))


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


def _followed(asked: Asked, method: str, headers: dict[str, str]) -> list[requests.Response]:
    """The answers up to the first that leads no further, its body not read yet."""
    answers: list[requests.Response] = []
    for _ in range(_MAX_HOPS + 1):
        answers.append(asked.answer(method, headers))
        if not answers[-1].is_redirect:
            return answers
        asked.go_to(answers[-1].headers["location"])
        answers[-1].close()
    raise SourceFailed(f"more than {_MAX_HOPS} redirects")


def _is_page(response: requests.Response) -> bool:
    return "text/html" in response.headers.get("content-type", "")


def _require_file(response: requests.Response) -> None:
    if _is_page(response):
        with response:
            raise WebPage(next(response.iter_content(_PAGE), b""))


def _declared(response: requests.Response) -> str | None:
    """The sha256 that the hub declares, where it alone can have said it."""
    etag = response.headers.get("x-linked-etag", "").strip('"')
    return etag if is_sha256(etag) and is_private(str(response.url)) else None


def _whole(response: requests.Response) -> str:
    """The size of the whole file, as this answer has it."""
    if response.status_code == 206:
        return response.headers.get("content-range", "").rpartition("/")[2]
    return response.headers.get("content-length", "")


def _range_start(response: requests.Response) -> int | None:
    unit, _, rest = response.headers.get("content-range", "").partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdecimal() else None
