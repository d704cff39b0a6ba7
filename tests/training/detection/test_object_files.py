"""COCO's json and VOC's xml, read; what is not sound in them is said, with its place."""

import re

import numpy as np
import pytest
import torch
from object_files import ANNOTATION, coco, squares, voc, voc_xml
from PIL import Image

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.training.detection.coco import read_coco
from robust_zoo.training.detection.detectors import example, learnable, mirrored
from robust_zoo.training.detection.folders import open_scenes
from robust_zoo.training.detection.objects import boxes_of, corners
from robust_zoo.training.detection.outlines import Polygons, Runs, outline, runs_of
from robust_zoo.training.detection.voc import read_voc

SQUARE = [2, 3, 6, 3, 6, 8, 2, 8]  # around ANNOTATION's box


def packed(counts):
    """COCO's text of runs, from its description: the other way round than `runs_of`."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            part, value = value & 31, value >> 5
            more = not ((value == 0 and not part & 16) or (value == -1 and part & 16))
            text += chr(48 + part + 32 * more)
            if not more:
                break
    return text


def mask_of(box, height=20, width=30):
    mask = np.zeros((height, width), bool)
    left, top, w, h = box
    mask[top : top + h, left : left + w] = True
    return mask


def runs(mask):
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    return [0] * bool(flat[0]) + np.diff([0, *edges, flat.size]).tolist()


def test_coco_is_read_in_the_order_of_its_ids(tmp_path):
    crowd = ANNOTATION | {"category_id": 18, "iscrowd": 1, "area": 7.5, "bbox": [0.5, 0, 29.5, 20]}
    found = read_coco(coco(tmp_path / "x.json", [ANNOTATION, crowd]), tmp_path)
    [scene] = found.images
    assert found.classes == ("cat", "dog") and (scene.height, scene.width) == (20, 30)
    assert scene.path == tmp_path / "a.png" and scene.outlines is None
    assert scene.objects.boxes.tolist() == [[2, 3, 4, 5], [0.5, 0, 29.5, 20]]
    assert scene.objects.labels.tolist() == [1, 2] and scene.objects.areas.tolist() == [20, 7.5]
    assert scene.objects.crowd.tolist() == [False, True] and learnable(scene).tolist() == [True, False]
    with pytest.raises(UsageError, match="masks"):
        scene.with_masks()


def test_masks_of_every_kind_are_the_same_pixels(tmp_path):
    mask = mask_of(ANNOTATION["bbox"])
    kinds = [[SQUARE], {"size": [20, 30], "counts": runs(mask)}, {"size": [20, 30], "counts": packed(runs(mask))}]
    file = coco(tmp_path / "x.json", [ANNOTATION | {"segmentation": kind} for kind in kinds])
    objects = read_coco(file, tmp_path).images[0].with_masks()
    assert (objects.masks == mask).all() and len(objects.masks) == 3
    assert boxes_of(objects.masks).tolist() == [ANNOTATION["bbox"]] * 3
    assert read_coco(coco(tmp_path / "none.json", []), tmp_path).images[0].with_masks().masks.shape == (0, 20, 30)


def test_packed_runs_come_back():
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.integers(0, 5000, rng.integers(1, 40)).tolist()
        assert runs_of(packed(counts)) == tuple(counts)


def test_polygons_hold_the_pixels_whose_centres_they_hold():
    """A right triangle's by its formula; a square in a square, drawn as one polygon, has a hole."""
    y, x = np.mgrid[:20, :30] + 0.5
    triangle = Polygons(((0, 0, 30, 0, 0, 20),)).mask(20, 30)
    assert (triangle == (x / 30 + y / 20 < 1)).all()
    ring = Polygons(((0, 0, 20, 0, 20, 20, 0, 20, 0, 0, 5, 5, 15, 5, 15, 15, 5, 15, 5, 5),)).mask(20, 30)
    assert ring.sum() == 20 * 20 - 10 * 10
    assert Polygons(((-50, -50, 90, -50, 90, 90, -50, 90),)).mask(20, 30).all()
    assert Runs((5, 20, 575)).mask(20, 30).sum() == 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bbox": [0, 0, -1, 2]}, "bbox: .* a side below 0"),
        ({"bbox": [0, 0, 1]}, r"bbox: \[0, 0, 1\] is not left, top, width, height"),
        ({"bbox": None}, "bbox: None is not left"),
        ({"bbox": [0, 0, 1e12, 2]}, "bbox: .*no number of pixels"),
        ({"category_id": 4}, "category_id: 4, which is no category's id"),
        ({"image_id": 9}, "image_id: 9, which is no image's id"),
        ({"image_id": [7]}, "which is no image's id"),
        ({"iscrowd": 2}, "iscrowd: .*no whole number from 0 to 1"),
        ({"area": "7"}, "area: .*no number of pixels"),
        ({"area": -7}, "area: -7 is below 0"),
        ({"segmentation": [[1, 2, 3, 4]]}, "three corners"),
        ({"segmentation": [[-1e308, 0.5, 1e308, 10, 5, 5]]}, "three corners"),
        ({"segmentation": {"size": [30, 20], "counts": [600]}}, "a mask of"),
        ({"segmentation": {"size": [20, 30], "counts": [599]}}, "runs of 599 pixels"),
        ({"segmentation": {"size": [20, 30], "counts": "0~"}}, "packed runs"),
        ({"segmentation": {"size": [20, 30], "counts": [-1, 601]}}, "lengths of runs"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path, change, said):
    file = coco(tmp_path / "x.json", [ANNOTATION, ANNOTATION | change])
    with pytest.raises(UsageError) as error:
        read_coco(file, tmp_path)
    assert error.value.actual.startswith("annotation 1: ") and re.search(said, error.value.actual), error.value.actual
    assert error.value.source == str(file) and error.value.next


@pytest.mark.parametrize(
    ("images", "categories"),
    [
        ([(7, "../a.png", 20, 30)], [(3, "cat")]),
        ([(7, "/a.png", 20, 30)], [(3, "cat")]),
        ([(7, "a.png", 0, 30)], [(3, "cat")]),
        ([(7, "a.png", 20, 30)] * 2, [(3, "cat")]),
        ([(7, "a.png", 20, 30)], [(3, "cat"), (3, "dog")]),
        ([("7", "a.png", 20, 30)], [(3, "cat")]),
    ],
)
def test_a_bad_image_or_category_is_refused(tmp_path, images, categories):
    file = coco(tmp_path / "x.json", [], images=images, categories=categories)
    with pytest.raises(UsageError, match="cannot read objects"):
        read_coco(file, tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": 3}', '{"images": [], "categories": [], "annotations": {}, ', "{" * 99]
)
def test_what_is_no_coco_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match="cannot read objects"):
        read_coco(tmp_path / "x.json", tmp_path)


def test_voc_counts_from_one_and_knows_difficult_objects(tmp_path):
    xml = voc_xml("a", [("dog", (1, 1, 10, 10), 0), ("cat", (3.5, 2, 30, 20), 1)])
    root = voc(tmp_path, {"train": {"a": xml, "b": voc_xml("b", [])}})
    found = read_voc(root, "train")
    assert found.classes == ("cat", "dog") and [len(s.objects.labels) for s in found.images] == [2, 0]
    first = found.images[0]
    assert first.objects.boxes.tolist() == [[0, 0, 10, 10], [2.5, 1, 27.5, 19]]
    assert first.objects.labels.tolist() == [2, 1] and first.objects.difficult.tolist() == [False, True]
    assert first.path == root / "JPEGImages" / "a.jpg" and (first.height, first.width) == (20, 30)
    with pytest.raises(UsageError, match="cannot read objects") as error:
        read_voc(root, "train", ["dog"])
    assert "'cat', which is not among dog" in error.value.actual


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (BOMB, "DOCTYPE"),
        ('<!DOCTYPE x SYSTEM "file:///etc/hostname"><annotation/>', "DOCTYPE"),
        ("<annotation>" * 100, "nested more than 64 deep"),
        ("<annotation><size>", "not XML"),
        ("", "not XML"),
        ("<annotation/>", "no size/height"),
        (voc_xml("../../a", []), "no path within"),
        (voc_xml("a", [("dog", (1, 1, 9, 9), 0), ("dog", (5, 5, 3, 9), 0)]), "object 1: its xmax or ymax is below"),
        (voc_xml("a", [("dog", ("x", 5, 9, 9), 0)]), "bndbox/xmin: 'x' is no number of pixels"),
        (voc_xml("a", [], size=("30.5", 20)), "size/width: 30.5 is no whole number"),
        (voc_xml("a", [], size=(0, 20)), "size/width: 0 is no whole number from 1"),
        (voc_xml("a", [("dog", ("nan", 5, 9, 9), 0)]), "no number of pixels"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "not XML"),
    ],
)
def test_bad_xml_is_refused(tmp_path, xml, said):
    with pytest.raises(UsageError) as error:
        read_voc(voc(tmp_path, {"train": {"a": xml}}), "train")
    assert re.search(said, error.value.actual), error.value.actual
    assert error.value.source.endswith("a.xml")


def test_a_list_that_leads_out_is_refused(tmp_path):
    voc(tmp_path, {"train": {"a": voc_xml("a", [])}})
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("../a\n")
    with pytest.raises(UsageError, match="cannot read objects"):
        read_voc(tmp_path, "train")


def test_folders_of_each_layout_open(tmp_path):
    official = open_scenes(str(squares(tmp_path / "coco", train=3, val=2)))
    assert official.name == "coco" and official.classes == ("red", "blue") and len(official.test) == 2
    assert official.note == "2 classes; 3 images with 6 objects to train on, 2 images with 4 objects to test on"
    assert official.test.images[0].image().shape == (3, 32, 32)
    assert open_scenes("coco", tmp_path).train.sha256 == official.train.sha256 != official.test.sha256
    for split in ("train", "valid"):
        coco(tmp_path / "tool" / split / "_annotations.coco.json", [ANNOTATION])
    tool = open_scenes(str(tmp_path / "tool"))
    assert tool.test.images[0].path == tmp_path / "tool" / "valid" / "a.png"
    lists = {"trainval": {"a": voc_xml("a", [("dog", (1, 1, 9, 9), 0)]), "b": voc_xml("b", [("dog", (1, 1, 9, 9), 1)])},
             "test": {"c": voc_xml("c", [("dog", (1, 1, 9, 9), 0)])}, "train": {}, "val": {}}  # fmt: skip
    found = open_scenes(str(voc(tmp_path / "voc", lists)))
    assert len(found.train) == 1 and len(found.test) == 1  # b's only object is difficult
    assert "1 image without any left out" in found.note
    hidden = lists | {"train": lists["trainval"], "val": {"d": voc_xml("d", [("dog", (1, 1, 9, 9), 0)])}}
    hidden = voc(tmp_path / "hidden", hidden)
    (hidden / "Annotations" / "c.xml").unlink()  # VOC2012's test images, whose boxes are not public
    assert open_scenes(str(hidden)).test.images[0].path.name == "d.jpg"


def test_years_are_not_mixed(tmp_path):
    """COCO's val2014 is among the images of train2017."""
    for split in ("train2014", "val2014", "train2017", "val2017"):
        file = tmp_path / "annotations" / f"instances_{split}.json"
        coco(file, [ANNOTATION])
        (tmp_path / split).mkdir()
    taken = "annotations/instances_{}.json and annotations/instances_{}.json taken"
    for train, test in (("train2017", "val2017"), ("train2014", "val2014")):
        target = open_scenes(str(tmp_path))
        assert [scenes.images[0].path.parent.name for scenes in (target.train, target.test)] == [train, test]
        assert target.note.endswith(taken.format(train, test))
        (tmp_path / "annotations" / f"instances_{test}.json").unlink()
        coco(tmp_path / "annotations" / "instances_val2014.json", [ANNOTATION])
    (tmp_path / "annotations" / "instances_train2014.json").unlink()
    assert "taken" not in open_scenes(str(tmp_path)).note


def test_what_a_hash_is_of(tmp_path):
    """Pixels, boxes, labels and masks: each changes it; where the folder lies does not."""
    here = open_scenes(str(squares(tmp_path / "a", train=2, val=1))).train.sha256
    assert open_scenes(str(squares(tmp_path / "b", train=2, val=1))).train.sha256 == here
    file = tmp_path / "b" / "annotations" / "instances_train.json"
    text = file.read_text()
    for old, new in (('"category_id": 1', '"category_id": 2'), ('"bbox": [1,', '"bbox": [0,'), ("[[1,", "[[0,")):
        assert old in text
        file.write_text(text.replace(old, new, 1))
        assert open_scenes(str(tmp_path / "b")).train.sha256 != here
    file.write_text(text)
    Image.new("RGB", (32, 32)).save(tmp_path / "b" / "train" / "0.png")
    assert open_scenes(str(tmp_path / "b")).train.sha256 != here


@pytest.mark.parametrize("made", ["nothing", "empty", "images", "no objects", "nothing to find", "other classes"])
def test_a_folder_that_is_no_such_thing_is_refused(tmp_path, made):
    folder = tmp_path / "x"
    if made == "empty":
        folder.mkdir()
    if made == "images":
        (folder / "cats").mkdir(parents=True)
    if made in ("no objects", "nothing to find", "other classes"):
        wanted = [] if made == "no objects" else [ANNOTATION]
        found = [ANNOTATION | {"iscrowd": int(made == "nothing to find")}]
        others = {"categories": ((3, "cat"), (18, "cow"))} if made == "other classes" else {}
        coco(folder / "annotations" / "instances_train.json", wanted)
        coco(folder / "annotations" / "instances_val.json", found, **others)
    with pytest.raises(UsageError) as error:
        open_scenes(str(folder))
    assert "COCO" in error.value.expected and error.value.actual and "--protocol detection" in error.value.next


def test_an_image_of_another_size_is_refused(tmp_path):
    folder = squares(tmp_path / "x", train=1, val=1)
    Image.new("RGB", (31, 32)).save(folder / "train" / "0.png")
    scene = open_scenes(str(folder)).train.images[0]
    with pytest.raises(VerificationFailed) as error:
        scene.image()
    assert "31 x 32" in error.value.actual
    scene.path.unlink()
    with pytest.raises(UsageError, match="cannot read"):
        scene.image()
    scene.path.symlink_to("/dev/null")  # of /dev/zero the end would never come
    with pytest.raises(UsageError, match="cannot read") as refusal:
        scene.image()
    assert "not a regular file" in refusal.value.actual


def test_boxes_are_trained_on_as_far_as_the_image_goes(tmp_path):
    """Beyond its edges nothing is to be seen; what lies there alone is not trained on, however far it is."""
    boxes = [[-5, -5, 15, 15], [25, 15, 1e9, 1e9], [-1e9, -1e9, 1, 1], [1e9, 0, 1, 1], [29.5, 0, 9, 9], [2, 3, 4, 5]]
    file = coco(tmp_path / "x.json", [ANNOTATION | {"bbox": box} for box in boxes])
    scene = read_coco(file, tmp_path).images[0]
    assert learnable(scene).tolist() == [True, True, False, False, False, True]
    Image.new("RGB", (30, 20)).save(scene.path)
    _, target = example(scene, masks=False, flip=False)
    assert target["boxes"].tolist() == [[0, 0, 10, 10], [25, 15, 30, 20], [2, 3, 6, 8]]
    _, target = example(scene, masks=False, flip=True)
    assert target["boxes"].tolist() == [[20, 0, 30, 10], [0, 15, 5, 20], [24, 3, 28, 8]]
    assert scene.objects.boxes[1].tolist() == boxes[1]  # as COCO's evaluation has it


def test_lists_of_voc_name_each_image_once(tmp_path):
    """In a list, and in both together; a name may have spaces, where what follows in VOC's lists has not."""
    box = [("dog", (1, 1, 9, 9), 0)]
    root = voc(tmp_path, {"train": {"my photo (1)": voc_xml("a", box), "b": voc_xml("b", box)}, "val": {}})
    names, tested = root / "ImageSets" / "Main" / "train.txt", root / "ImageSets" / "Main" / "val.txt"
    names.write_text("my photo (1)\nb  1\n")
    assert [scene.path.name for scene in read_voc(root, "train").images] == ["a.jpg", "b.jpg"]
    tested.write_text("b -1\n")
    with pytest.raises(UsageError, match="1 image to test on would be trained on too") as error:
        open_scenes(str(root))
    assert error.value.source.endswith("b.jpg") and error.value.next
    names.write_text("my photo (1)\nb\nmy photo (1)\n")
    with pytest.raises(UsageError, match=r"'my photo \(1\)' stands there twice") as error:
        read_voc(root, "train")
    assert error.value.source == str(names)


def test_a_flip_moves_pixels_boxes_and_masks_together(tmp_path):
    scene = open_scenes(str(squares(tmp_path / "x", train=1, val=1))).train.images[0]
    image, target = example(scene, masks=True, flip=False)
    turned, moved = example(scene, masks=True, flip=True)
    assert torch.equal(turned.flip(-1), image) and image.min() >= 0 and image.max() <= 1
    for mask, (x0, y0, x1, y1) in zip(moved["masks"], moved["boxes"].long().tolist(), strict=True):
        assert mask[y0:y1, x0:x1].all() and mask.sum() == (y1 - y0) * (x1 - x0)
    red = turned[0] > turned[2]
    assert torch.equal(red, moved["masks"][0].bool())
    back = mirrored(mirrored(scene.with_masks(), 32), 32)
    assert (corners(back.boxes) == target["boxes"].numpy()).all() and (back.masks == target["masks"].numpy()).all()


def test_an_outline_says_what_it_is_not():
    with pytest.raises(ValueError, match="neither polygons"):
        outline("polygon", 20, 30)
