"""One question to a server, politely: patience, retries, Retry-After, redirects, and who is told a secret."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from robust_zoo import __version__
from robust_zoo.errors import UsageError
from robust_zoo.weights import addresses
from robust_zoo.weights.addresses import is_loopback, is_private, origin
from robust_zoo.weights.causes import SourceFailed, explained, trusted
from robust_zoo.weights.connection import session
from robust_zoo.weights.credentials import Credentials, proxies, taken_out

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 4.0  # seconds: a refused or unreachable source costs at most this
READ_TIMEOUT = 12.0  # seconds without a byte, or for the whole head of an answer; ROBUST_ZOO_TIMEOUT sets it
LEAST_RATE = 10_000.0  # bytes per second, on average over READ_TIMEOUT; ROBUST_ZOO_MIN_RATE sets it
_HEADERS = {"User-Agent": f"robust_zoo/{__version__}", "Accept-Encoding": "identity", "Accept-Language": "en"}
_MAX_WAIT = 30.0  # the longest Retry-After that is waited for
_PATIENCE = 3  # times READ_TIMEOUT, and the wait: for all redirects and retries of a question together


def opened() -> requests.Session:
    """A session for one transfer. Raises UsageError for a ROBUST_ZOO_MIN_RATE that is none."""
    return session(_number("ROBUST_ZOO_MIN_RATE", LEAST_RATE, "bytes per second, e.g. 2000", zero=True))


class Asked:
    """One question: where redirects have led it, who is told a secret, and how long it may take.

    Args:
        session: From `opened`.
        url: The address.
        credentials: For its origin; those in the address come first.

    Raises:
        SourceFailed: The address is none.
        UsageError: ROBUST_ZOO_TIMEOUT is no time.
    """

    def __init__(self, session: requests.Session, url: str, credentials: Credentials | None) -> None:
        try:
            addresses.check(url)
        except ValueError as error:
            raise SourceFailed(str(error), "correct its address") from None
        self.session = session
        self.url, own = taken_out(url)
        self.credentials = own or credentials
        self.refused = ""  # the answer to the credentials, when it was no
        self.timeouts = _timeouts()
        self.until = time.monotonic() + _PATIENCE * self.timeouts[1] + _MAX_WAIT

    def answer(self, method: str, headers: Mapping[str, str]) -> requests.Response:
        """The answer to the credentials, or, where these are refused, without them.

        Args:
            method: Of HTTP.
            headers: Besides those of every request.

        Returns:
            An answer of any status, its body not read yet.

        Raises:
            SourceFailed: None came.
        """
        header = self.credentials.header if self.credentials and is_private(self.url) else ""
        if header and not self.refused:
            response = self._patient(method, {**headers, "Authorization": header})
            if response.status_code not in (401, 403):
                return response
            self.refused = _status(response)
            response.close()
        return self._patient(method, headers)

    def _patient(self, method: str, headers: Mapping[str, str]) -> requests.Response:
        """One request; server errors are tried twice more, 429 and 408 once after their Retry-After (<= 30 s)."""
        from urllib3.exceptions import HTTPError

        for attempt in range(3):
            if time.monotonic() > self.until:
                raise SourceFailed("answers too slowly")
            # proxies work; requests would take a password from ~/.netrc, so credentials are explicit; what is said to
            # this machine goes through no proxy
            direct = dict.fromkeys(("http", "https", "all")) if is_loopback(self.url) else None
            try:
                response = self.session.request(
                    method,
                    self.url,
                    stream=True,
                    allow_redirects=False,
                    auth=_keep_headers,
                    headers={**_HEADERS, **headers},
                    timeout=self.timeouts,
                    verify=trusted()[1] or True,
                    proxies=direct,  # type: ignore[arg-type]
                )
            except (OSError, ValueError, HTTPError) as error:  # requests lets some of its parts' through
                raise explained(error, self.url) from error
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

    def go_to(self, location: str) -> None:
        """Follows a redirect; credentials stay behind where it leads to another origin.

        Args:
            location: As the header has it.

        Raises:
            SourceFailed: It leads where none is followed.
        """
        try:
            place = location.encode("latin-1", "replace").decode(errors="replace").replace(" ", "%20")
            target = urljoin(self.url, place)
            before, after = urlsplit(self.url).scheme, urlsplit(target).scheme
        except ValueError:
            raise SourceFailed("redirects to what is not an address") from None
        if after not in ("http", "https"):
            raise SourceFailed(f"redirects to a {after or 'scheme-less'} address")
        if (before, after) == ("https", "http"):
            raise SourceFailed("redirects from https to http")
        try:
            addresses.check(target, given=False)
        except ValueError as error:
            raise SourceFailed(f"redirects to what is {error}") from None
        if taken_out(target)[1]:
            raise SourceFailed("redirects to an address with a password")
        if origin(target) != origin(self.url):
            self.credentials = None
        self.url = target

    def failed(self, response: requests.Response) -> SourceFailed:
        """What a status means, and what may help.

        Args:
            response: The answer; it is closed.

        Returns:
            An error to raise.
        """
        text, known, status = _status(response), self.credentials, response.status_code
        response.close()
        remedy = known.remedy if known else ""
        if status == 407 and proxies():
            text, remedy = f"{text} (see {', '.join(proxies())})", "write a name and password into the proxy's address"
        elif known and self.refused:
            text = f"{self.refused} with {known.what}; {text} without it"
        elif known and status in (401, 403) and known.header:
            text, remedy = f"{text}; {known.what} was not sent, as this is not https", "use https in its address"
        elif known and status in (401, 403):
            text = f"{text}; it was sent no token or password"
        else:
            remedy = ""
        return SourceFailed(text, remedy, status)


def _status(response: requests.Response) -> str:
    said = response.headers.get("x-error-message") or response.reason or ""
    return f"HTTP {response.status_code} {said[:160]}".strip()


def _timeouts() -> tuple[float, float]:
    """Seconds to connect, and without a byte. Raises UsageError for a ROBUST_ZOO_TIMEOUT that is none."""
    read = _number("ROBUST_ZOO_TIMEOUT", READ_TIMEOUT, "seconds, e.g. 30")
    return min(CONNECT_TIMEOUT, read), read


def _number(variable: str, otherwise: float, expected: str, *, zero: bool = False) -> float:
    given = os.environ.get(variable, "").strip()
    try:
        number = float(given or otherwise)
    except ValueError:
        number = -1.0
    if not (0 < number <= 1e6 or (zero and number == 0)):
        raise UsageError(
            f"{variable}={given!r} cannot be used",
            source="the environment",
            expected=expected,
            actual=repr(given),
            next=f"unset {variable}",
        )
    return number


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _retry_after(response: requests.Response) -> float | None:
    try:
        wait = float(response.headers.get("retry-after", "1"))
    except ValueError:  # a date: no logic here reads the clock
        return None
    return wait if 0 <= wait <= _MAX_WAIT else None
