"""How a folder of images lies on the disk: splits, class folders, what is left out; one rule for every verb."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from robust_zoo.text import listed
from robust_zoo.training.data.encoded import in_order, is_hidden, is_image, not_a_dataset
from robust_zoo.training.data.left_out import LeftOut
from robust_zoo.training.data.tar import is_shard

Files = list[tuple[str, int]]  # (name under the folder that was read, bytes)

_SPLIT = re.compile(r"(?:(train(?:ing)?)|(val(?:id(?:ation)?)?)|(test(?:ing)?))(?:[ _-]?(?:set|data|images|split))?")
_SPLITS = ("train", "val", "test")
_DEEPEST = 64  # folders within each other


@dataclass(frozen=True)
class Layout:
    """Where the class folders are.

    Attributes:
        given: The folder that was asked for.
        root: The same, or the one in it that it only wraps.
        splits: The folder of each split there is, by "train", "val" or "test"; empty where `root` holds the classes.
        left_out: What lies beside them.
    """

    given: Path
    root: Path
    splits: dict[str, Path]
    left_out: LeftOut

    def place(self, folder: Path) -> str:
        """Where a folder lies in the one that was asked for, as words of a note: "" where it is the same."""
        return "" if folder == self.given else f" in {listed([folder.relative_to(self.given).as_posix()])}"


def split_of(name: str) -> str:
    """The split that a folder is called by, in any case ("Training", "val_set"): "train", "val" or "test"; else ""."""
    found = _SPLIT.fullmatch(name.casefold())
    return _SPLITS[found.lastindex - 1] if found and found.lastindex else ""


def layout_of(path: Path) -> Layout:
    """As `find_layout`; a file, or nothing, is a place without splits.

    Args:
        path: A folder as `find_layout` takes it, or anything else.

    Returns:
        The layout.

    Raises:
        UsageError: The folder is not laid out so.
    """
    return find_layout(path) if path.is_dir() else Layout(path, path, {}, LeftOut())


def find_layout(root: Path) -> Layout:
    """Looks where the class folders are; none of them is read.

    Args:
        root: Holds class folders (or tar files), or folders of splits that do (train, val, validation, test, ...), or
            one folder that holds all this.

    Returns:
        The layout.

    Raises:
        UsageError: The folder is not laid out so.
    """
    with _readable(root):
        left_out = LeftOut()
        given, root = root, _inside(root, left_out)
        folders = {entry.name: Path(entry.path) for entry in _entries(root) if _is_folder(entry)}
        called = {name: split_of(name) for name in folders if split_of(name)}
        whole = [name for name in called if _holds_classes(folders[name])]
        others = [name for name in folders if name not in called]
        if not whole:
            if len(set(called.values())) > 1 or (called and not others):
                raise not_a_dataset(root, "class folders", f"splits without class folders: {listed([*called])}")
            return Layout(given, root, {}, left_out)
        if len(set(called.values())) == 1 and (mixed := [name for name in others if _any_image(folders[name])]):
            beside = f"the split {whole[0]}, and beside it {listed(mixed)}"
            raise not_a_dataset(root, "class folders, or splits that hold them", beside)
        splits = {split: [name for name in whole if called[name] == split] for split in _SPLITS}
        if twice := next((names for names in splits.values() if len(names) > 1), None):
            raise not_a_dataset(root, "one folder for each split", listed(twice))
        left_out.folders = [name for name in folders if name not in whole]
        _count_files(_entries(root), left_out)
        found = {split: _inside(folders[names[0]], left_out, split) for split, names in splits.items() if names}
        return Layout(given, root, found, left_out)


def read_classes(folder: Path, left_out: LeftOut, *, empty: bool = False) -> dict[str, Files]:
    """The images of class folders, at any depth below them.

    Args:
        folder: Holds them.
        left_out: Is told what is not taken.
        empty: Whether a class may be without images.

    Returns:
        The images of each class, sorted; classes in the order of their labels.

    Raises:
        UsageError: There is no class, or one without images; or files cannot be read.
    """
    with _readable(folder):
        entries = _entries(folder)
        classes = [entry.name for entry in entries if _is_folder(entry)]
        _count_files(entries, left_out)
        if not classes:
            loose = f"none; {left_out.loose:,} images lie in it directly" if left_out.loose else "none"
            raise not_a_dataset(folder, "class folders", loose)
        found = {}
        for name in in_order(classes):
            before = str(left_out)
            found[name] = list(_images(folder / name, name, left_out, ()))
            if not found[name] and not empty:
                there = f"none here; left out: {left_out}" if str(left_out) != before else "none here"
                raise not_a_dataset(folder / name, "images in every class folder", there)
        return found


def loose_images(folder: Path, left_out: LeftOut) -> Files:
    """The images of a folder that holds nothing else to take: no class folders, no tar files.

    Args:
        folder: Any.
        left_out: Is told what is not taken.

    Returns:
        Its images, sorted; none where there is a folder or a tar file.

    Raises:
        UsageError: The folder cannot be read.
    """
    with _readable(folder):
        if _holds_classes(folder):
            return []
        return images_below(folder, left_out)


def images_below(folder: Path, left_out: LeftOut) -> Files:
    """All images of a folder, whatever the folders in it stand for.

    Args:
        folder: Any.
        left_out: Is told what is not taken.

    Returns:
        Its images at any depth, sorted.

    Raises:
        UsageError: The folder cannot be read, or leads back into itself.
    """
    with _readable(folder):
        return [(name.removeprefix("/"), size) for name, size in _images(folder, "", left_out, (), whole=False)]


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # a link to nowhere, a folder without permission, or none
        next_ = "put right what is named, or take it away"
        raise not_a_dataset(folder, "a folder that can be read", str(error), next=next_) from None


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:  # twice as fast as rglob, which counts for a million files
        return sorted(entries, key=lambda entry: entry.name)


def _count_files(entries: Iterable[os.DirEntry[str]], left_out: LeftOut) -> None:
    """Of what lies beside folders."""
    for entry in entries:
        if is_image(entry.name) and not entry.is_dir():
            left_out.loose += 1
        elif not _is_folder(entry):
            left_out.add(entry)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return not is_hidden(entry.name) and entry.is_dir()


def _inside(folder: Path, left_out: LeftOut, split: str = "") -> Path:
    """The folder, or the one in it that it only wraps: the only one, no (other) split, without images of its own."""
    for _ in range(_DEEPEST):
        entries = _entries(folder)
        folders = [entry for entry in entries if _is_folder(entry)]
        if (
            len(folders) != 1
            or split_of(folders[0].name) not in ("", split)
            or any(is_image(entry.name) for entry in entries)
        ):
            return folder
        inner = _entries(folders[0].path)
        if any(is_image(e.name) for e in inner) or not any(_is_folder(e) or _is_tar(e) for e in inner):
            return folder
        _count_files(entries, left_out)
        folder = Path(folders[0].path)
    raise not_a_dataset(folder, "class folders", f"{_DEEPEST} folders within each other")


def _holds_classes(folder: Path) -> bool:
    return any(_is_folder(entry) or _is_tar(entry) for entry in _entries(folder))


def _is_tar(entry: os.DirEntry[str]) -> bool:
    return not is_hidden(entry.name) and is_shard(entry.name)


def _any_image(folder: Path) -> bool:
    return any(True for _ in _images(folder, "", LeftOut(), ()))


def _images(
    folder: Path, name: str, left_out: LeftOut, above: tuple[tuple[int, int], ...], *, whole: bool = True
) -> Iterator[tuple[str, int]]:
    """(name, bytes) of the images in a folder called `name`, at any depth, sorted; above: the folders it lies in;
    whole: it is a class, which is not split further."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above or len(above) > _DEEPEST:
        raise not_a_dataset(folder, f"{_DEEPEST} folders within each other at most", "more, or a link to one above it")
    entries = _entries(folder)
    splits = {split_of(entry.name) for entry in entries if _is_folder(entry)} - {""}
    if whole and len(splits) > 1:
        raise not_a_dataset(folder, "class folders in splits", f"{' and '.join(sorted(splits))} in a class folder")
    for entry in entries:
        if _is_folder(entry):
            yield from _images(folder / entry.name, f"{name}/{entry.name}", left_out, (*above, here), whole=whole)
        elif is_image(entry.name) and stat.S_ISREG(entry.stat().st_mode):  # a pipe would be waited for
            yield f"{name}/{entry.name}", entry.stat().st_size
        else:
            left_out.add(entry)
