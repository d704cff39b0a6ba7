"""Datasets in Hugging Face's format: tables whose images stay encoded, on the hub or as `datasets` saved them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robust_zoo.errors import cannot_read, not_installed
from robust_zoo.readers import read_bytes, read_json
from robust_zoo.training.data.arrays import label_tensor
from robust_zoo.training.data.decode import MOST_BYTES
from robust_zoo.training.data.encoded import EncodedImages, in_order

HF = "hfds/"  # what their names begin with, as timm's
_LABEL = ("label",)
_SAVED = "dataset_dict.json"


def _from_rows(rows: Any, index: int) -> bytes:
    """rows: a Hugging Face dataset whose `image` column is not decoded."""
    image = rows[index]["image"]
    return image["bytes"] or read_bytes(Path(image["path"]), MOST_BYTES)


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise not_installed("hfds/ needs Hugging Face's datasets library", "datasets", "hf") from None
    return datasets


def splits_of(name: str) -> list[str]:
    """What the splits of a dataset are called.

    Args:
        name: Of a dataset on the hub, or the directory that `datasets` saved one in.

    Returns:
        Their names.

    Raises:
        UsageError: The `datasets` library is not installed, or there is no such dataset.
    """
    datasets = _library()
    try:
        if (Path(name) / _SAVED).is_file():
            return list(read_json(Path(name) / _SAVED)["splits"])
        return list(datasets.get_dataset_split_names(name))
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        expected = "a dataset with the columns image and label"
        raise cannot_read(f"the dataset {name}", f"{HF}{name}", expected, str(error).strip()) from None


def open_rows(name: str, wanted: str, columns: tuple[str, ...] = _LABEL, *, named: bool = False) -> EncodedImages:
    """A split of a dataset in Hugging Face's format.

    Args:
        name: Of a dataset on the hub, or the directory that `datasets` saved one in.
        wanted: The split.
        columns: Of the labels, the first that is there. With columns of the caller's choice the classes are the sorted
            values (by number where they are numbers), whatever they count from; else labels count from 0.
        named: Whether the classes' names are taken, where the table has them: labels keep their numbers.

    Returns:
        The split's images, none of them read yet.

    Raises:
        UsageError: The `datasets` library is not installed, or the dataset cannot be read.
    """
    datasets = _library()
    try:
        import pyarrow.compute as pc  # comes with it

        if (Path(name) / _SAVED).is_file():
            rows = datasets.load_from_disk(name)[wanted]
        else:
            rows = datasets.load_dataset(name, split=wanted)
        column = next(c for c in (*columns, "") if c in rows.column_names or not c)
        values = rows[column][:]
        classes = tuple(in_order({str(value) for value in values})) if columns != _LABEL else ()
        number = {word: i for i, word in enumerate(classes)}
        names_of = tuple(getattr(rows.features.get(column), "names", ())) if named else ()
        found = np.array([number[str(value)] for value in values] if classes else values)
        labels = label_tensor(found, len(rows), column, f"{HF}{name}")
        if not len(labels):
            raise ValueError("no images")
        rows = rows.cast_column("image", datasets.Image(decode=False)).select_columns(["image"])
        images = rows.with_format("arrow")[:]["image"]  # on the disk; no image is read for its name and size
        paths = pc.struct_field(images, "path").to_pylist()
        sizes = pc.fill_null(pc.binary_length(pc.struct_field(images, "bytes")), 0).to_pylist()
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        expected = f"a dataset with a {wanted} split and the columns image and label"
        what = f"{wanted} of the dataset {name}"
        raise cannot_read(what, f"{HF}{name}", expected, str(error).strip()) from None
    names = [Path(path).name if path else str(number) for number, path in enumerate(paths)]
    return EncodedImages(names, sizes, labels, classes or names_of, partial(_from_rows, rows))
