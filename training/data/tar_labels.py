"""What labels the images of tar shards: files beside them (KEY.cls, KEY.json, KEY.txt), or the folders they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

from robust_zoo.readers import SMALL, read_json, read_text
from robust_zoo.training.data.arrays import HIGHEST
from robust_zoo.training.data.encoded import in_order, not_a_dataset

BESIDE = ("cls", "json", "txt")  # the first that an image has is its label; .txt often is a caption
_LONGEST = 100  # characters of a class's name

Span = tuple[int, int, int]  # (shard, offset, size)


@dataclass(frozen=True)
class Fault:
    """Why what stands beside an image is no label: a caption, say; refused only where an image has nothing else."""

    reason: str


Label = int | str | Fault


@dataclass
class Shard:
    """What lies in one tar file.

    Attributes:
        file: The tar file.
        images: Their spans, by name.
        labels: For each of BESIDE the labels by the names of the files that hold them, without their endings.
    """

    file: Path
    images: dict[str, Span] = field(default_factory=dict)
    labels: dict[str, dict[str, Label]] = field(default_factory=lambda: {kind: {} for kind in BESIDE})

    def add_image(self, name: str, span: Span) -> None:
        """Notes an image; a second one of its name is refused."""
        if name in self.images:
            raise not_a_dataset(self.file, "every name once", f"{name} twice")
        self.images[name] = span

    def add_text(self, name: str, content: bytes | None) -> None:
        """Notes the label in a .cls, .json or .txt member, None for one that is too large to be a label."""
        stem, _, kind = name.rpartition(".")
        if any(part.startswith(".") for part in PurePosixPath(name).parts):
            return  # hidden, of a Macintosh
        if stem in self.labels[kind]:
            raise not_a_dataset(self.file, "every name once", f"{name} twice")
        label: Label | None
        try:
            label = _label(kind, content)
        except ValueError as error:
            label = Fault(str(error))
        if label is not None:
            self.labels[kind][stem] = label


def _label(kind: str, content: bytes | None) -> int | str | None:
    """The class in a member; None where JSON has no "label" (a caption, say)."""
    if content is None:
        raise ValueError(f"more than {SMALL:,} bytes are no label")
    if kind == "json":
        if (label := read_json(content, finite=False).get("label")) is None:
            return None
        if isinstance(label, bool) or not isinstance(label, int | str):
            raise ValueError(f"the label {str(label)[:40]} is neither a whole number nor a name")
        return _class(str(label).strip())
    return _class(read_text(content).strip())


def _class(text: str) -> int | str:
    """A number in digits, or a name."""
    if not text:
        raise ValueError("an empty label")
    if text.isascii() and text.isdigit():
        if len(text) > 18 or int(text) > HIGHEST:
            raise ValueError(f"a label of {text[:24]}, above {HIGHEST:,}")
        return int(text)
    try:
        float(text)
    except ValueError:
        pass
    else:
        raise ValueError(f"a label of {text[:24]}: numbers are to be whole and count from 0")
    if len(text) > _LONGEST or not text.isprintable():
        raise ValueError(f"{text[:40]!r}... is no name of a class: several lines or more than {_LONGEST} characters")
    return text


def labelled(shards: Sequence[Shard]) -> tuple[list[str], list[Span], list[int], tuple[str, ...]]:
    """Finds every image's label, by one way for all shards.

    Args:
        shards: With an image or more in each.

    Returns:
        Names, sorted; spans; labels; and the classes' names, () where labels are numbers already.

    Raises:
        UsageError: An image has no label, a label no image, two images the same one, or the shards disagree.
    """
    way = _way(shards)
    entries = [entry for shard in shards for entry in (_by_folder(shard) if way == "" else _beside(shard, way))]
    found: dict[type, tuple[str, int | str]] = {}
    for name, _, label in entries:
        found.setdefault(type(label), (name, label))
    if len(found) > 1:
        both = " and ".join(f"{label!r} ({name})" for name, label in found.values())
        raise not_a_dataset(shards[0].file.parent, "numbers as labels, or names as labels", both)
    names, spans, labels = zip(*sorted(entries, key=lambda entry: entry[0]), strict=True)
    classes = tuple(in_order(set(labels))) if str in found else ()
    number_of = {name: i for i, name in enumerate(classes)}
    return list(names), list(spans), [number_of.get(label, label) for label in labels], classes


def _way(shards: Sequence[Shard]) -> str:
    """What labels all shards: "cls" (or JSON), "txt", or "" for folders."""
    own = [any(_own(name, labels) is not None for name in s.images) for s in shards for labels in [_of(s, "cls")]]
    if any(own):
        if not all(own):
            files = [shard.file.name for shard in shards]
            actual = f"labels beside images in {files[own.index(True)]}, none in {files[own.index(False)]}"
            raise not_a_dataset(shards[0].file.parent, "one way of labelling in all shards", actual)
        return "cls"
    folders = {PurePosixPath(name).parent.name for shard in shards for name in shard.images}
    texts = all(any(_own(name, _of(shard, "txt")) is not None for name in shard.images) for shard in shards)
    return "txt" if texts and len(folders) < 2 else ""


def _of(shard: Shard, way: str) -> dict[str, Label]:
    return shard.labels["txt"] if way == "txt" else shard.labels["json"] | shard.labels["cls"]


def _own(name: str, labels: dict[str, Label]) -> str | None:
    """The label file of an image: of its name without the ending, or, WebDataset's way, up to the first dot."""
    stem = name.rpartition(".")[0]
    folder, slash, last = stem.rpartition("/")
    return next((key for key in (stem, folder + slash + last.partition(".")[0]) if key in labels), None)


def _beside(shard: Shard, way: str) -> list[tuple[str, Span, int | str]]:
    labels = _of(shard, way)

    def refuse(expected: str, actual: str) -> NoReturn:
        raise not_a_dataset(shard.file, expected, actual)

    if missing := [name for name in shard.images if _own(name, labels) is None]:
        endings = ".txt" if way == "txt" else ".cls or .json"
        share = f"as {len(missing)} of {len(shard.images)}"
        refuse("a label for every image", f"{missing[0]} has no {endings} beside it, {share}")
    entries: list[tuple[str, Span, int | str]] = []
    image_of: dict[str, str] = {}
    for name, span in shard.images.items():
        key = _own(name, labels) or ""
        if key in image_of:
            refuse("one image for every label", f"{image_of[key]} and {name} share the label of {key}")
        label, image_of[key] = labels[key], name
        if isinstance(label, Fault):
            refuse("a class's number or name in each label", f"beside {name}: {label.reason}")
        entries.append((f"{shard.file.name}/{name}", span, label))
    if lost := [key for key, label in labels.items() if key not in image_of and not isinstance(label, Fault)]:
        refuse("an image (.jpg, .png, .webp) for every label", f"{len(lost)} labels without one, first of {lost[0]}")
    return entries


def _by_folder(shard: Shard) -> list[tuple[str, Span, int | str]]:
    entries: list[tuple[str, Span, int | str]] = []
    for name, span in shard.images.items():
        if not (folder := PurePosixPath(name).parent.name):
            expected = "a .cls file beside each image with its class, or class folders in the .tar files"
            raise not_a_dataset(shard.file, expected, f"{name}, without a class")
        entries.append((name, span, folder))
    return entries
