"""Tutorials, which are Python files in the percent format -> pages and notebooks."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from robust_zoo.site import guides
from robust_zoo.site.pages import Contents, Page, Raw
from robust_zoo.site.prose import markdown, python

PATH = "tutorials/index.html"
_KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@dataclass(frozen=True)
class Tutorial:
    """A tutorial.

    Attributes:
        name: Of its file, without the ending.
        title: Its first heading.
        about: The paragraph below it: what one gets, and how long it takes.
        cells: Whether each is code, and its text.
    """

    name: str
    title: str
    about: str
    cells: tuple[tuple[bool, str], ...]


def read(name: str, text: str) -> Tutorial:
    """A tutorial from its source.

    Args:
        name: Of its file, without the ending.
        text: Percent format; the first cell is Markdown: a heading, then a paragraph.

    Returns:
        The tutorial.

    Raises:
        ValueError: It does not begin so.
    """
    cells = tuple((cell.cell_type == "code", cell.source) for cell in _notebook(text).cells)
    head = re.match(r"# (.+)\n\n(.+(?:\n.+)*)", cells[0][1]) if cells and not cells[0][0] else None
    if not head:
        raise ValueError(f"{name} does not begin with a Markdown cell of a heading and a paragraph")
    return Tutorial(name, head[1], head[2], cells)


def notebook(text: str) -> bytes:
    """The same as a notebook, without outputs.

    Args:
        text: Percent format.

    Returns:
        An .ipynb (nbformat 4.5); the same text gives the same bytes.
    """
    import nbformat

    made = _notebook(text)
    made.metadata = nbformat.from_dict(_KERNEL)
    for number, cell in enumerate(made.cells, 1):
        cell.id = str(number)  # jupytext draws them at random
    return nbformat.writes(made, version=4).encode() + b"\n"


def notebooks(texts: Mapping[str, str]) -> bytes:
    """All tutorials as notebooks, in a .zip without times.

    Args:
        texts: Names of files without ending, and what they hold.

    Returns:
        Its bytes; the same texts give the same.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.ipynb"), notebook(text), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _notebook(text: str) -> Any:
    import jupytext

    return jupytext.reads(text, fmt="py:percent")


def build(contents: Contents) -> Iterator[Page | Raw]:
    """A list of the tutorials and guides, a page of each, and the tutorials as notebooks.

    Args:
        contents: Its tutorials and guides.

    Yields:
        Pages, and notebooks in one file.
    """
    found = [read(name, text) for name, text in sorted(contents.tutorials.items())]
    titles = [(name, guides.title(text)) for name, text in contents.guides.items()]
    values = {"tutorials": found, "guides": titles, "markdown": markdown}
    yield Page(PATH, "Tutorials and guides", "tutorials.html", values)
    yield from guides.build(contents.guides)
    for each in found:
        cells = [(is_code, python(text) if is_code else markdown(text)) for is_code, text in each.cells]
        yield Page(f"tutorials/{each.name}.html", each.title, "tutorial.html", {"tutorial": each, "cells": cells})
    if found:
        yield Raw("tutorials/notebooks.zip", notebooks(contents.tutorials))
