"""Two small targets that need no download: scikit-learn's digits and the bundled CIFAR-10 images."""

from __future__ import annotations

import torch

from robust_zoo.errors import not_installed
from robust_zoo.training.data.cifar10_sample import cifar10_classes, cifar10_sample
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.transfer.protocols.linear import Linear
from robust_zoo.training.transfer.splits import stratified_split
from robust_zoo.training.transfer.sweep import TransferPlan
from robust_zoo.training.transfer.task import Target

# 20 labels per class, five stratified splits: few enough for the features to matter
SAMPLE_PLAN = TransferPlan("linear", Linear(train_size=20), seeds=range(5))


def digits() -> Target:
    """UCI's handwritten digits as scikit-learn ships them.

    Returns:
        1,797 grey images of 8 x 8 px, half of them to test on.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise not_installed("the digits come with scikit-learn", "scikit-learn", "training") from None
    found = load_digits()
    grey = torch.from_numpy((found.images * 255 / 16).round().astype("uint8"))
    data = Images(grey[:, None].repeat(1, 3, 1, 1), torch.from_numpy(found.target).long())
    return _halves("digits", tuple("0123456789"), data)


def cifar10_half() -> Target:
    """The 1,000 bundled CIFAR-10 test images, half of them to train on: what the bundled models already know.

    Returns:
        Images (500, 3, 32, 32) to train on, as many to test on, and no validation images.
    """
    return _halves("cifar10-sample", cifar10_classes(), cifar10_sample())


def _halves(name: str, classes: tuple[str, ...], data: Images) -> Target:
    train, test = stratified_split(data.labels, 0.5, 0)
    return Target(name, classes, data.subset(train), None, data.subset(test))


TARGETS = (digits, cifar10_half)
