"""Folders of images with objects: which files of them are for training, which for testing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from robust_zoo.errors import UsageError
from robust_zoo.text import printable, several
from robust_zoo.training.detection.coco import read_coco
from robust_zoo.training.detection.detectors import learnable
from robust_zoo.training.detection.matching import findable
from robust_zoo.training.detection.scenes import DetectionTarget, Scenes
from robust_zoo.training.detection.voc import read_voc

_JSON = ("annotations/instances_{}*.json", "{}*/_annotations.coco.json")  # COCO's, and that of labelling tools
_TEST = ("test", "val")  # splits whose names begin so, the first that is there
_NAME = 300  # bytes of a list that its first name is within
_VOC = (("trainval", "test"), ("train", "val"))  # the second where what stands in test images is not public
_FORMS = (
    "annotations/instances_train*.json and instances_val*.json beside folders of their names (COCO), "
    "train/_annotations.coco.json and so on, or ImageSets/Main, Annotations and JPEGImages (VOC)"
)


def open_scenes(name: str, root: Path = Path(), *, workers: int = 0) -> DetectionTarget:
    """Opens a folder of images whose objects are described as COCO's or VOC's are.

    Args:
        name: The folder; or where it lies under `root` ("coco", "VOCdevkit/VOC2007").
        root: The folder that named datasets lie under.
        workers: Processes that read images, 0 for none.

    Returns:
        Images to train on and to test on: test images, or validation images where there are none; of several years
        the last that has both. Images without an object that can be learnt are tested on, not trained on.

    Raises:
        UsageError: There is no such folder, it is laid out otherwise, a file in it is not sound, nothing is to be found
            in its test images, or one of them is among the training images.
    """
    folder = next((place for place in (Path(name), root / name) if place.is_dir()), None)
    if folder is None:
        raise _unknown(name, root / name, "no folder")
    found = _coco(folder) or _voc(folder)
    if found is None:
        held = sorted(path.name for path in folder.iterdir())[:5]
        raise _unknown(name, folder, f"a folder with {', '.join(held)}" if held else "an empty folder")
    train, test, taken = found
    learnt = train.where(lambda scene: bool(learnable(scene).any()))
    to_find = test.where(lambda scene: bool(findable(scene.objects).any()))
    if not learnt.images or not to_find.images:
        raise _unknown(
            name, folder, f"{len(learnt)} images with objects to train on, {len(to_find)} with objects to find"
        )
    if train.classes != test.classes:
        raise _unknown(name, folder, "other classes, or in another order, in test images than in training images")
    _check_apart(train, test)
    words = [f"{_counted(learnt)} to train on", f"{_counted(test)} to test on"]
    words += [f"{several(len(train) - len(learnt), 'image')} without any left out"] * (len(train) > len(learnt))
    note = "; ".join(filter(None, [several(len(train.classes), "class", "es"), ", ".join(words), taken]))
    train, test = (replace(scenes, workers=workers) for scenes in (learnt, test))
    return DetectionTarget(printable(folder.resolve().name), train.classes, train, test, printable(note))


def _coco(folder: Path) -> tuple[Scenes, Scenes, str] | None:
    for pattern in _JSON:
        for name in _TEST:
            train, test = _by_year(folder, pattern.format("train")), _by_year(folder, pattern.format(name))
            if not (train and test):
                continue
            year = max(train.keys() & test.keys(), default=None)
            files = [found[year] if year is not None else min(found.values()) for found in (train, test)]
            taken = " and ".join(str(file.relative_to(folder)) for file in files)
            scenes = [read_coco(file, _images_of(file, folder)) for file in files]
            return scenes[0], scenes[1], f"{taken} taken" if len(train) + len(test) > 2 else ""
    return None


def _by_year(folder: Path, pattern: str) -> dict[str, Path]:
    """Files by the digits of what their names have after the split's: val2014 shares images with train2017."""
    start, _, end = pattern.partition("*")
    files = sorted(folder.glob(pattern), reverse=True)  # so that of one year the first stays
    rests = [file.relative_to(folder).as_posix().removeprefix(start).removesuffix(end) for file in files]
    return {"".join(filter(str.isdigit, rest)): file for rest, file in zip(rests, files, strict=True)}


def _images_of(file: Path, folder: Path) -> Path:
    """Where the images of a file of COCO's lie."""
    split = file.stem.removeprefix("instances_")
    places = [folder / split, folder / "images" / split, folder / "images"] if split != file.stem else []
    return next((place for place in places if place.is_dir()), file.parent)


def _voc(folder: Path) -> tuple[Scenes, Scenes, str] | None:
    lists = folder / "ImageSets" / "Main"
    there = [pair for pair in _VOC if all((lists / f"{split}.txt").is_file() for split in pair)]
    for train, test in sorted(there, key=lambda pair: not _described(folder, lists / f"{pair[1]}.txt")):
        scenes = read_voc(folder, train)
        return scenes, read_voc(folder, test, scenes.classes), ""
    return None


def _described(folder: Path, names: Path) -> bool:
    """Whether there is an xml for the first image of a list."""
    with names.open("rb") as file:
        first = next(iter(file.read(_NAME).split()), b"").decode("utf-8", "replace")
    return (folder / "Annotations" / f"{first}.xml").is_file()


def _check_apart(train: Scenes, test: Scenes) -> None:
    """Raises UsageError when an image is among both."""
    trained = {scene.path for scene in train.images}
    if both := [scene.path for scene in test.images if scene.path in trained]:
        raise UsageError(
            f"{several(len(both), 'image')} to test on would be trained on too",
            source=str(both[0]),
            expected="no image in both lists",
            actual=f"{len(both):,} of {len(test):,} test images, {both[0].name} first",
            next="take them out of one of the two",
        )


def _counted(scenes: Scenes) -> str:
    objects = sum(len(scene.objects.labels) for scene in scenes.images)
    return f"{several(len(scenes), 'image')} with {several(objects, 'object')}"


def _unknown(name: str, place: Path, actual: str) -> UsageError:
    return UsageError(
        f"{name!r} holds no images with objects to train on and others to test on",
        source=str(place),
        expected=_FORMS,
        actual=actual,
        next="robust-zoo transfer run --help   says what --protocol detection takes",
    )
