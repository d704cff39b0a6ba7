"""Addresses of servers: which are sound, how they are joined, and how they are shown: without what may be secret."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit, urlunsplit

from robust_zoo.text import printable


def check(url: str, *, given: bool = True) -> None:
    """That an address means one place to every reader of it.

    A backslash, for one, ends the host for some and not for others.

    Args:
        url: The address.
        given: By a user, whose password may hold what must be written otherwise; else by a server.

    Raises:
        ValueError: It is none; the text does not repeat it.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        sound = False
    if not sound or not url.isprintable() or re.search(r"[\s\\]", url):
        raise ValueError("not an address such as https://HOST/PATH")
    if given and ("#" in url or "@" in parts.query):
        raise ValueError("not an address: write # as %23, and @ in a password as %40")


def join(base: str, path: str) -> str:
    """A base address with a path behind its own, before its query if it has one.

    Args:
        base: The base address.
        path: What follows, quoted.

    Returns:
        The address.
    """
    place, mark, query = base.partition("?")
    return f"{place.rstrip('/')}/{path}{mark}{query}"


def shown(text: str) -> str:
    """An address as it may be printed and stored: without name and password, the query as "?...".

    Args:
        text: An address, or a path, which stays as it is.

    Returns:
        The text.
    """
    return without_secrets(text) if "://" in text else printable(text)


def without_secrets(text: str) -> str:
    """What a user gave for an address, as it may be printed: as `shown`, and even where it is no address.

    Args:
        text: The value of a variable.

    Returns:
        The text.
    """
    try:
        check(text)
    except ValueError:  # whatever it is, a password ends at the last @
        rest = re.split(r"[?#]", text.rpartition("@")[2], maxsplit=1)[0]
        scheme = re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text)
        return printable((scheme[0] if scheme and not rest.startswith(scheme[0]) else "") + rest)
    parts = urlsplit(text)
    return urlunsplit((parts.scheme, _host(parts.netloc), parts.path, "..." if parts.query else "", ""))


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2]


def origin(url: str) -> tuple[str, str]:
    """Scheme and host with port: whom credentials belong to, and who is or is not there."""
    parts = urlsplit(url)
    return parts.scheme, _host(parts.netloc)


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine, by its spelling: no name is looked up."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(url: str) -> bool:
    """Whether nobody on the way can read or change what is said: over https, or on this machine."""
    return urlsplit(url).scheme == "https" or is_loopback(url)
