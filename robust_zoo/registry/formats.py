"""How networks are built and how files are laid out: [architecture.X], [format.X] and [keys.X]. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """A network.

    Attributes:
        name: As the zoo has it.
        timm: The name of its builder, timm's or of robust_zoo.architectures.
        torchvision: torchvision's name, "" where it has none.
        keys: The rule from the source's state-dict keys to timm's: one of weights/key_rules.py, or a [keys.X].
        parameters: How many it has, with a head for the classes it was trained on.
        label: Its part of a checkpoint's name.
        arguments: Of the builder, beside those of a caller: what no file says, such as the activation.
        plain_timm: What timm without this package calls a builder of the same network, "" where it has none.
        plain_arguments: Of that builder.
    """

    name: str
    timm: str
    torchvision: str
    keys: str
    parameters: int
    label: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    plain_timm: str = ""
    plain_arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def published(self) -> tuple[str, dict[str, Any]]:
        """The builder that a published file names, and what it is told beside the number of classes: plain timm's, else
        that of this package, which timm knows after `register_with_timm()`."""
        builder, told = (self.plain_timm, self.plain_arguments) if self.plain_timm else (self.timm, self.arguments)
        return builder, {key: value for key, value in told.items() if key != "num_classes"}

    @property
    def built(self) -> str:
        """Its builder and what that is told: "resnet50", "resnet50(act_layer='gelu')"."""
        told = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return f"{self.timm}({told})" if told else self.timm

    @property
    def aliases(self) -> frozenset[str]:
        """What else it may be called: the names of the libraries that build the same network."""
        return frozenset() if self.arguments else frozenset({self.timm, self.torchvision} - {""})


@dataclass(frozen=True)
class KeyTable:
    """A map from a source's state-dict keys to timm's.

    Attributes:
        name: As the zoo has it.
        drop: Patterns of the keys that hold what the network computes for itself.
        rename: (pattern, replacement), each applied to what the one before it left, in order.
        reshape: Patterns of timm's names whose tensors are the source's in another shape.
        transpose: Patterns of timm's names whose matrices are the source's transposed.
        zeros: timm's names of what the source's network does not have, and zeros make no difference.
    """

    name: str
    drop: tuple[str, ...]
    rename: tuple[tuple[str, str], ...]
    reshape: tuple[str, ...] = ()
    transpose: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()

    def to_timm(self, key: str) -> str | None:
        """timm's name of a key, None where the tensor is not wanted.

        Args:
            key: As the source has it.

        Returns:
            The name.
        """
        if any(re.search(pattern, key) for pattern in self.drop):
            return None
        for pattern, replacement in self.rename:
            key = re.sub(pattern, replacement, key, count=1)
        return key


NORMALIZER = ("optional", "told")


@dataclass(frozen=True)
class Format:
    """Where in a file a network's tensors are.

    Attributes:
        name: As the zoo has it.
        payload: Keys of the file's dict; the first that is there holds the tensors. "" is the dict itself.
        strip: Prefixes, each taken off, in any order and as often as needed, where every tensor has it.
        inner: What the network's own tensors begin with where a normaliser or a copy lies beside them.
        copy: What a second copy of the network begins with, which must be equal; "" where there is none.
        mean: Names that the normaliser's mean may have, "" left out for none.
        std: As mean.
        normalizer: One of NORMALIZER. "optional": checked where it is there. "told": it is in the file whenever the
            network has one, so a file without it is of a network that takes images in [0, 1] as they are.
        copies: How often a file holds the network's size: with the optimizer's momentum 2, for example.
    """

    name: str
    payload: tuple[str, ...]
    strip: tuple[str, ...]
    inner: str
    copy: str
    mean: tuple[str, ...]
    std: tuple[str, ...]
    normalizer: str
    copies: float
