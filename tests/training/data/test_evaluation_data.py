"""ImageNet's validation sets in their official layouts, small; planted wrong orders come out right or are refused."""

import gzip
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.training.data import imagenet
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.class_names import labels_called
from robust_zoo.training.data.labelled import folder
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


def test_any_folder_by_wnid_or_name(tmp_path):
    names = ["tench/a.png", "Great_White_Shark/b.png", "n01443537/c.png", "tabby, tabby cat/d.png", "harp/e.png"]
    names += ["n02012849 crane/f.png", "jack-o'-lantern/g.png"]
    found = labels(folder(tree(tmp_path, names), ROW))
    assert found == dict(zip((n.split("/")[1] for n in names), (0, 2, 1, 281, 594, 134, 607), strict=True))
    for wrong in ("1000", "281", "n00000000", "ILSVRC", "n02012849 tench"):
        with pytest.raises(UsageError, match="is no class of ImageNet"):
            folder(tree(tmp_path / wrong / "x", [f"{wrong}/a.png"]), ROW)


def test_every_id_name_and_synset_text_is_its_class_or_named_as_several():
    """Against timm's own list: nothing is taken for another class, and only the first names that two share fail."""
    info, dataset = ImageNetInfo(), ROW.collection.dataset
    shared = {"crane", "maillot"}  # first names of two classes each: the bird and the machine, the two swimsuits
    for label, wnid in enumerate(info.label_names()):
        text = info.index_to_description(label)
        assert labels_called(wnid, dataset) == labels_called(wnid.upper(), dataset) == (label,)
        if text not in shared:
            for spelling in (text, text.replace(" ", "_"), text.upper() if "cardigan" not in text.lower() else text):
                assert labels_called(spelling, dataset) == (label,)
        first, *others = text.split(", ")
        assert labels_called(first, dataset) == (label,) or (first in shared and label in labels_called(first, dataset))
        assert all(labels_called(name, dataset) for name in others)
    assert labels_called("panther", dataset) == (286, 290) and labels_called("no such thing", dataset) == ()


@pytest.mark.parametrize(
    ("name", "ids"), [("crane", ("n02012849", "n03126707")), ("Maillot", ("n03710637", "n03710721"))]
)
def test_names_of_two_classes_are_refused_with_both_ids(tmp_path, name, ids):
    with pytest.raises(UsageError, match="more than one class of ImageNet") as error:
        folder(tree(tmp_path, ["tench/a.png", f"{name}/b.png"]), ROW)
    assert all(wnid in error.value.expected for wnid in ids)


def test_numbers_are_the_models_classes_only_where_one_says_so(tmp_path):
    """Any dataset's folders may be called 0 ... 9: MNIST's would be fish and birds."""
    root = tree(tmp_path, ["0/a.png", "2/b.png", "10/c.png"])
    for row in (ROW, CIFAR):
        with pytest.raises(UsageError, match="'0' is no class of") as error:
            open_dataset("folder", root, row)
        assert "--dataset numbered" in error.value.next
    title, data = open_dataset("numbered", root, ROW)
    assert title == "imagenet folder" and labels(data) == {"a.png": 0, "b.png": 2, "c.png": 10}
    with pytest.raises(UsageError, match="'10' is no class of CIFAR-10"):
        open_dataset("numbered", root, CIFAR)


def test_the_classes_of_any_dataset_are_known_by_name(tmp_path):
    """CIFAR-10's bundled images as PNGs, some classes missing, in another order: the labels and pixels are the same."""
    sample = cifar10_sample(3)
    names = CIFAR.collection.dataset.class_names
    kept = [i for i, label in enumerate(sample.labels.tolist()) if names[label] not in ("bird", "truck")]
    for i in kept:
        path = tmp_path / "images" / names[sample.labels[i]].capitalize() / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.images[i].permute(1, 2, 0).numpy()).save(path)
    title, data = open_dataset("", str(tmp_path), CIFAR)
    assert title == "cifar10 folder" and data.source.note == f"8 classes, {len(kept)} images in images"
    ((pixels, found),) = replace(data, workers=0).batches(100)
    order = [int(name.split("/")[1][:3]) for name in data.source.names]
    assert torch.equal(found, sample.labels[order]) and torch.equal((pixels * 255).byte(), sample.images[order])
    with pytest.raises(UsageError, match="'Airplane' is no class of ImageNet"):
        open_dataset("", str(tmp_path), ROW)


def test_what_is_given_decides_what_is_measured(tmp_path):
    np.savez(
        tmp_path / "x.npz",
        x_test=np.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3).astype(np.uint8),
        y_test=np.array([3, 1]),
    )
    assert open_dataset("", str(tmp_path / "x.npz"), CIFAR)[1].labels.tolist() == [3, 1]
    assert open_dataset("", "", CIFAR)[0] == "cifar10 bundled sample"
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("n02123045/a.jpg", "goldfish/b.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(jpeg(1))
            tar.addfile(info, io.BytesIO(jpeg(1)))
    title, data = open_dataset("", str(tmp_path / "x.tar"), ROW)
    assert title == "imagenet folder" and labels(data) == {"a.jpg": 281, "b.jpg": 1}
    tree(tmp_path / "splits", ["train/tench/a.png", "Testing/tench/b.png", "Testing/goldfish/c.png"])
    assert labels(open_dataset("", str(tmp_path / "splits"), ROW)[1]) == {"b.png": 0, "c.png": 1}
    (tmp_path / "notes.txt").write_text("none")
    for file, row, said in (
        ("", ROW, "no images given"),
        ("none", CIFAR, "no images of CIFAR-10 there"),
        ("notes.txt", CIFAR, "no images of CIFAR-10 there"),
        ("x.npz", ROW, "no images of ImageNet-1k there"),
    ):
        with pytest.raises(UsageError, match=said) as error:
            open_dataset("", file and str(tmp_path / file), row)
        assert error.value.expected and error.value.actual and error.value.next
    with pytest.raises(UsageError, match="comes with the package"):
        open_dataset("sample", str(tmp_path / "x.npz"), CIFAR)


def test_images_are_prepared_as_the_checkpoint_wants_them(tmp_path):
    (images, _), *_ = folder(tree(tmp_path, ["tench/a.png"]), ROW).batches(4)
    assert images.shape == (1, 3, 224, 224)


def test_cifar101_and_its_faults(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2000, 32, 32, 3), np.uint8)
    truth = np.arange(2000, dtype=np.int32) % 10
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
    assert {source.classes for source in DATASETS.values()} == {"cifar10", "imagenet", ""}
