"""What rows say within pages that people write: `make cards`, or python -m robust_zoo.cards.blocks of a checkout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from robust_zoo import home
from robust_zoo.cards import bundled, corruptions, ladders, strongest
from robust_zoo.errors import UsageError
from robust_zoo.weights.variables import VARIABLES

Blocks = Mapping[str, Callable[[], str]]


def where() -> str:
    """How to install the package, by what is public today.

    Returns:
        Markdown.
    """
    public = (
        "From the repository:"
        if home.REPOSITORY
        else ("No release is on a package index yet, and the repository has no public address; in a checkout:")
    )
    plain, training = home.install(), home.install("training")
    column = max(map(len, (plain, training))) + 3
    return f"""{public}

```
{plain:{column}}# Python 3.11 or newer: load, classify, verify
{training:{column}}# and attack, evaluate, train, transfer
{"make demo":{column}}# or all of it into .venv, then an attack on five models
```

Further extras: `slurm`, `tensorboard`, `hf` (datasets of the hub), `signing`, `site`; `dev` has all, for the tests.
"""


def elsewhere() -> str:
    """A checkpoint through torch.hub.

    Returns:
        Markdown.
    """
    said = (
        ""
        if home.REPOSITORY
        else "The project has no public repository yet, so torch.hub loads from a copy on disk.\n\n"
    )
    return f"""{said}```python
robust = {home.torch_hub("resnet50_l2_eps3")}
```
"""


def environment() -> str:
    """The variables that are read.

    Returns:
        Markdown.
    """
    rows = (f"| `{name}` | {text} |" for name, text in VARIABLES.items())
    return "\n".join(["| variable | meaning |", "| --- | --- |", *rows, ""])


# A page -> the marks that stand in it -> what stands between each and the next "end".
PAGES: Mapping[str, Blocks] = {
    "README.md": {
        "Where it is": where,
        "The strongest checkpoints": strongest.block,
        "The first checkpoints": ladders.ladders,
    },
    "docs/use.md": {"Through torch.hub": elsewhere},
    "docs/trust.md": {"Variables of the environment": environment},
    "docs/measured.md": {
        "On all test images": bundled.on_all_images,
        "On fewer": bundled.on_fewer_images,
        "Under corruptions": corruptions.bundled,
    },
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
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found or begin in after:
            raise UsageError(
                f"no place for {name[0].lower()}{name[1:]}",
                expected=f"one line {begin.strip()}, and after it one {end.strip()}",
                actual=f"{text.count(begin)} and {text.count(end)} of them",
                next="git checkout README.md docs",
            )
        text = f"{before}{begin}{block()}{end}{after}"
    return text


if __name__ == "__main__":
    for name, blocks in PAGES.items():
        page = Path(sys.argv[1], name)
        page.write_text(renewed(page.read_text(encoding="utf-8"), blocks), encoding="utf-8", newline="\n")
