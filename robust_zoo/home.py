"""Where the project lives. Set here and nowhere else; "" is said plainly wherever an address would stand."""

from __future__ import annotations

REPOSITORY = ""  # "OWNER/NAME" on GitHub, not set yet: nothing is published
ORGANISATION = ""  # on the Hugging Face hub, whose models `robust-zoo publish` makes, not set yet
