"""Why a source did not serve: one line that repeats no secret, and what may help."""

from __future__ import annotations

import os

from robust_zoo.weights.addresses import is_loopback
from robust_zoo.weights.credentials import proxies, redacted

_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class SourceFailed(Exception):
    """This source cannot serve the file; the text is the cause, for the list of sources tried.

    Args:
        text: The cause; what a server said is made printable here.
        remedy: What a user may do about it.
    """

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(redacted(text))
        self.remedy = redacted(remedy)


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
    if isinstance(
        error, (InvalidSchema, InvalidURL, MissingSchema, LocationValueError)
    ):  # their texts repeat the address
        place = "this address, or the proxy's," if through else "this address"
        return kind(f"{name}: {place} cannot be used{through}", _correct_proxy() if through else "")
    inner = getattr(error, "args", ())
    while inner and isinstance(inner[0], BaseException):
        error = inner[0]
        error = getattr(error, "reason", None) or error
        inner = error.args if isinstance(error, BaseException) else ()
    text = f"{name}: {str(error)[:160]}"
    if "CERTIFICATE" in text or "certificate" in text or "TLS CA" in text:
        return kind(text + _certificates(), f"set {_CERTIFICATES[0]} to a PEM file with your network's certificates")
    return kind(text + through, _correct_proxy() if "Proxy" in name else "")


def _through(url: str) -> str:
    used = [] if is_loopback(url) else proxies()
    return f" (see {', '.join(used)})" if used else ""


def _correct_proxy() -> str:
    return f"correct or unset {' and '.join(proxies())}"


def _certificates() -> str:
    named = next((f"{name}={os.environ[name]}" for name in _CERTIFICATES if os.environ.get(name)), "")
    other = "; SSL_CERT_FILE is not read here" if os.environ.get("SSL_CERT_FILE") else ""
    return f" (trusted are those of {named or 'the certifi package'}; {_CERTIFICATES[0]} names others{other})"
