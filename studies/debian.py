"""Debian's packages as data: fetched and unpacked in a folder, without being installed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from robust_zoo.errors import Unavailable

STAMPS = Path("usr/share/tuxpaint/stamps")  # of tuxpaint-stamps-default


def unpack(packages: Sequence[str]) -> str:
    """How people do by hand what `bring` does, in a line."""
    return f"unpack the packages there: apt-get download {' '.join(packages)}; dpkg-deb -x FILE FOLDER, each"


def bring(packages: Sequence[str], parts: Sequence[Path], folder: Path) -> None:
    """Has packages unpacked in a folder, by apt-get and dpkg-deb, unless they are.

    Args:
        packages: Their names.
        parts: What is there when they are.
        folder: Where they are, or are brought to.

    Raises:
        Unavailable: There is no apt-get here, or it fails.
    """
    if all((folder / part).exists() for part in parts):
        return
    packed = folder / "packages"
    packed.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", "-q", *packages], cwd=packed, check=True)
        for package in sorted(packed.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(
            "cannot bring the packages",
            source=str(folder),
            expected="apt-get and dpkg-deb, and Debian's packages within their reach",
            actual=str(error),
            next=unpack(packages),
        ) from error
