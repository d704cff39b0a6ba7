"""Contents -> all files of the site, as bytes. No torch; Jinja2, which comes with it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robust_zoo import __version__, home
from robust_zoo.charts.drawing import RULES
from robust_zoo.errors import not_installed
from robust_zoo.site.pages import Contents, Page, Raw, Section
from robust_zoo.site.sections import SECTIONS

_HERE = Path(__file__).parent
_SPACE = """---
title: robust_zoo
sdk: static
app_file: index.html
license: mit
short_description: Adversarially robust weights, with their evidence
---

# robust_zoo

The pages of the zoo, by `robust-zoo site`: open index.html.
As it is, this folder is a static Space of the Hugging Face hub.
"""
_NEEDED = {
    "jinja2": "Jinja2",
    "griffe": "griffe",
    "jupytext": "jupytext",
    "markdown_it": "markdown-it-py",
    "minify_html": "minify-html",
}


def require() -> None:
    """That what pages are made with is installed. Raises UsageError, with the line that installs it."""
    for module, package in _NEEDED.items():
        if find_spec(module) is None:
            raise not_installed("the site needs packages that are not installed", package, "site")


def build(contents: Contents, sections: Sequence[Section] = SECTIONS, *, minify: bool = True) -> dict[str, bytes]:
    """Makes the whole site in memory; the same contents give the same bytes.

    Args:
        contents: What it says.
        sections: What it consists of.
        minify: Leave out of pages what browsers do without: spaces between tags, ends that follow by themselves.

    Returns:
        Each file's path in the site, sorted, and its bytes.

    Raises:
        ValueError: Two pages have one path, or a section lacks the page that the navigation leads to.
    """
    environment, files, pages = _environment(), _assets(), []
    for section in sections:
        made = list(section.build(contents))
        if section.path not in {item.path for item in made}:
            raise ValueError(f"the section {section.title} has no {section.path}")
        for item in made:
            if item.path in files:
                raise ValueError(f"two pages of the site are called {item.path}")
            if isinstance(item, Raw):
                files[item.path] = item.content
                continue
            pages.append(item.path)
            text = _rendered(environment, item, section, sections, contents)
            files[item.path] = (minified(text) if minify else text).encode()
    files["README.md"] = _SPACE.encode()
    if contents.base_url:
        files["sitemap.xml"] = _sitemap(contents.base_url, pages)
    return dict(sorted(files.items()))


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment


def plain(text: str) -> Any:
    """A text between tags, where quotes may stay as they are, as HTML."""
    from markupsafe import Markup

    return Markup(html.escape(text, quote=False))


def minified(text: str) -> str:
    """The same page in fewer letters; every element must be closed in it, or minify-html drops what follows."""
    import minify_html

    return str(minify_html.minify(text))


def _rendered(environment: Any, page: Page, section: Section, sections: Sequence[Section], contents: Contents) -> str:
    return environment.get_template(page.template).render(
        **page.values,
        page=page,
        root="../" * page.path.count("/"),
        section=section,
        sections=sections,
        base_url=contents.base_url,
        repository=home.REPOSITORY,
        version=__version__,
    )


def _assets() -> dict[str, bytes]:
    files = {f"assets/{path.name}": path.read_bytes() for path in (_HERE / "assets").iterdir() if path.is_file()}
    files["assets/site.css"] += RULES.encode()  # what pictures need, which standing alone carry it themselves
    return files


def _sitemap(base_url: str, paths: Sequence[str]) -> bytes:
    from xml.sax.saxutils import escape

    urls = "".join(f"<url><loc>{escape(base_url + path)}</loc></url>\n" for path in sorted(paths))
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    return f"{head}{urls}</urlset>\n".encode()
