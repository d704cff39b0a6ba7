"""Bundled images as folders of class folders."""

from PIL import Image

from robust_zoo.training.data.cifar10_sample import cifar10_classes, cifar10_sample


def write_photos(root, n, classes=4, start=0):
    """`n` images of each of the first classes, as PNG."""
    data, names = cifar10_sample(), cifar10_classes()
    for label in range(classes):
        (root / names[label]).mkdir(parents=True, exist_ok=True)
        for i in (data.labels == label).nonzero().flatten()[start : start + n].tolist():
            Image.fromarray(data.images[i].permute(1, 2, 0).numpy()).save(root / names[label] / f"{i}.png")
    return root
