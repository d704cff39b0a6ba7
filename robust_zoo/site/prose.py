"""Text as people write it in sources -> HTML: docstrings, Markdown, Python with its words marked."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from functools import cache
from html import escape
from typing import Any

from markupsafe import Markup

_CODE = re.compile(r"<code>([\w.]+)(\([^<]*\))?</code>")
_PROMPT = re.compile(r"^(?:>>>|\.\.\.) ", re.MULTILINE)
_TOKEN = re.compile(
    rf"""(?P<i>\#[^\n]*)|(?P<b>\b(?:{"|".join(keyword.kwlist)})\b)"""
    r"""|(?P<u>(?<!\w)(?i:[rbfu]{0,2})(?:'''.*?'''|\"{3}.*?\"{3}|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))""",
    re.DOTALL,
)


@cache
def _parser(preset: str) -> Any:
    from markdown_it import MarkdownIt

    if preset == "docstring":  # words, `code` and lists; a star or an underscore is itself
        return MarkdownIt("zero").enable(["backticks", "list"])
    return MarkdownIt("commonmark", {"html": False, "highlight": _block}).enable("table")


def _block(code: str, language: str, _: str) -> str:
    inside = python(code) if language == "python" else escape(code, quote=False)
    return f'<pre class="code">{inside.rstrip()}</pre>'


def markdown(text: str) -> Markup:
    """CommonMark with tables as HTML; HTML in it is shown as text."""
    return Markup(_parser("commonmark").render(text))


def docstring(text: str, links: Mapping[str, str] | None = None, *, inline: bool = False) -> Markup:
    """A docstring's text as HTML; names in backticks that are known lead to where they are.

    Args:
        text: Paragraphs.
        links: Names, and where each leads.
        inline: A single paragraph, without its tags.

    Returns:
        HTML.
    """

    def linked(found: re.Match[str]) -> str:
        target = (links or {}).get(found[1])
        return f'<a href="{escape(target)}">{found[0]}</a>' if target else found[0]

    parser = _parser("docstring")
    return Markup(_CODE.sub(linked, parser.renderInline(text) if inline else parser.render(text)))


def python(code: str) -> Markup:
    """Python with keywords, strings and comments marked; of a console's lines what was typed, answers as comments.

    Args:
        code: Lines of a file, or of a console.

    Returns:
        HTML for the inside of `pre`, whose text can be run: `b` for a keyword, `u` for a string, `i` for a comment.
    """
    if _PROMPT.search(code):
        lines = (line[4:] if _PROMPT.match(line) else f"# {line}" for line in code.strip().splitlines())
        code = "\n".join(lines)
    return Markup(_marked(code))


def _marked(code: str) -> str:
    pieces, done = [], 0
    for token in _TOKEN.finditer(code):
        pieces.append(escape(code[done : token.start()], quote=False))
        pieces.append(f"<{token.lastgroup}>{escape(token[0], quote=False)}</{token.lastgroup}>")
        done = token.end()
    return "".join(pieces) + escape(code[done:], quote=False)
