"""docs/*.md -> pages, whose links stay in the site where it has what they lead to."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from html import unescape
from itertools import count

from markupsafe import Markup, escape

from robust_zoo import home
from robust_zoo.site.model import path_of
from robust_zoo.site.pages import Page
from robust_zoo.site.prose import markdown

_LINK = re.compile(r'<a href="([^"]*)">(.*?)</a>', re.DOTALL)
_PICTURE = re.compile(r'<img src="[^"]*" alt="([^"]*)"[^>]*>')
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_NAME = re.compile(r"<code>\w+</code>")
_REMARK = re.compile(r"^<!--.*?-->\n", re.DOTALL | re.MULTILINE)  # for those who edit the file
# Files of the repository that are pages of the site, beside guides and cards.
_PAGES = {"README.md": "index.html", "docs/faults.md": "faults.html", "model_cards/README.md": "index.html"}


def build(guides: Mapping[str, str]) -> Iterator[Page]:
    """A page of each guide.

    Args:
        guides: Names of files in docs/ without ending, and their Markdown; each begins with a heading.

    Yields:
        The pages.
    """
    for name, text in guides.items():
        yield Page(
            f"docs/{name}.html", title(text), "guide.html", {"text": _inside(markdown(_REMARK.sub("", text)), guides)}
        )


def title(text: str) -> str:
    """The first heading of a guide."""
    return text.partition("\n")[0].removeprefix("# ").strip()


def _inside(html: str, guides: Mapping[str, str]) -> Markup:
    """Links to files become links to pages, or to the repository, or words; pictures become their words.

    Tables scroll in themselves, and names in them may be broken after an underscore.
    """

    def led(found: re.Match[str]) -> str:
        target, words = unescape(found[1]), found[2]
        if re.match(r"https?:|#", target):
            return found[0]
        path, _, part = posixpath.normpath(posixpath.join("docs", target)).partition("#")
        page = _page(path, guides)
        if page:
            return f'<a href="../{escape(page)}{escape("#" + part if part else "")}">{words}</a>'
        there = f"https://github.com/{home.REPOSITORY}/blob/main/{path}" if home.REPOSITORY else ""
        return f'<a href="{escape(there)}">{words}</a>' if there else words

    html = _PICTURE.sub(r"<em>\1</em>", _LINK.sub(led, html))
    number = count(1)

    def scrolling(table: re.Match[str]) -> str:
        broken = _NAME.sub(lambda name: name[0].replace("_", "_<wbr>"), table[0])
        return f'<div class="scroll" tabindex="0" role="region" aria-label="Table {next(number)}">{broken}</div>'

    return Markup(_TABLE.sub(scrolling, html))


def _page(path: str, guides: Mapping[str, str]) -> str:
    """The page of the site that shows a file of the repository, "" where none does."""
    folder, _, file = path.rpartition("/")
    if folder == "docs" and file.removesuffix(".md") in guides:
        return f"docs/{file.removesuffix('.md')}.html"
    if path not in _PAGES and folder == "model_cards" and file.endswith(".md"):
        return path_of(file.removesuffix(".md"))
    return _PAGES.get(path, "")
