"""Average precision and recall of detections, as COCO's evaluation has them (equal to pycocotools in tests/peers)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_zoo.errors import UsageError
from robust_zoo.training.detection.matching import AREAS, IOUS, Floats, Matched, match
from robust_zoo.training.detection.objects import Detections, Objects

RECALLS = np.linspace(0, 1, 101)
"""Where the precision is read off."""
_CUTS = (1, 10, 100)  # detections of an image and a class


@dataclass(frozen=True)
class Scores:
    """COCO's twelve figures, between 0 and 1; None where there was nothing to find.

    Args:
        ap: Average precision, over classes and the thresholds .5, .55, ... .95 of the IoU.
        ap50: At the IoU .5 alone.
        ap75: At .75.
        ap_small: As `ap`, of objects of at most 32^2 square pixels.
        ap_medium: Of those between.
        ap_large: Of those of at least 96^2.
        ar1: Average recall over classes and thresholds, of one detection for each image and class.
        ar10: Of ten.
        ar100: Of a hundred, as all average precisions.
        ar_small: As `ar100`, of small objects.
        ar_medium: Of medium ones.
        ar_large: Of large ones.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None


class Tally:
    """Average precision of images that come one by one; of each only what was matched is kept.

    Attributes:
        masks: Overlaps and detections' areas are those of masks, instead of boxes.
        images: How many there were so far.
    """

    def __init__(self, *, masks: bool = False) -> None:
        self.masks = masks
        self.images = 0
        self._matched: dict[int, list[Matched]] = {}
        self._labels: set[int] = set()  # of what was to be found

    def add(self, truth: Objects, found: Detections) -> None:
        """Counts one more image.

        Args:
            truth: What stands in it.
            found: What was found in it.

        Raises:
            UsageError: Masks are asked for and one has none, or theirs are of different sizes.
        """
        if self.masks:
            _check_masks(truth, found, self.images)
        here = set(truth.labels.tolist())
        for label in here | set(found.labels.tolist()):
            self._matched.setdefault(label, []).append(match(truth, found, label, masks=self.masks))
        self._labels |= here
        self.images += 1

    def scores(self) -> Scores:
        """The twelve figures of the images so far."""
        precision, recall = [], []
        for label in sorted(self._labels):
            curves, ends = zip(*(_curves(self._matched[label], cut) for cut in _CUTS), strict=True)
            precision.append(curves[-1])
            recall.append(ends)
        p = np.stack(precision) if precision else np.full((1, len(AREAS), len(IOUS), len(RECALLS)), np.nan)
        r = np.stack(recall) if recall else np.full((1, len(_CUTS), len(AREAS), len(IOUS)), np.nan)
        figures = [p[:, 0], p[:, 0, 0], p[:, 0, 5], p[:, 1], p[:, 2], p[:, 3]]
        figures += [r[:, 0, 0], r[:, 1, 0], r[:, 2, 0], r[:, 2, 1], r[:, 2, 2], r[:, 2, 3]]
        return Scores(*map(_mean, figures))

    def found(self) -> tuple[int, int]:
        """How many objects were found at an IoU of .5, by any of an image's 100 surest; and how many there are."""
        parts = [part for label in self._labels for part in self._matched[label]]
        right = sum(np.count_nonzero(part.hit[0, 0] & ~part.ignored[0, 0]) for part in parts)
        return int(right), int(sum(part.objects[0] for part in parts))


def average_precision(truth: Sequence[Objects], found: Sequence[Detections], *, masks: bool = False) -> Scores:
    """How well objects were found.

    Args:
        truth: What stands in each image.
        found: What was found in it, image by image in the same order.
        masks: Overlaps and detections' areas are those of masks, instead of boxes.

    Returns:
        The twelve figures.

    Raises:
        UsageError: As many images are not in both, or one has no masks, or masks of another size.
    """
    if len(truth) != len(found):
        raise _differ(f"{len(truth)} and {len(found)} images", masks)
    tally = Tally(masks=masks)
    for pair in zip(truth, found, strict=True):
        tally.add(*pair)
    return tally.scores()


def _curves(parts: Sequence[Matched], cut: int) -> tuple[Floats, Floats]:
    """Of one class: (A, T, 101) precisions at RECALLS, and (A, T) recalls; NaN where there is nothing to find."""
    scores = np.concatenate([part.scores[:cut] for part in parts])
    order = np.argsort(-scores, kind="stable")
    hit = np.concatenate([part.hit[..., :cut] for part in parts], axis=-1)[..., order]
    counted = ~np.concatenate([part.ignored[..., :cut] for part in parts], axis=-1)[..., order]
    right, wrong = ((x & counted).cumsum(-1).astype(float) for x in (hit, ~hit))
    objects = np.sum([part.objects for part in parts], axis=0)
    curves = np.full((*hit.shape[:2], len(RECALLS)), np.nan)
    ends = np.full(hit.shape[:2], np.nan)
    for a in np.flatnonzero(objects):
        for t in range(hit.shape[1]):
            recall = right[a, t] / objects[a]
            curves[a, t] = envelope(recall, right[a, t] / np.maximum(right[a, t] + wrong[a, t], 1))
            ends[a, t] = recall[-1] if len(recall) else 0.0
    return curves, ends


def envelope(recall: Floats, precision: Floats) -> Floats:
    """The best precision at a recall of at least each of RECALLS.

    Args:
        recall: (n,): after each detection, the surest first.
        precision: (n,): the same.

    Returns:
        (101,): 0 where no recall is as high.
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(best, 0.0)[np.searchsorted(recall, RECALLS, side="left")]


def _mean(values: Floats) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else None


def _check_masks(truth: Objects, found: Detections, image: int) -> None:
    shapes = {None if x.masks is None else x.masks.shape[1:] for x in (truth, found) if len(x.labels)}
    if None in shapes or len(shapes) > 1:
        raise _differ(f"image {image}: {sorted(map(str, shapes))}", True)


def _differ(actual: str, masks: bool) -> UsageError:
    return UsageError(
        "truth and detections are not of the same images",
        expected="as many of both, in one order" + ", with masks of one size (H, W)" * masks,
        actual=actual,
        next="hand Detections without boxes where nothing was found",
    )
