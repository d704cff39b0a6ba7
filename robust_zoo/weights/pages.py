"""Web pages that come in place of a file, with status 200: whose page it is, and what may be done about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from robust_zoo.weights.causes import SourceFailed

_TITLE = re.compile(rb"<title[^>]*>([^<]{1,200})", re.IGNORECASE)


@dataclass(frozen=True)
class _Page:
    """What a page says, and what that means."""

    says: re.Pattern[bytes]
    verdict: str
    cause: str
    remedy: str


_PAGES = (
    _Page(
        re.compile(rb"google drive - quota exceeded|too many users have viewed or downloaded", re.IGNORECASE),
        "quota",
        "Drive's quota for this file is used up: too many people have fetched it today",
        "try again in a day or from another source: a mirror in ROBUST_ZOO_MIRRORS, a copy in ROBUST_ZOO_PATH",
    ),
    _Page(
        re.compile(rb"virus scan warning|scan this file for viruses", re.IGNORECASE),
        "page",
        "Drive asks for one more click, as it can't scan so large a file for viruses",
        "fetch the file with a browser into a directory of ROBUST_ZOO_PATH, under its name above",
    ),
)


class WebPage(SourceFailed):
    """A page came in place of the file.

    Args:
        start: Its beginning.
    """

    def __init__(self, start: bytes) -> None:
        found = next((page for page in _PAGES if page.says.search(start)), None)
        title = _TITLE.search(start)
        said = f' ("{title[1].decode(errors="replace").strip()}")' if title else ""
        text = f"looks like an HTML page{said}, not a file"
        super().__init__(f"{found.cause}; it {text}" if found else text, found.remedy if found else "", status=200)
        self.verdict = found.verdict if found else "page"
