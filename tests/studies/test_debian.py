"""Debian's packages that studies read: brought once, and by hand where there is no apt."""

import pytest

from robust_zoo.errors import Unavailable
from studies import debian

PACKAGES = ("tuxpaint-stamps-default", "wordnet-base")


def test_packages_that_are_there_are_not_fetched(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(debian.subprocess, "run", lambda words, **_: told.append(words))
    debian.bring(PACKAGES, [debian.STAMPS], tmp_path)
    assert told == [["apt-get", "download", "-q", *PACKAGES]]
    (tmp_path / debian.STAMPS).mkdir(parents=True)
    debian.bring(PACKAGES, [debian.STAMPS], tmp_path)
    assert len(told) == 1


def test_where_there_is_no_apt_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="cannot bring") as said:
        debian.bring(PACKAGES, [debian.STAMPS], tmp_path / "here")
    assert "apt-get" in said.value.actual and str(tmp_path) in said.value.source
    assert all(name in said.value.next for name in PACKAGES)
