"""What a site is made of, and what it consists of: contents in, pages and files out. No torch."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from click import Group

from robust_zoo.registry.robustness import Figure
from robust_zoo.registry.rows import Checkpoint


@dataclass(frozen=True)
class Evidence:
    """An entry of the ledger, with every image's fate.

    Attributes:
        file: The entry's path in the ledger, with "/".
        entry: As `robust-zoo evaluate` wrote it, checked.
        labels: (n,) whole numbers.
        broken_by: (n,) whole numbers: the stage that broke an image, or ROBUST, WRONG of training/evaluation/fates.py.
    """

    file: str
    entry: Mapping[str, Any]
    labels: np.ndarray
    broken_by: np.ndarray


@dataclass(frozen=True)
class Contents:
    """All that a site says. The same contents give the same bytes.

    Attributes:
        checkpoints: The rows, in the order of `list_models`.
        evidence: The ledger, in the order of `read_ledger`.
        commands: `robust-zoo` itself, whose help is the reference of the command line; None leaves that out.
        tutorials: Of tutorials/, names of files without ending and what they hold; none where the package is installed.
        guides: Of docs/, likewise.
        faults: What docs/faults.md holds, which the tests write; "" where the package is installed.
        seen: What bundled models see: names of checkpoints, and pictures (WebP) of `robust-zoo visualize`.
        base_url: Where the site will be, with "/" at its end; "" where that is not known.
    """

    checkpoints: tuple[Checkpoint, ...]
    evidence: tuple[Evidence, ...] = ()
    commands: Group | None = None
    tutorials: Mapping[str, str] = field(default_factory=dict)
    guides: Mapping[str, str] = field(default_factory=dict)
    faults: str = ""
    seen: Mapping[str, bytes] = field(default_factory=dict)
    base_url: str = ""

    def of(self, checkpoint: Checkpoint) -> tuple[Evidence, ...]:
        """The entries of a checkpoint's present weights."""
        hashes = {m.weights_sha256 for m in checkpoint.measured}
        about = (e for e in self.evidence if e.entry["model"] == checkpoint.name)
        return tuple(e for e in about if e.entry["weights_sha256"] in hashes)

    def file_of(self, checkpoint: Checkpoint, figure: Figure) -> str:
        """The file of the ledger that a measured figure of a checkpoint is of; "" where there is none."""
        asked = (figure.attack, figure.norm or None, figure.eps, figure.n, figure.images)
        names = ("attack", "norm", "eps", "n", "dataset")
        return next((e.file for e in self.of(checkpoint) if tuple(e.entry[name] for name in names) == asked), "")


@dataclass(frozen=True)
class Page:
    """A page: a template and what it is filled with.

    Attributes:
        path: In the site, with "/": "model/resnet50_l2_eps3.html".
        title: Of its tab and of search results.
        template: The file's name in templates/; it extends base.html.
        values: What the template is filled with.
        description: A sentence for search results; the title where empty.
        scripts: Files of assets/ that it needs beside site.js.
    """

    path: str
    title: str
    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    scripts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Raw:
    """A file that is no page: data, a picture, a notebook.

    Attributes:
        path: In the site.
        content: Its bytes.
    """

    path: str
    content: bytes


@dataclass(frozen=True)
class Section:
    """A part of the site: a row of sections.SECTIONS.

    Attributes:
        path: Of its first page, which the navigation leads to.
        title: In the navigation.
        build: Contents -> its pages and files, the first page among them.
    """

    path: str
    title: str
    build: Callable[[Contents], Iterable[Page | Raw]]


def packed(content: bytes) -> bytes:
    """A file's bytes as gzip packs them, with no time and no name in them."""
    return gzip.compress(content, mtime=0)
