"""Why a source did not serve: one line that repeats no secret, and what may help."""

from __future__ import annotations

import os
import re
import socket
from urllib.parse import urlsplit

from robust_zoo.weights.addresses import is_loopback
from robust_zoo.weights.connection import TooSlow
from robust_zoo.weights.credentials import proxies, redacted


class SourceFailed(Exception):
    """This source cannot serve the file; the text is the cause, for the list of sources tried.

    Args:
        text: The cause; what a server said is made printable here.
        remedy: What a user may do about it.
        status: The HTTP status that it answered with, 0 where something else is the cause.
    """

    def __init__(self, text: str, remedy: str = "", status: int = 0) -> None:
        super().__init__(redacted(text))
        self.remedy = redacted(remedy)
        self.status = status


def explained(error: BaseException, url: str, kind: type[SourceFailed] = SourceFailed) -> SourceFailed:
    """A library's error as the innermost reason: a TLS, DNS or proxy failure is named, not the wrapper around it.

    Args:
        error: What was raised.
        url: What was asked for.
        kind: What to make of it.

    Returns:
        An error to raise.
    """
    from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
    from urllib3.exceptions import LocationValueError

    name, through = type(error).__name__, _through(url)
    unusable = (InvalidSchema, InvalidURL, MissingSchema, LocationValueError)  # their texts repeat the address
    if isinstance(error, unusable):
        place = "this address, or the proxy's," if through else "this address"
        return kind(f"{name}: {place} cannot be used{through}", _correct(through))
    inner = _innermost(error)
    if isinstance(inner.__cause__, TooSlow):
        return kind(
            f"too slow: {inner.__cause__}", "set ROBUST_ZOO_MIN_RATE to fewer bytes per second, for a slow network"
        )
    reason = "" if type(inner) is type(error) else f" ({type(inner).__name__})"
    text = f"{name}{reason}: {str(inner)[:160]}"
    if re.search("certificate|CERTIFICATE|TLS CA|X509", text):
        return kind(text + _trusted(), "set REQUESTS_CA_BUNDLE to a PEM file with your network's certificates")
    return kind(text + through, _correct(through) if "Proxy" in name else "")


def is_unknown_host(error: SourceFailed) -> bool:
    """Whether the cause is that the host has no address, as far as can be told: no name server that is away."""
    from urllib3.exceptions import NameResolutionError

    inner = _innermost(error.__cause__) if error.__cause__ else None
    away = getattr(inner and inner.__cause__, "errno", None) == socket.EAI_AGAIN
    return isinstance(inner, NameResolutionError) and not away


def _innermost(error: BaseException) -> BaseException:
    inner = getattr(error, "reason", None)
    if not isinstance(inner, BaseException):
        inner = next((argument for argument in error.args if isinstance(argument, BaseException)), None)
    return _innermost(inner) if inner else error


def _through(url: str) -> str:
    """The variables of the proxy that an address is asked for through, in brackets."""
    from requests.utils import get_environ_proxies, select_proxy

    used = not is_loopback(url) and select_proxy(url, get_environ_proxies(url))
    return f" (see {', '.join(proxies(urlsplit(url).scheme))})" if used else ""


def _correct(through: str) -> str:
    return through and f"correct or unset {through[6:-1]}"


def trusted() -> tuple[str, str]:
    """Whose certificates are believed: a variable and its value, empty for those of the certifi package."""
    given = [(name, os.environ.get(name, "")) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")]
    return next(((name, value) for name, value in given if value), ("", ""))


def _trusted() -> str:
    name, value = trusted()
    return f" (trusted: {name}={value})" if name else " (trusted: the certifi package; REQUESTS_CA_BUNDLE names others)"
