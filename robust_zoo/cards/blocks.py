"""What rows say within pages that people write: `make cards`, or python -m robust_zoo.cards.blocks of a checkout."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from robust_zoo import home
from robust_zoo.cards import bundled, ladders, strongest
from robust_zoo.errors import UsageError

Blocks = Mapping[str, Callable[[], str]]


def where() -> str:
    """How to install the package and to load a model without installing it, by what is public today."""
    said = "" if home.REPOSITORY else "Nothing is public yet: not the repository, no package on an index, no model.\n\n"
    return f"""{said}```
{home.install("training")}
```

```python
model = {home.torch_hub("resnet50_l2_eps3")}
```
"""


# A page -> the marks that stand in it -> what stands between each and the next "end".
PAGES: Mapping[str, Blocks] = {
    "README.md": {
        "The strongest checkpoints": strongest.block,
        "The first checkpoints": ladders.ladder,
    },
    "docs/measured.md": {"On all test images": bundled.on_all_images, "On fewer": bundled.on_fewer_images},
}


def renewed(text: str, blocks: Blocks) -> str:
    """A page with its tables as the rows have them.

    Args:
        text: The page.
        blocks: What stands in it, by the words of the mark before it.

    Returns:
        The same, but for what stands between marks.

    Raises:
        UsageError: A mark is not there, once each.
    """
    for name, block in blocks.items():
        begin, end = f"<!-- {name}, by `make cards`; never edited by hand. -->\n", "<!-- end -->\n"
        pattern = f"(?<={re.escape(begin)}).*?(?={re.escape(end)})"
        text, count = re.subn(pattern, lambda _, made=block(): f"\n{made}\n", text, flags=re.DOTALL)  # type: ignore[misc]
        if count != 1:
            raise UsageError(
                f"no place for {name[0].lower()}{name[1:]}",
                expected=f"one line {begin.strip()} and one {end.strip()}",
                actual=f"{count} such pairs",
                next="git checkout the page",
            )
    return text


if __name__ == "__main__":
    for name, blocks in PAGES.items():
        page = Path(sys.argv[1], name)
        page.write_text(renewed(page.read_text(encoding="utf-8"), blocks), encoding="utf-8", newline="\n")
