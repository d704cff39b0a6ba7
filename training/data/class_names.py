"""What the classes of a source dataset are called, in English, by label."""

from __future__ import annotations

from functools import cache

from robust_zoo.registry.rows import SourceDataset


def class_names(dataset: SourceDataset) -> tuple[str, ...]:
    """English names of a dataset's classes.

    Args:
        dataset: A row of checkpoints.toml, with names of its own or the name of timm's list.

    Returns:
        A name for each label, the first where a class has several.
    """
    if dataset.class_names:
        return dataset.class_names
    return tuple(description.split(",")[0] for description in _descriptions(dataset.timm_classes))


@cache
def _descriptions(timm_classes: str) -> tuple[str, ...]:
    from timm.data import ImageNetInfo

    info = ImageNetInfo(timm_classes)
    return tuple(info.index_to_description(number) for number in range(info.num_classes()))
