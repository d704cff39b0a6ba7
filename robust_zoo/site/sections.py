"""The sections of the site, a row each, in the navigation's order. A new page is a row here and a module beside."""

from __future__ import annotations

from robust_zoo.site import about, api, compare, data, index, reference, tutorials
from robust_zoo.site.pages import Section

SECTIONS: tuple[Section, ...] = (
    Section("index.html", "Checkpoints", index.build),
    Section("compare.html", "Compare", compare.build),
    Section("data.html", "Data", data.build),
    Section(tutorials.PATH, "Tutorials", tutorials.build),
    Section(api.PATH, "Reference", reference.build),
    Section("about.html", "About", about.build),
)
