"""What each field of a cell may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from robust_zoo.counts import Count
from robust_zoo.files import is_sha256
from robust_zoo.training.detection.scores import Scores
from robust_zoo.training.evaluation import fields
from robust_zoo.training.transfer.task import METRICS

_MODEL: dict[str, fields.Rule] = {
    "name": fields.is_name, "architecture": fields.is_name, "norm": fields.is_norm, "eps": fields.is_number,
    "clean_accuracy": lambda value: value is None or fields.is_percent(value), "approximate_mb": fields.is_number,
}  # fmt: skip
_ROBUST: dict[str, fields.Rule] = {
    "norm": fields.is_norm, "eps": fields.is_number, "attack": fields.is_name, "correct": fields.is_count,
    "n": fields.is_positive,
}  # fmt: skip
_SCORES = {field.name for field in dataclasses.fields(Scores)}


def _is_model(value: Any) -> bool:
    return fields.is_table(value) and not fields.wrong_field(value, _MODEL)


def _is_details(value: Any) -> bool:
    """Whatever a protocol reports; robust accuracy and COCO's figures are read again, by their fields."""
    if not fields.is_table(value) or not _are_scores(value.get("ap", {})):
        return False
    if "robust" not in value:
        return True
    robust = value["robust"]
    sound = fields.is_table(robust) and not fields.wrong_field(robust, _ROBUST)
    return sound and robust["correct"] <= robust["n"]


def _are_scores(value: Any) -> bool:
    """COCO's figures, by what was compared."""
    return fields.is_table(value) and all(
        fields.is_table(scores) and scores.keys() == _SCORES and all(map(_is_part, scores.values()))
        for scores in value.values()
    )


def _is_part(value: Any) -> bool:
    return value is None or (fields.is_number(value) and 0 <= value <= 1)


def _is_settings(value: Any) -> bool:
    if not fields.is_table(value) or "robust" not in value:
        return fields.is_table(value)
    asked = value["robust"]
    return fields.is_table(asked) and fields.is_norm(asked.get("norm")) and fields.is_number(asked.get("eps"))


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(map(fields.is_table, value))


_FIELDS: dict[str, fields.Rule] = {
    "model": fields.is_name, "weights_sha256": is_sha256, "dataset": fields.is_name,
    "data_sha256": is_sha256, "protocol": fields.is_name, "settings": _is_settings, "seed": fields.is_whole,
    "checkpoint": _is_model, "classes": fields.is_positive, "metric": lambda value: value in METRICS,
    "note": fields.is_text, "n": fields.is_positive, "correct": fields.is_count, "accuracy": fields.is_percent,
    "interval_95": fields.is_interval, "mean_per_class": fields.is_percent, "chosen": fields.is_table,
    "tried": _is_tables, "details": _is_details, "code": fields.is_name, "seconds": fields.is_number,
    "finished": fields.is_time,
}  # fmt: skip


def wrong_field(entry: Mapping[str, Any]) -> str:
    """Looks for a field of a cell that is not what it should be.

    Args:
        entry: As it was read.

    Returns:
        What is wrong, in words; "" for a sound one.
    """
    return fields.wrong_field(entry, _FIELDS)


def contradiction(entry: Mapping[str, Any]) -> str:
    """Where the fields of a cell do not agree, in words; "" where they do."""
    if entry["correct"] > entry["n"]:
        return f"{entry['correct']} right of {entry['n']}"
    count = Count(entry["correct"], entry["n"])
    if (entry["accuracy"], entry["interval_95"]) != (count.accuracy, list(count.interval)):
        return f"accuracy {entry['accuracy']} {entry['interval_95']}, counted {count}"
    if entry["checkpoint"]["name"] != entry["model"]:
        return f"the checkpoint {entry['checkpoint']['name']} under the name {entry['model']}"
    robust, asked = entry["details"].get("robust"), entry["settings"].get("robust")
    if (robust is None) != (asked is None) or (
        robust and (robust["norm"], robust["eps"]) != (asked["norm"], asked["eps"])
    ):
        return f"robust accuracy under {robust}, asked for {asked}"
    return ""
