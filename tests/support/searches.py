"""Searches of three steps for every kind of picture, where what is drawn does not matter."""

from robust_zoo.visualization import Search
from robust_zoo.visualization.kinds import KINDS, Kind


def shorten(monkeypatch):
    """Until the end of the test."""
    for name, row in KINDS.items():
        if row.small:
            monkeypatch.setitem(KINDS, name, Kind(row.about, row.of_images, Search(3.0, 1.0, 3), row.large))
