"""The site of all rows and all results, built once for the tests that read its pages, and a reader of pages."""

from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from robust_zoo.cli import main
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.site.build import build
from robust_zoo.site.checkout import texts
from robust_zoo.site.ledger import evidence, pictures
from robust_zoo.site.pages import Contents
from robust_zoo.site.sections import SECTIONS

ROOT = Path(__file__).parents[2]
VOID = {"meta", "link", "input", "br", "wbr", "img", "hr"}
_CLOSED_BY = {  # tags whose end may be left out -> the tags that end them
    "li": {"li"}, "p": {"p", "ul", "ol", "dl", "div", "table", "pre", "h2", "h3", "nav", "form", "details", "figure"},
    "td": {"td", "th", "tr", "tbody", "thead"}, "th": {"td", "th", "tr", "tbody", "thead"}, "tr": {"tr", "tbody"},
    "thead": {"tbody"}, "tbody": {"tbody"}, "head": {"body"},
    "dt": {"dt", "dd"}, "dd": {"dt", "dd"}, "option": {"option"},
}  # fmt: skip


@cache
def contents():
    """All that the site says."""
    ledger = ROOT / "results"
    return Contents(tuple(get(name) for name in list_models()), evidence(ledger), seen=pictures(ledger))


@cache
def checkout():
    """All that the site says where the repository is beside the package: commands, tutorials and guides too."""
    guides = texts("docs", ".md")
    beside = {"faults": guides.pop("faults"), "guides": guides, "tutorials": texts("tutorials", ".py")}
    return replace(contents(), commands=main, **beside)


@cache
def files():
    """The site of the package alone: path -> bytes."""
    return build(contents())


@cache
def written():
    """The whole site of a checkout as its templates write it."""
    return build(checkout(), minify=False)


@cache
def checkpoints():
    """The pages about checkpoints alone, which need no reader of docstrings."""
    return build(contents(), SECTIONS[:1])


class Page(HTMLParser):
    """A page's elements, each as (tag, attributes, text inside, the same of what it is in), and its pieces of text.

    Args:
        content: The page's bytes.
    """

    def __init__(self, content):
        super().__init__()
        self.elements, self.open, self.pieces = [], [], []
        self.feed(content.decode())

    def handle_starttag(self, tag, attributes):
        while self.open and tag in _CLOSED_BY.get(self.open[-1]["tag"], ()):
            self.open.pop()
        element = {"tag": tag, "text": "", "path": [*self.open], "inside": [], **dict(attributes)}
        for outer in self.open:
            outer["inside"].append(element)
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append({"tag": tag, "text": "", "path": [*self.open], **dict(attributes)})

    def handle_endtag(self, tag):
        while self.open and self.open.pop()["tag"] != tag:
            pass

    def handle_data(self, text):
        self.pieces.append((text, [*self.open]))
        for element in self.open:
            element["text"] += text

    def all(self, tag, word=""):
        """Elements of a tag, and of a class where one is given."""
        return [e for e in self.elements if e["tag"] == tag and (not word or word in (e.get("class") or "").split())]


def links(element):
    """The checkpoints that an element's links lead to."""
    found = [e["href"] for e in element["inside"] if e["tag"] == "a" and "model/" in e["href"]]
    return [link[len("model/") : -len(".html")] for link in found]


def inside(element, key):
    """An attribute of the nearest element around, "" where none has it."""
    return next((outer[key] for outer in reversed(element["path"]) if outer.get(key)), "")
