"""Where the project lives. Set here and nowhere else; "" is said plainly wherever an address would stand."""

from __future__ import annotations

REPOSITORY = ""  # "OWNER/NAME" on GitHub, not set yet: nothing is published
ORGANISATION = ""  # on the Hugging Face hub, whose models `robust-zoo publish` makes, not set yet
CHECKOUT = "path/of/robust_zoo"  # stands in examples for a copy of the repository on one's own disk


def torch_hub(name: str) -> str:
    """The line of Python that loads a checkpoint through torch.hub.

    Args:
        name: The checkpoint's.

    Returns:
        An expression; of a local checkout where no repository is set.
    """
    if REPOSITORY:
        return f'torch.hub.load("{REPOSITORY}", "{name}")'
    return f'torch.hub.load("{CHECKOUT}", "{name}", source="local")'


def hub_note() -> str:
    """What to say beside it: nothing, or that it is of a copy on disk."""
    return "" if REPOSITORY else ", from a copy on disk: the project has no public repository yet"


def page(path: str) -> str:
    """The address of a file or folder of the repository.

    Args:
        path: Within it, such as "results/README.md".

    Returns:
        A link to its newest state, "" where no repository is set.
    """
    return f"https://github.com/{REPOSITORY}/blob/main/{path}" if REPOSITORY else ""


def install(extra: str = "") -> str:
    """The command that installs the package: from the repository, or from a checkout where none is set.

    Args:
        extra: A name of pyproject.toml's optional dependencies, "" for none.
    """
    wanted = f"[{extra}]" if extra else ""
    if REPOSITORY:
        return f"pip install 'robust-zoo{wanted} @ git+https://github.com/{REPOSITORY}'"
    return f"pip install '.{wanted}'" if extra else "pip install ."
