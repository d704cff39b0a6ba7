"""A copy of a dataset on the disk: fetching it, looking for damaged images, saying what it holds."""

from __future__ import annotations

from pathlib import Path

from robust_zoo.errors import Unavailable, ZooError
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.transfer.cells import images_sha256
from robust_zoo.training.transfer.datasets import TargetDataset
from robust_zoo.training.transfer.task import Target


def download(dataset: TargetDataset, root: Path) -> None:
    """Downloads and unpacks with torchvision, which checks what it fetches.

    Args:
        dataset: One that is `fetchable`.
        root: The folder that it is unpacked under; made where it is not there.

    Raises:
        Unavailable: The host or the disk refuses.
    """
    from torchvision import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        kind = getattr(datasets, dataset.torchvision)
        if issubclass(kind, datasets.CIFAR10):  # which would be unpickled in this process as soon as it is there
            datasets.utils.download_and_extract_archive(kind.url, str(root), filename=kind.filename, md5=kind.tgz_md5)
        else:
            kind(str(root), download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise Unavailable(
            f"cannot fetch {dataset.title}",
            model=dataset.name,
            source=dataset.where,
            expected="a download by torchvision",
            actual=str(error).splitlines()[0],
            next="fetch it by hand: " + dataset.where,
        ) from None


def damaged(target: Target, *, deep: bool = False) -> list[str]:
    """Looks for images that cannot be read.

    Args:
        target: Images in memory are taken as they are.
        deep: Decode every file; without it one is decoded only when it is empty or does not end as its format does.

    Returns:
        The name of each damaged image, with the reason.
    """
    found = []
    for data in (target.train, target.val, target.test):
        if not isinstance(data, ImageFiles):
            continue
        for index in data.rows:
            if deep or not _ends(data.source.read(index)):
                try:
                    data.decode(index)
                except ZooError as error:
                    found.append(f"{data.source.names[index]}: {error.actual}")
    return found


def _ends(encoded: bytes) -> bool:
    """Whether a JPEG or PNG has its end mark; others are decoded."""
    return encoded.endswith(b"\xff\xd9") if encoded[:2] == b"\xff\xd8" else encoded[-8:-4] == b"IEND"


def fingerprint(target: Target) -> str:
    """sha256 over the bytes and labels of every image of all splits, as cells have it."""
    return images_sha256(target)


def split_sizes(target: Target) -> dict[str, int]:
    """The number of images of each split that there is."""
    splits = (("train", target.train), ("val", target.val), ("test", target.test))
    return {name: len(data) for name, data in splits if data is not None}
