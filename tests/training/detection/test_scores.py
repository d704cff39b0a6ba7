"""Average precision on sets whose answer is known; tests/peers/test_coco.py compares a thousand others with COCO's."""

import dataclasses

import numpy as np
import pytest

from robust_zoo.errors import UsageError
from robust_zoo.training.detection.objects import Detections, Objects, boxes_of, corners
from robust_zoo.training.detection.scores import average_precision

A, B, C = (0, 0, 10, 10), (50, 0, 50, 50), (0, 100, 200, 100)  # small, medium, large; none meets another


def objects(*boxes, labels=None, **flags):
    return Objects(np.reshape(boxes, (-1, 4)), labels or [1] * len(boxes), **flags)


def found(*boxes, labels=None, scores=None):
    return Detections(
        np.reshape(boxes, (-1, 4)), labels or [1] * len(boxes), scores or list(np.linspace(0.9, 0.1, len(boxes)))
    )


def test_all_found_exactly_is_one_and_nothing_found_is_none():
    truth = [objects(A, B, C, labels=[1, 2, 1]), objects(), objects(C, A, labels=[3, 3])]
    perfect = [found(C, B, A, labels=[1, 2, 1]), found(), found(C, A, labels=[3, 3])]
    scores = dataclasses.asdict(average_precision(truth, perfect))
    assert scores.pop("ar1") == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)  # one detection of an image and a class
    assert set(scores.values()) == {1.0}
    wrong = [found(A, labels=[2]), found(B), found()]
    for detections in ([found()] * 3, wrong):
        assert set(dataclasses.astuple(average_precision(truth, detections))) == {0.0}
    nothing = average_precision([objects()] * 3, perfect)
    assert set(dataclasses.astuple(nothing)) == {None}


def test_three_boxes_by_hand():
    """Right, wrong, right: recalls 1/2, 1/2, 1 and precisions 1, 1/2, 2/3; 51 of 101 recalls are at most 1/2."""
    scores = average_precision([objects(A, B)], [found(A, C, B)])
    assert scores.ap == pytest.approx((51 * 1 + 50 * 2 / 3) / 101, abs=1e-15)
    assert (scores.ar1, scores.ar10) == (0.5, 1.0)


def test_an_overlap_counts_up_to_its_threshold():
    scores = average_precision([objects((0, 0, 100, 10))], [found((0, 0, 62, 10))])  # IoU 0.62: at .5, .55 and .6
    assert (scores.ap, scores.ap50, scores.ap75, scores.ar100) == (pytest.approx(0.3), 1.0, 0.0, pytest.approx(0.3))


def test_a_duplicate_counts_once_and_is_wrong_then():
    twice = average_precision([objects(A, B)], [found(A, A, B)])
    assert twice == average_precision([objects(A, B)], [found(A, C, B)])
    assert average_precision([objects(A, B)], [found(A, A)]).ar100 == 0.5


def test_crowds_and_difficult_objects_are_neither_right_nor_wrong():
    inside = (10, 110, 40, 40)  # of C, under a tenth of it
    for flag in ("crowd", "difficult"):
        truth = [objects(C, A, **{flag: [True, False]})]
        assert average_precision(truth, [found(C, C, A)]).ap == 1.0
        assert average_precision(truth, [found(C)]).ap == 0.0
        # an IoU with a crowd is over the detection's own area; with a difficult object it is the usual one
        after_a_wrong_one = average_precision([objects(A)], [found(B, A)]).ap
        assert average_precision(truth, [found(inside, A)]).ap == (1.0 if flag == "crowd" else after_a_wrong_one)


def test_sizes_are_apart():
    scores = average_precision([objects(A, B, C)], [found(B)])
    assert (scores.ap_small, scores.ap_medium, scores.ap_large) == (0.0, 1.0, 0.0)
    assert (scores.ar_small, scores.ar_medium, scores.ar_large) == (0.0, 1.0, 0.0)
    assert average_precision([objects(A)], [found(A)]).ap_large is None
    assert average_precision([objects(A, B)], [found(C, B)]).ap_medium == 1.0  # C's size is judged elsewhere
    assert average_precision([objects((0, 0, 32, 32))], [found(A)]).ap_medium == 0.0  # both bounds belong to a range


def test_masks_are_judged_by_their_pixels():
    full, half = np.zeros((1, 20, 30), bool), np.zeros((1, 20, 30), bool)
    full[0, 5:15, 10:20] = True
    half[0, 5:15, 10:16] = True  # IoU 0.6 by masks, with one box
    box = boxes_of(full)
    assert box.tolist() == [[10, 5, 10, 10]] and corners(box).tolist() == [[10, 5, 20, 15]]
    assert boxes_of(np.zeros((1, 4, 4), bool)).tolist() == [[0, 0, 0, 0]]
    truth, there = [Objects(box, [1], masks=full)], [Detections(box, [1], [0.5], half)]
    assert truth[0].areas.tolist() == [100]
    assert average_precision(truth, there).ap == 1.0
    assert (average_precision(truth, there, masks=True).ap50, average_precision(truth, there, masks=True).ap75) == (
        1,
        0,
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: objects((0, 0, -1, 1)),
        lambda: objects((0, 0, float("nan"), 1)),
        lambda: objects(A, labels=[1, 2]),
        lambda: objects(A, labels=[1.5]),
        lambda: objects(A, labels=["cat"]),
        lambda: objects(A, areas=[-1]),
        lambda: objects(A, crowd=[True, False]),
        lambda: objects(A, masks=np.zeros((2, 5, 5))),
        lambda: found(A, scores=[float("nan")]),
        lambda: average_precision([objects(A)], []),
        lambda: average_precision([objects(A)], [found(A)], masks=True),
        lambda: average_precision(
            [objects(A, masks=np.zeros((1, 5, 5)))], [Detections([A], [1], [1], np.zeros((1, 5, 6)))], masks=True
        ),
    ],
)
def test_what_does_not_fit_is_said(make):
    with pytest.raises(UsageError) as error:
        make()
    assert error.value.expected and error.value.actual and error.value.next
