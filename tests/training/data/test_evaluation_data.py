"""ImageNet's validation sets in their official layouts, small; planted wrong orders come out right or are refused."""

import gzip
import io

import numpy as np
import pytest
import torch
from PIL import Image

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.training.data import imagenet
from robust_zoo.training.evaluation.datasets import DATASETS, open_dataset

ROW = get("resnet18_linf_eps4")
CIFAR = get("resnet18_x0_25_cifar10_linf_eps8")


def jpeg(shade):
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (shade % 256,) * 3).save(out, "JPEG")
    return out.getvalue()


def tree(root, names):
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(i))
    return str(root)


def labels(data):
    return dict(zip((n.split("/")[-1] for n in data.source.names), data.labels.tolist(), strict=True))


def test_imagenet_labels_come_from_the_wnid_not_from_the_position(tmp_path):
    """Three of the thousand folders: their positions are 0, 1, 2, their classes are not."""
    names = ["n01443537/ILSVRC2012_val_00000262.JPEG", "n02123045/ILSVRC2012_val_00000009.JPEG",
             "n15075141/ILSVRC2012_val_00000017.JPEG"]  # fmt: skip
    data = imagenet.validation(tree(tmp_path / "val", names).removesuffix("/val"), ROW, 3)
    assert labels(data) == {n.split("/")[1]: k for n, k in zip(names, (1, 281, 999), strict=True)}
    assert torch.equal(imagenet.validation(str(tmp_path / "val"), ROW, 3).labels, data.labels)
    with pytest.raises(UsageError, match="3 images are not this dataset"):
        imagenet.validation(str(tmp_path), ROW)


def test_imagenet_v2s_numbers_are_numbers(tmp_path):
    """Sorted as strings, 10 comes before 2: the loader its README names gets most labels wrong."""
    names = [f"{label}/{'abcdef'[i]}.jpeg" for i, label in enumerate((0, 2, 10, 100, 999))]
    data = imagenet.imagenet_v2(tree(tmp_path, names), ROW, 5)
    assert labels(data) == {"a.jpeg": 0, "b.jpeg": 2, "c.jpeg": 10, "d.jpeg": 100, "e.jpeg": 999}
    assert sorted({n.split("/")[0] for n in names}) != ["0", "2", "10", "100", "999"]  # the trap is set


def test_robustbench_is_its_list_in_its_order(tmp_path, monkeypatch):
    wanted = imagenet.robustbench_names()
    assert len(wanted) == len(set(wanted)) == 5000 and wanted[0] != min(wanted)  # not the first 5,000, not sorted
    info = {"ILSVRC2012_val_00000001.JPEG": "n01751748"}
    few = wanted[:3]
    names = [f"n0144076{4}/{name}" for name in few] + [f"{w}/{n}" for n, w in info.items() if n not in few]
    root = tree(tmp_path / "val", names)
    data = imagenet.robustbench(root, ROW, 3)
    assert [data.source.names[i].split("/")[1] for i in data.indices.tolist()] == few
    with pytest.raises(UsageError, match="4,997 of RobustBench's images are not there"):
        imagenet.robustbench(root, ROW)
    damaged = tmp_path / "list.gz"
    damaged.write_bytes(gzip.compress(b"n01440764/ILSVRC2012_val_00000293.JPEG"))
    monkeypatch.setattr(imagenet, "_LIST", damaged)
    with pytest.raises(VerificationFailed, match="damaged"):
        imagenet.robustbench_names()


def test_any_folder_by_wnid_number_or_name(tmp_path):
    names = ["tench/a.png", "Great_White_Shark/b.png", "n01443537/c.png", "281/d.png"]
    assert labels(imagenet.folder(tree(tmp_path, names), ROW)) == {"a.png": 0, "b.png": 2, "c.png": 1, "d.png": 281}
    for wrong in ("crane", "1000", "n00000000", "ILSVRC"):  # a bird and a machine are called crane
        with pytest.raises(UsageError, match="is no class of ImageNet"):
            imagenet.folder(tree(tmp_path / wrong / "x", [f"{wrong}/a.png"]), ROW)


def test_images_are_prepared_as_the_checkpoint_wants_them(tmp_path):
    (images, _), *_ = imagenet.folder(tree(tmp_path, ["tench/a.png"]), ROW).batches(4)
    assert images.shape == (1, 3, 224, 224)


def test_cifar101_and_its_faults(tmp_path):
    images, truth = np.zeros((2000, 32, 32, 3), np.uint8), np.arange(2000, dtype=np.int32) % 10
    np.save(tmp_path / "cifar10.1_v6_data.npy", images)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", truth)
    title, data = open_dataset("cifar10.1", str(tmp_path), CIFAR)
    assert title == "cifar10.1 v6" and data.labels.tolist() == truth.tolist()
    np.save(tmp_path / "cifar10.1_v6_data.npy", images[:1999])
    with pytest.raises(UsageError, match=r"not CIFAR-10\.1 v6"):
        open_dataset("cifar10.1", str(tmp_path), CIFAR)
    with pytest.raises(UsageError, match=r"cannot read CIFAR-10\.1"):
        open_dataset("cifar10.1", str(tmp_path / "none"), CIFAR)


def test_names_and_classes_that_do_not_fit():
    cases = [("imagnet", ROW, "unknown dataset"), ("sample", ROW, "does not know the classes")]
    cases += [("imagenet", CIFAR, "does not know the classes"), ("imagenet", ROW, "needs --data")]
    for name, row, said in cases:
        with pytest.raises(UsageError, match=said):
            open_dataset(name, "", row)
    assert {source.classes for source in DATASETS.values()} == {"cifar10", "imagenet"}
