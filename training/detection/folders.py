"""Folders of images with objects: which files of them are for training, which for testing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from robust_zoo.errors import UsageError
from robust_zoo.text import several
from robust_zoo.training.detection.coco import read_coco
from robust_zoo.training.detection.detectors import learnable
from robust_zoo.training.detection.scenes import DetectionTarget, Scenes
from robust_zoo.training.detection.voc import read_voc

_JSON = ("annotations/instances_{}*.json", "{}*/_annotations.coco.json")  # COCO's, and that of labelling tools
_TRAIN, _TEST = ("train",), ("test", "val")  # splits whose names begin so, the first that is there
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
        Images to train on and to test on: test images, or validation images where there are none. Images without an
        object that can be learnt are tested on, not trained on.

    Raises:
        UsageError: There is no such folder, it is laid out otherwise, or a file in it is not sound.
    """
    folder = next((place for place in (Path(name), root / name) if place.is_dir()), None)
    if folder is None:
        raise _unknown(name, root / name, "no folder")
    found = _coco(folder) or _voc(folder)
    if found is None:
        held = sorted(path.name for path in folder.iterdir())[:5]
        raise _unknown(name, folder, f"a folder with {', '.join(held)}" if held else "an empty folder")
    train, test = found
    learnt = train.where(lambda scene: bool(learnable(scene.objects).any()))
    if not learnt.images or not test.images:
        raise _unknown(name, folder, f"{len(learnt)} images with objects to train on, {len(test)} to test on")
    if train.classes != test.classes:
        raise _unknown(name, folder, "other classes, or in another order, in test images than in training images")
    words = [f"{_counted(learnt)} to train on", f"{_counted(test)} to test on"]
    words += [f"{several(len(train) - len(learnt), 'image')} without any left out"] * (len(train) > len(learnt))
    note = f"{several(len(train.classes), 'class', 'es')}; {', '.join(words)}"
    train, test = (replace(scenes, workers=workers) for scenes in (learnt, test))
    return DetectionTarget(folder.resolve().name, train.classes, train, test, note)


def _coco(folder: Path) -> tuple[Scenes, Scenes] | None:
    for pattern in _JSON:
        files = [next((f for name in names for f in sorted(folder.glob(pattern.format(name)))), None)
                 for names in (_TRAIN, _TEST)]  # fmt: skip
        if files[0] and files[1]:
            train, test = (read_coco(file, _images_of(file, folder)) for file in files if file)
            return train, test
    return None


def _images_of(file: Path, folder: Path) -> Path:
    """Where the images of a file of COCO's lie."""
    split = file.stem.removeprefix("instances_")
    places = [folder / split, folder / "images" / split, folder / "images"] if split != file.stem else []
    return next((place for place in places if place.is_dir()), file.parent)


def _voc(folder: Path) -> tuple[Scenes, Scenes] | None:
    lists = folder / "ImageSets" / "Main"
    for train, test in _VOC:
        if all((lists / f"{split}.txt").is_file() for split in (train, test)):
            scenes = read_voc(folder, train)
            return scenes, read_voc(folder, test, scenes.classes)
    return None


def _counted(scenes: Scenes) -> str:
    objects = sum(len(scene.objects.labels) for scene in scenes.images)
    return f"{several(len(scenes), 'image')} with {several(objects, 'object')}"


def _unknown(name: str, place: Path, actual: str) -> UsageError:
    return UsageError(
        f"{name!r} holds no images with objects",
        source=str(place),
        expected=_FORMS,
        actual=actual,
        next="robust-zoo transfer run --help   says what --protocol detection takes",
    )
