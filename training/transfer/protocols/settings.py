"""What a protocol says when its settings cannot be run."""

from __future__ import annotations

from typing import Any

from robust_zoo.errors import UsageError

HELP = "robust-zoo transfer --help"


def impossible(message: str, settings: Any, expected: str) -> UsageError:
    """The error for settings that no transfer can be run with.

    Args:
        message: What is wrong, in one line.
        settings: All of them.
        expected: What would have been right.

    Returns:
        The error, for the caller to raise.
    """
    return UsageError(message, expected=expected, actual=str(settings), next=HELP)
