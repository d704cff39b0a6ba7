"""Who is told a secret: the hub a token, a server the name and password in its address. And no one else."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from robust_zoo.text import printable
from robust_zoo.weights.addresses import origin

_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_ADDRESSES = ("HF_ENDPOINT", "ROBUST_ZOO_MIRRORS", "ROBUST_ZOO_DRIVE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class Credentials:
    """What one origin is told, or how to come by it.

    Attributes:
        what: In words: "the token of HF_TOKEN".
        remedy: What to do when they are refused, or missing.
        header: The value of Authorization, "" when there are none.
    """

    what: str
    remedy: str
    header: str = field(default="", repr=False)


MIRROR = Credentials("", "write NAME:PASSWORD and an @ before the host of its address")


def token() -> Credentials:
    """The hub's token as huggingface_hub finds it, which one it is, and else how to give one."""
    none = Credentials("", "set HF_TOKEN, or run hf auth login")
    try:
        from huggingface_hub import constants, get_token

        found = "" if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token() or ""
    except Exception:  # a file that cannot be read, a login service that is away: public weights need no token
        return none
    if not found:
        return none
    own = constants.HF_TOKEN_PATH if Path(constants.HF_TOKEN_PATH).is_file() else "this login"
    source = next((name for name in _TOKENS if os.environ.get(name, "").strip() == found), own)
    if not re.fullmatch("[!-~]+", found):
        return Credentials("", f"correct the token of {source}: it holds other characters than tokens do")
    return Credentials(f"the token of {source}", f"renew or remove the token of {source}", f"Bearer {found}")


def taken_out(url: str) -> tuple[str, Credentials | None]:
    """An address without its name and password, and these.

    Args:
        url: The address, sound.

    Returns:
        (address, credentials); None when it has none.
    """
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    if not at:
        return url, None
    pair = ":".join(unquote(part) for part in [user.partition(":")[0], user.partition(":")[2]])
    header = f"Basic {base64.b64encode(pair.encode()).decode()}"
    plain = urlunsplit((*origin(url), parts.path, parts.query, ""))
    return plain, Credentials(
        "the name and password in its address", "correct the name and password in its address", header
    )


def proxies(scheme: str = "") -> list[str]:
    """The variables that name a proxy, for addresses of one scheme or any."""
    names = (f"{scheme}_proxy", "all_proxy") if scheme else _PROXIES
    return sorted(name for name in os.environ if name.lower() in names and os.environ[name])


def redacted(text: str) -> str:
    """What a server or a library said, in one line that shows on a terminal and repeats no secret of the environment.

    Args:
        text: What was said.

    Returns:
        At most 300 characters of it.
    """
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = re.sub(r"\bhf_\w{8,}", "hf_***", text)
    text = re.sub(r"(?<=//)[^/\s@]*@", "", text)
    text = re.sub(r"(?<=[\w/])\?[^\s'\")]+", "?...", text)
    return printable(text)[:300]


def _secrets() -> set[str]:
    found = {os.environ.get(name, "").strip() for name in _TOKENS}
    for name in [*_ADDRESSES, *proxies()]:
        for address in re.split(r"[\s,]+", os.environ.get(name, "")):
            user = address.rpartition("@")[0].split("//", 1)[-1]
            query = address.partition("?")[2]
            found |= {user, user.partition(":")[2], query, *(value for _, value in parse_qsl(query))}
    return {secret for raw in found for secret in (raw, unquote(raw)) if len(secret) > 3}
