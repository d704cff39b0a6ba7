"""The detection study: scenes whose boxes and masks are what is seen in them; README says what its cells say."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robust_zoo.training.detection.folders import open_scenes
from robust_zoo.training.detection.objects import boxes_of
from robust_zoo.training.transfer import cells
from studies.detection import detection, scenes

STUDY = Path(__file__).parents[2] / "studies" / "detection"
ENTRIES = cells.read_lines(STUDY / "cells.jsonl")
COLOURS = {label: (30 * i + 40, 255 - 40 * i, 20 * i) for i, label in enumerate(scenes.CLASSES)}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Discs of a colour for each class, six of each, on a transparent ground; and what is no cut-out."""
    stamps = tmp_path_factory.mktemp("stamps")
    y, x = np.mgrid[:60, :80]
    for label, folder in scenes.CLASSES.items():
        (stamps / folder / "inner").mkdir(parents=True)
        for i in range(6):
            disc = ((x - 40) / (24 + i)) ** 2 + ((y - 30) / 20) ** 2 < 1
            pixels = np.zeros((60, 80, 4), np.uint8)
            pixels[disc] = (*COLOURS[label], 255)
            Image.fromarray(pixels).save(stamps / folder / "inner" / f"{i}.png")
        Image.new("RGBA", (60, 60), (1, 2, 3, 255)).save(stamps / folder / "whole.png")
        Image.new("RGBA", (60, 60)).save(stamps / folder / "empty.png")
    return scenes.cut_outs(stamps)


def test_cut_outs_are_what_is_solid(found):
    assert len(found) == 6 * len(scenes.CLASSES)
    assert found[0].image.size == (47, 39) and found[5].image.size == (57, 39)


def test_halves_share_no_stamp_and_leave_none_out(found):
    train, test = scenes.halves(found)
    assert len(train) == 4 * len(scenes.CLASSES) and len(test) == 2 * len(scenes.CLASSES)
    assert {id(one) for one in train} | {id(one) for one in test} == {id(one) for one in found}


def test_masks_are_what_is_seen(found):
    """An object's pixels have its colour, but for its edge; nobody's pixels belong to two; half of each is in sight."""
    ground = np.zeros((3, 32, 32), np.uint8)
    counts = []
    for number in range(30):
        picture, objects = scenes.scene(found, ground, np.random.default_rng(number))
        pixels, total = np.asarray(picture).astype(int), np.zeros((scenes.SIDE, scenes.SIDE), int)
        counts.append(len(objects))
        for label, mask in objects:
            near = np.abs(pixels[mask] - COLOURS[label]).max(1) <= 8
            assert near.mean() > 0.75, (number, label)
            total += mask
            width, height = boxes_of(mask[None])[0, 2:]
            assert 1 <= max(width, height) <= scenes.SIZES[1] + 1
        assert total.max() == 1
        coloured = pixels.max(2) > 40
        assert (coloured & (total == 0)).mean() < 0.03  # edges that are half there
    assert set(counts) <= set(range(1, 5)) and len(set(counts)) > 2


def test_what_is_written_is_read_again(found, tmp_path):
    grounds = np.random.default_rng(0).integers(0, 255, (5, 3, 32, 32), dtype=np.uint8)
    for place in (tmp_path / "a", tmp_path / "b"):
        for split, count in (("train", 6), ("val", 4)):
            scenes.write(place, split, found, grounds, count, 0)
    target = open_scenes(str(tmp_path / "a"))
    assert target.classes == tuple(scenes.CLASSES) and (len(target.train), len(target.test)) == (6, 4)
    assert target.train.sha256 == open_scenes(str(tmp_path / "b")).train.sha256
    for scene in (*target.train.images, *target.test.images):
        objects = scene.with_masks()
        assert (boxes_of(objects.masks) == objects.boxes).all()
        assert objects.areas.tolist() == objects.masks.sum((1, 2)).tolist()
    written = json.loads((tmp_path / "a" / "annotations" / "instances_val.json").read_text())
    assert all(sum(a["segmentation"]["counts"]) == scenes.SIDE**2 for a in written["annotations"])


def test_runs_begin_outside():
    mask = np.zeros((2, 3), bool)
    assert scenes.runs(mask) == [6]
    mask[:, 1] = True
    assert scenes.runs(mask) == [2, 2, 2]
    mask[0, 0] = True
    assert scenes.runs(mask) == [0, 1, 1, 2, 2]


def test_the_studys_table_is_its_cells():
    text = (STUDY / "README.md").read_text(encoding="utf-8")
    assert len(ENTRIES) == len(detection.MODELS) * len(detection.PARTS) * len(detection.SEEDS)
    assert detection.table(ENTRIES) in text and f"{len(ENTRIES)} cells" in text
    for entry in ENTRIES:
        assert len(entry["details"]["losses"]) == detection.SETTINGS["epochs"]
    standard, small, large = (
        [detection.ap(ENTRIES, name, part) for part in detection.PARTS] for name in detection.MODELS
    )
    frozen = [(standard[0] - mine[0]).values[0] for mine in (small, large)]
    assert "ahead of L2 0.25 by 2.0 ± 0.5 points of AP\n  and of L2 1 by 5.0 ± 0.4, in every seed" in text
    assert min(map(min, frozen)) > 0 and [round(np.mean(one), 1) for one in frozen] == [2.0, 5.0]
    gains = [round(whole.mean - head.mean, 1) for head, whole in (standard, large)]
    assert f"{gains[0]} points for the standard model, {gains[1]} for L2 1" in text
    exact = [detection.ap(ENTRIES, name, "head", "ap75").mean for name in detection.MODELS]
    assert f"its AP75 {exact[2]:.1f} against {exact[0]:.1f}" in text
    minutes = sum(entry["seconds"] for entry in ENTRIES) / 60
    assert f"{minutes:.0f} minutes of cells" in text and "the 229 stamps" in text
