"""What lies beside the package in a checkout, and is not installed with it."""

from __future__ import annotations

from pathlib import Path

import robust_zoo


def texts(folder: str, ending: str) -> dict[str, str]:
    """Texts of a folder of the repository.

    Args:
        folder: Its name: "tutorials".
        ending: Of the files: ".py".

    Returns:
        Names without ending, sorted, and what the files hold; nothing where the package is installed without them.
    """
    root = Path(robust_zoo.__file__).parents[1]
    files = sorted((root / folder).glob(f"*{ending}")) if (root / "pyproject.toml").is_file() else []
    return {file.stem: file.read_text(encoding="utf-8") for file in files}
