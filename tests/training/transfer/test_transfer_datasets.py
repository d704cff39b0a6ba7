"""The twelve datasets in their official layouts, in the other common ones, and broken; torchvision reads the same."""

import pickle
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
import verbs
from PIL import Image
from trees import TREES, image

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.training.transfer.datasets import get_dataset, load_datasets, open_target
from robust_zoo.training.transfer.tuning.images import open_split
from robust_zoo.training.transfer.verify_copy import damaged

LISTED = [name for name in TREES if not name.startswith("cifar")]


def small(name, truth):
    """The dataset's row with the sizes of the small tree."""
    sizes = {split: len(files) for split, files in truth.items()}
    labels = truth["train"] if isinstance(truth["train"], list) else truth["train"].values()
    return replace(get_dataset(name), classes=3 if name == "birds" else len({*labels}), **{"val": 0} | sizes)


def content(data, root):
    """{path: class} as the loader has it."""
    names = data.source.names
    return {names[i]: data.source.classes[label] for i, label in enumerate(data.source.labels.tolist())}


def run(*arguments):
    return verbs.run("data", *arguments)


@pytest.fixture(scope="module", params=TREES)
def tree(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    return request.param, root, TREES[request.param](root)


def test_the_official_layout(tree):
    name, root, truth = tree
    target = open_target(name, root, dataset=small(name, truth))
    found = {"train": target.train, "test": target.test} | ({"val": target.val} if target.val is not None else {})
    assert set(found) == set(truth)
    for split, data in found.items():
        if isinstance(truth[split], list):
            assert data.labels.tolist() == truth[split] and data.images.shape[1:] == (3, 32, 32)
        else:
            assert content(data, root) == truth[split]
            images, labels = next(data.batches(4))
            assert images.shape[1:] == (3, 224, 224) and torch.equal(labels, data.labels[:4])
    assert target.note == "" and not damaged(target, deep=True) and target.metric == get_dataset(name).metric


TORCHVISION = {
    "aircraft": lambda root, split: torchvision.datasets.FGVCAircraft(root, split),
    "dtd": lambda root, split: torchvision.datasets.DTD(root, split),
    "flowers": lambda root, split: torchvision.datasets.Flowers102(root, split),
    "food": lambda root, split: torchvision.datasets.Food101(root, split),
    "pets": lambda root, split: torchvision.datasets.OxfordIIITPet(root, {"train": "trainval"}.get(split, split)),
    "stanford_cars": lambda root, split: torchvision.datasets.StanfordCars(root, split),
}
FILES = ("_image_files", "_images", "_samples")


def table(datasets, labels, seed):
    """Rows as `datasets` has them; classes are named in another order than the alphabet's."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["owl", "cat"])})
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    return datasets.Dataset.from_dict({"image": [Image.fromarray(one) for one in pixels], "label": labels}, features)


@pytest.mark.parametrize(
    ("kinds", "sizes", "said"),
    [
        (("train", "validation", "test"), (10, 4, 4), "2 classes, 10 train, 4 val, 4 test images; val is for choosing"),
        (("train", "validation"), (10, None, 4), "2 classes, 10 train, 4 val images; val is for testing"),
        (("train",), None, "is for testing"),
    ],
)
def test_any_hugging_face_dataset_by_its_splits(tmp_path, kinds, sizes, said):
    datasets = pytest.importorskip("datasets")
    labels = {kind: [0, 1] * (5 if kind == "train" else 2) for kind in kinds}
    saved = datasets.DatasetDict({kind: table(datasets, labels[kind], i) for i, kind in enumerate(kinds)})
    saved.save_to_disk(str(tmp_path / "birds"))
    target = open_target(f"hfds/{tmp_path / 'birds'}")
    assert (target.name, target.classes) == ("birds (unchecked)", ("owl", "cat")) and said in target.note
    parts = (target.train, target.val, target.test)
    assert [part and len(part) for part in parts] == [*sizes] if sizes else len(target.train) + len(target.test) == 10
    assert not sizes or target.train.labels.tolist() == labels["train"]
    if "validation" in kinds:
        split = open_split(f"hfds/{tmp_path / 'birds'}", f"hfds/{tmp_path / 'birds'}")
        assert split.val.source.classes == split.classes and split.val.labels.tolist() == labels["validation"]
    with pytest.raises(UsageError, match="cannot read the dataset"):
        open_target(f"hfds/{tmp_path / 'nothing'}")


def test_a_table_without_training_rows_is_refused(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({"test": table(datasets, [0, 1], 0)}).save_to_disk(str(tmp_path / "birds"))
    with pytest.raises(UsageError, match="not a dataset") as error:
        open_target(f"hfds/{tmp_path / 'birds'}")
    assert (error.value.expected, error.value.actual) == ("a split called train", "test")


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_reads_the_same(name, tmp_path, monkeypatch):
    """The same files in the same groups; and the same numbers, where torchvision counts in the official order."""
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_check_integrity", lambda self: True)
    truth = TREES[name](tmp_path)
    target = open_target(name, tmp_path, dataset=small(name, truth))
    for split in truth:
        theirs = TORCHVISION[name](tmp_path, split)
        ours = getattr(target, split)
        pairs = theirs._samples if hasattr(theirs, "_samples") else zip(_files(theirs), theirs._labels, strict=True)
        by_file = {str(file).rpartition("/")[2]: label for file, label in pairs}
        found = {n.rpartition("/")[2]: label for n, label in zip(ours.source.names, ours.labels.tolist(), strict=True)}
        assert set(by_file) == set(found)
        groups = {(by_file[file], found[file]) for file in found}
        assert len({a for a, _ in groups}) == len({b for _, b in groups}) == len(groups)
        if name in ("aircraft", "food", "pets", "stanford_cars"):
            assert by_file == found


def _files(dataset):
    return next(getattr(dataset, name) for name in FILES if hasattr(dataset, name))


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("test_folder", ["test", "valid"])
def test_upstreams_image_folders(name, test_folder, tmp_path):
    """Folder copies cannot hold "/" in a class: only the grouping of files is theirs."""
    truth = TREES[name](tmp_path / "official")
    for split, files in truth.items():
        for i, label in enumerate(files.values()):
            folder = {"test": test_folder, "val": "train"}.get(split, split)
            image(tmp_path / name / folder / label.replace("/", "_").strip("_") / f"{split}{i}.jpg")
    row = small(name, truth)
    if name == "birds":  # empty folders came along
        (tmp_path / name / "train" / "001").mkdir()
    target = open_target(name, tmp_path, dataset=row)
    assert target.val is None and len(target.train) == row.train + row.val and len(target.test) == row.test
    clean = {label.replace("/", "_").strip("_") for label in target.classes}
    assert clean == {*target.classes} and len(clean) == row.classes


@pytest.mark.parametrize("name", ["cifar100", "food", "aircraft", "birds", "caltech256"])
def test_hugging_face_copies(name, tmp_path):
    """Columns of other names, classes as words or counted from 1, a test split called validation."""
    datasets = pytest.importorskip("datasets")
    words = ["pear", "apple", "fig"]
    labels = {"birds": words, "caltech256": [1, 2, 3]}.get(name, [0, 1, 2])
    row = get_dataset(name)
    rows = replace(row, classes=3, train=6, val=3 if row.val else 0, test=3)
    kinds = {"train": 6, "validation" if name == "food" else "test": 3} | ({"validation": 3} if row.val else {})

    def pictures(n):
        return [Image.fromarray(np.full((8, 8, 3), 10 * i, dtype=np.uint8)) for i in range(n)]

    made = {
        kind: datasets.Dataset.from_dict(
            {"image": pictures(n), row.hf_label: [labels[i % 3] for i in range(n)], "coarse_label": [0] * n}
        ).cast_column("image", datasets.Image())
        for kind, n in kinds.items()
    }
    datasets.DatasetDict(made).save_to_disk(tmp_path / name)
    target = open_target(name, tmp_path, dataset=rows)
    assert len(target.train) == 6 and len(target.test) == 3 and (target.val is not None) == bool(row.val)
    expected = [sorted(map(str, labels)).index(str(labels[i % 3])) for i in range(6)]
    assert target.train.labels.tolist() == expected


def test_classes_that_are_numbers_are_counted(tmp_path):
    """Oxford's flowers as folders 1 ... 102: as words 10 would come before 2."""
    for split in ("train", "test"):
        for label in ("1", "2", "10"):
            image(tmp_path / "flowers" / split / label / "a.jpg")
    row = replace(get_dataset("flowers"), classes=3, train=3, val=0, test=3)
    assert open_target("flowers", tmp_path, dataset=row).classes == ("1", "2", "10")


def at(root, name):
    """The file that a loader calls `name`, wherever the tree's own folders put it."""
    return next(file for file in root.rglob(name.rpartition("/")[2]) if file.as_posix().endswith(name))


def break_split(root, name):
    file = {"aircraft": "images_variant_test.txt", "dtd": "val1.txt", "flowers": "imagelabels.mat", "food": "test.json",
            "pets": "test.txt", "stanford_cars": "cars_test_annos_withlabels.mat", "SUN397": "Testing_01.txt",
            "cifar10": "data_batch_3", "cifar100": "test"}[name]  # fmt: skip
    next(root.rglob(file)).unlink()
    return file


@pytest.mark.parametrize("name", [n for n in TREES if n not in ("birds", "caltech101", "caltech256")])
def test_a_missing_list_is_named(name, tmp_path):
    truth = TREES[name](tmp_path)
    file = break_split(tmp_path, name)
    with pytest.raises(VerificationFailed, match=r"not the official one") as error:
        open_target(name, tmp_path, dataset=small(name, truth))
    assert file in error.value.actual and error.value.model == name


@pytest.mark.parametrize("name", [n for n in LISTED if n not in ("birds", "stanford_cars")])
def test_a_missing_image_is_named(name, tmp_path):
    truth = TREES[name](tmp_path)
    first = sorted(truth["test"])[0]
    at(tmp_path, first).unlink()
    with pytest.raises(VerificationFailed) as error:
        open_target(name, tmp_path, dataset=small(name, truth))
    wrong = "test images" if name.startswith("caltech") else f"1 missing, first {first}"
    assert wrong in error.value.actual + error.value.expected


@pytest.mark.parametrize("name", ["birds", "stanford_cars"])
def test_what_cannot_be_whole_says_what_it_has(name, tmp_path):
    truth = TREES[name](tmp_path)
    at(tmp_path, sorted(truth["train"])[0]).unlink()
    target = open_target(name, tmp_path, dataset=small(name, truth))
    n = len(truth["train"])
    assert target.note == f"{n - 1} of {n} official training images" and len(target.train) == n - 1


@pytest.mark.parametrize("name", LISTED)
def test_a_truncated_image_is_named(name, tmp_path):
    truth = TREES[name](tmp_path)
    first = sorted(truth["train"])[0]
    file = at(tmp_path, first)
    file.write_bytes(file.read_bytes()[:-60])
    bad = damaged(open_target(name, tmp_path, dataset=small(name, truth)))
    assert len(bad) == 1 and bad[0].startswith(f"{first}: ")


def test_an_unknown_class_is_named(tmp_path):
    truth = TREES["aircraft"](tmp_path)
    file = next(tmp_path.rglob("images_variant_train.txt"))
    file.write_text(file.read_text().replace("707-320", "707-321"))
    with pytest.raises(VerificationFailed) as error:
        open_target("aircraft", tmp_path, dataset=small("aircraft", truth))
    assert "'707-321' in train" in error.value.actual


def test_an_image_in_two_splits_is_named(tmp_path):
    truth = TREES["dtd"](tmp_path)
    shutil.copy(next(tmp_path.rglob("train1.txt")), next(tmp_path.rglob("test1.txt")))
    with pytest.raises(VerificationFailed) as error:
        open_target("dtd", tmp_path, dataset=small("dtd", truth))
    assert "2 in two, first images/banded/banded_train.jpg" in error.value.actual


def test_official_counts_are_asked_for(tmp_path):
    TREES["pets"](tmp_path)
    with pytest.raises(VerificationFailed) as error:
        open_target("pets", tmp_path)
    assert (error.value.expected, error.value.actual) == ("37 classes", "3")


def test_a_batch_of_cifar_that_runs_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "canary"), "w")

    truth = TREES["cifar10"](tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps({"data": Evil()}))
    with pytest.raises(VerificationFailed, match="not the official one") as error:
        open_target("cifar10", tmp_path, dataset=small("cifar10", truth))
    assert "does not belong" in error.value.actual and not (tmp_path / "canary").exists()


def test_cifar_as_npz(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "cifar10.npz", x_train=pixels, y_train=[0, 1] * 3, x_test=pixels[:2], y_test=[0, 1])
    target = open_target("CIFAR10", tmp_path, dataset=replace(get_dataset("cifar10"), classes=2, train=6, test=2))
    assert len(target.train) == 6 and target.classes == ("0", "1")


def test_any_folder_is_a_dataset(tmp_path):
    for label in ("cat", "dog"):
        for i in range(40):
            image(tmp_path / "mine" / label / f"{i}.jpg", i)
    image(tmp_path / "mine" / "emu" / "1.jpg")
    image(tmp_path / "mine" / "emu" / "2.jpg")
    target = open_target(str(tmp_path / "mine"))
    again = open_target(str(tmp_path / "mine"))
    assert target.name == "mine" and target.classes == ("cat", "dog", "emu") and again.test.sha256 == target.test.sha256
    assert len(target.train) + len(target.test) == 82 and 8 <= len(target.test) <= 26
    for data in (target.train, target.test):
        assert set(Counter(data.labels.tolist())) == {0, 1, 2}
    image(tmp_path / "mine" / "ibis" / "1.jpg")
    with pytest.raises(UsageError, match="ibis has one image"):
        open_target(str(tmp_path / "mine"))


def test_the_rows_are_the_papers():
    rows = load_datasets()
    assert len(rows) == 12 and sum(row.metric == "mean per-class" for row in rows.values()) == 5
    reported = {"aircraft": 6667, "caltech101": 3030, "dtd": 3760, "flowers": 2040, "SUN397": 19850}
    assert {name: rows[name].train + rows[name].val for name in reported} == reported
    assert get_dataset("sun397").name == "SUN397"
    with pytest.raises(UsageError, match="unknown dataset") as error:
        get_dataset("flower")
    assert "flowers" in error.value.next


def test_the_command(tmp_path):
    listed = run("list")
    assert listed.exit_code == 0 and all(name in listed.stdout for name in TREES)
    missing = run("prepare", "dtd", "--root", tmp_path)
    assert missing.exit_code == 0 and "dtd-r1.0.1.tar.gz" in missing.stdout and "--download" in missing.stdout
    assert run("check", "dtd", "--root", tmp_path).exit_code == UsageError.exit_code
    gone = run("prepare", "SUN397", "--root", tmp_path, "--download")
    assert gone.exit_code == 2 and "cannot be downloaded" in gone.stderr
    for label in "ab":
        for i in range(6):
            image(tmp_path / "mine" / label / f"{i}.jpg", i)
    whole = run("check", tmp_path / "mine")
    assert whole.exit_code == 0 and "2 classes" in whole.stdout
    victim = tmp_path / "mine" / "a" / "3.jpg"
    victim.write_bytes(victim.read_bytes()[:50])
    broken = run("check", tmp_path / "mine")
    assert broken.exit_code == VerificationFailed.exit_code and "a/3.jpg" in broken.stderr
