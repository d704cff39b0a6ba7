"""Average precision of pycocotools against ours, on a thousand random sets; its masks against ours."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import Any

import numpy as np
import pytest

from robust_zoo.training.detection.objects import Detections, Objects, boxes_of
from robust_zoo.training.detection.outlines import outline
from robust_zoo.training.detection.scores import average_precision

pytestmark = pytest.mark.peers

SIDE = 120  # of an image: objects of all three sizes
CLASSES = 3


def _random_set(rng: np.random.Generator) -> tuple[list[Objects], list[Detections]]:
    """Images with objects, crowds among them, and detections near them and anywhere, many of equal scores."""
    truth, found = [], []
    for _ in range(rng.integers(1, 5)):
        n = int(rng.integers(0, 6))
        boxes = _random_boxes(rng, n)
        labels, crowd = rng.integers(1, CLASSES + 1, n), rng.random(n) < 0.2
        near = np.repeat(np.arange(n), rng.integers(0, 4, n))
        far = int(rng.choice([0, 0, 3, 15]))
        moved = boxes[near] + rng.integers(-2, 3, (len(near), 4)) * rng.choice([0, 1, 5])
        moved[:, 2:] = moved[:, 2:].clip(1)
        d = np.concatenate([moved, _random_boxes(rng, far)])
        d[:, :2] = d[:, :2].clip(0, SIDE - 1)
        d_labels = np.concatenate([labels[near], rng.integers(1, CLASSES + 1, far)])
        scores = rng.integers(0, 5, len(d)) / 4 if rng.random() < 0.5 else rng.random(len(d))
        truth.append(Objects(boxes, labels, crowd=crowd, masks=_masks(rng, boxes)))
        found.append(Detections(d, d_labels, scores, _masks(rng, d)))
    return truth, found


def _random_boxes(rng: np.random.Generator, n: int) -> Any:
    sides = np.exp(rng.uniform(0, np.log(SIDE), (n, 2))).round()
    corner = (rng.random((n, 2)) * (SIDE - sides)).round()
    return np.concatenate([corner, sides], axis=1)


def _masks(rng: np.random.Generator, boxes: Any) -> Any:
    """Ellipses in boxes, with holes."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    left, top, width, height = (boxes[:, i, None, None] for i in range(4))
    round_ = ((x - left) / width - 0.5) ** 2 + ((y - top) / height - 0.5) ** 2 <= 0.25
    return round_ & (rng.random(round_.shape) < rng.choice([0.5, 0.9, 1.0]))


def _theirs(truth: list[Objects], found: list[Detections], kind: str) -> Any:
    from pycocotools import mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def encoded(m: Any) -> Any:
        return mask.encode(np.asfortranarray(m.astype(np.uint8)))

    annotations, results = [], []
    for image, (t, f) in enumerate(zip(truth, found, strict=True)):
        assert t.masks is not None and t.areas is not None and t.crowd is not None and f.masks is not None
        areas = t.areas if kind == "segm" else t.boxes[:, 2] * t.boxes[:, 3]
        for i in range(len(t.labels)):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(t.labels[i]),
                 "bbox": t.boxes[i].tolist(), "area": float(areas[i]), "iscrowd": int(t.crowd[i]),
                 "segmentation": encoded(t.masks[i])}
            )  # fmt: skip
        for i in range(len(f.labels)):
            result = {"image_id": image, "category_id": int(f.labels[i]), "score": float(f.scores[i])}
            shape = {"bbox": f.boxes[i].tolist()} if kind == "bbox" else {"segmentation": encoded(f.masks[i])}
            results.append(result | shape)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images = [{"id": i, "height": SIDE, "width": SIDE} for i in range(len(truth))]
        categories = [{"id": i} for i in range(1, CLASSES + 1)]
        coco.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        coco.createIndex()
        theirs = COCOeval(coco, coco.loadRes(results) if results else COCO(), kind)
        theirs.params.imgIds = list(range(len(truth)))
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    return theirs.stats


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_a_thousand_random_sets(kind: str) -> None:
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(1000):
        truth, found = _random_set(rng)
        if kind == "bbox":
            truth = [
                Objects(t.boxes, t.labels, crowd=t.crowd, masks=t.masks, areas=t.boxes[:, 2:].prod(1)) for t in truth
            ]
        ours = dataclasses.astuple(average_precision(truth, found, masks=kind == "segm"))
        theirs = _theirs(truth, found, kind)
        np.testing.assert_allclose([-1 if x is None else x for x in ours], theirs, rtol=0, atol=1e-12)
        seen.append(theirs)
    spread = np.array(seen)
    assert (spread.max(0) > 0.7).all() and (spread.min(0) == -1).all() and (spread.std(0) > 0.05).all()


def test_boxes_of_masks() -> None:
    from pycocotools import mask

    rng = np.random.default_rng(1)
    masks = np.concatenate([_masks(rng, _random_boxes(rng, 50)), np.zeros((1, SIDE, SIDE), bool)])
    encoded = [mask.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks]
    assert (boxes_of(masks) == mask.toBbox(encoded)).all()


def test_packed_masks_are_read_as_they_wrote_them():
    from pycocotools import mask

    rng = np.random.default_rng(3)
    for _ in range(200):
        height, width = (int(v) for v in rng.integers(1, 90, 2))
        pixels = rng.random((height, width)) < rng.random()
        text = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"].decode()
        found = outline({"size": [height, width], "counts": text}, height, width)
        assert (found.mask(height, width) == pixels).all()


def test_polygons_differ_from_theirs_along_the_edge_alone():
    from pycocotools import mask

    rng = np.random.default_rng(4)
    for _ in range(100):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(15, 50, 9)
        corners = np.stack([60 + radii * np.cos(angles), 60 + radii * np.sin(angles)], axis=1)
        [drawn] = mask.frPyObjects([corners.ravel().tolist()], SIDE, SIDE)
        theirs = outline({"size": [SIDE, SIDE], "counts": drawn["counts"].decode()}, SIDE, SIDE).mask(SIDE, SIDE)
        ours = outline([corners.ravel().tolist()], SIDE, SIDE).mask(SIDE, SIDE)
        edge = np.zeros((SIDE, SIDE), bool)
        steps = np.linspace(0, 1, 400)[:, None, None]
        for x, y in ((1 - steps) * corners + steps * np.roll(corners, -1, axis=0)).reshape(-1, 2).astype(int):
            edge[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = True
        assert not ((ours != theirs) & ~edge).any()
