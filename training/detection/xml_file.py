"""XML files of anyone's: size and depth are bounded, and no document may define entities."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from robust_zoo.readers import SMALL, Malformed, read_bytes
from robust_zoo.text import printable

_DEPTH = 64  # elements within elements


class _Bounded(TreeBuilder):
    """Builds a tree of a bounded depth, of a document without a DOCTYPE: what expands or fetches is declared there."""

    depth = 0

    def doctype(self, *_: Any) -> None:
        raise Malformed("XML with a DOCTYPE, which is not read here")

    def start(self, tag: Any, attributes: Any) -> Element:
        self.depth += 1
        if self.depth > _DEPTH:
            raise Malformed(f"nested more than {_DEPTH} deep")
        return super().start(tag, attributes)

    def end(self, tag: Any) -> Element:
        self.depth -= 1
        return super().end(tag)


def read_xml(path: Path, *, limit: int = SMALL) -> Element:
    """A small XML file.

    Args:
        path: The file.
        limit: The most bytes.

    Returns:
        Its outermost element.

    Raises:
        Malformed: It is larger, not XML, nested more than 64 deep, or has a DOCTYPE.
        OSError: The file cannot be read.
    """
    parser = XMLParser(target=_Bounded())
    try:
        parser.feed(read_bytes(path, limit))
        return parser.close()
    except Malformed:
        raise
    except (ParseError, LookupError, ValueError) as error:  # ValueError: of encodings that expat does not know
        raise Malformed(f"not XML: {printable(error, limit=200)}") from None
