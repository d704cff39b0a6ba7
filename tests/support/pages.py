"""Pages of Markdown as a reader sees them: tables, sections, links. By markdown-it, not by the code that wrote them."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


@dataclass
class Cell:
    """A cell of a table.

    Attributes:
        text: What is read; a line break is a space.
        links: Where its links lead.
        emphasised: What of it stands in italics.
    """

    text: str
    links: list[str]
    emphasised: list[str]


@dataclass
class Table:
    """A table and the heading it stands under."""

    section: str
    head: list[str]
    rows: list[list[Cell]]


def _cell(inline):
    parts, links, emphasised, italic = [], [], [], False
    for token in inline.children:
        if token.type in ("text", "code_inline"):
            parts.append(token.content)
            if italic:
                emphasised.append(token.content)
        elif token.type == "link_open":
            links.append(token.attrs["href"])
        elif token.type in ("em_open", "em_close"):
            italic = token.type == "em_open"
        elif token.type == "html_inline" and token.content == "<br>":
            parts.append(" ")
    return Cell("".join(parts).strip(), links, emphasised)


@cache
def _tokens(text):
    return _MARKDOWN.parse(body(text))


def body(text):
    """A card without its front matter; any other page as it is."""
    return text.split("---\n", 2)[2] if text.startswith("---\n") else text


def tables(text):
    """All tables of a page, in order."""
    found, section, heading, cell = [], "", False, False
    for token in _tokens(text):
        if token.type == "heading_open":
            heading = True
        elif token.type == "table_open":
            found.append(Table(section, [], []))
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            if found[-1].head:
                found[-1].rows.append(row)
            else:
                found[-1].head = [cell.text for cell in row]
        elif token.type in ("th_open", "td_open"):
            cell = True
        elif token.type == "inline" and heading:
            section, heading = token.content, False
        elif token.type == "inline" and cell:
            row.append(_cell(token))
            cell = False
    return found


def links(text):
    """Every address that a page links to or shows a picture from."""
    tokens = [child for token in _tokens(text) for child in token.children or []]
    return [t.attrs.get("href") or t.attrs.get("src") for t in tokens if t.type in ("link_open", "image")]


def anchors(text):
    """The fragments that a page's headings answer to, as GitHub makes them."""
    tokens = _tokens(text)
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
