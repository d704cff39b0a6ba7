"""The reference of the command line: what `--help` of each verb says."""

from __future__ import annotations

from collections.abc import Iterator

from robust_zoo.site.pages import Contents, Page
from robust_zoo.site.prose import docstring
from robust_zoo.site.verbs import Verb, verbs
from robust_zoo.weights.variables import VARIABLES

PATH = "cli.html"
PROGRAM = "robust-zoo"


def anchor(verb: Verb) -> str:
    """A verb's place in the page."""
    return verb.name.replace(" ", "-")


def build(contents: Contents) -> Iterator[Page]:
    """The page; none without `contents.commands`.

    Args:
        contents: Its commands are the page.

    Yields:
        At most one page.
    """
    if contents.commands is not None:
        main, *found = verbs(contents.commands, PROGRAM)
        values = {"main": main, "verbs": found, "variables": VARIABLES, "anchor": anchor, "said": docstring}
        yield Page(PATH, "Command line", "cli.html", values)
