"""One rule for folders of images: what is taken of each shape that people have, what is left out, what is refused."""

import os
from unittest.mock import Mock

import pytest
import torch
from PIL import Image
from trees import image

import robust_zoo
from robust_zoo.errors import UsageError
from robust_zoo.training.data.folders import check_classes_differ, open_folder, open_source
from robust_zoo.training.data.labelled import open_held_out
from robust_zoo.training.data.tree import find_layout, split_of
from robust_zoo.training.evaluation.attack_images import attack_each
from robust_zoo.training.transfer.datasets import open_target
from robust_zoo.training.transfer.recommend import open_images


def make(root, *names):
    """Files of a folder: an image where the name ends as one, an empty folder where it ends in "/"."""
    for seed, name in enumerate(names):
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        elif path.suffix.lower() in (".jpg", ".jpeg", ".jfif"):
            image(path, seed)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    return root


def classes(prefix="", n=5, names=("cat", "dog")):
    return [f"{prefix}{name}/{i}.jpg" for name in names for i in range(n)]


def counts(target):
    return [len(part) if part is not None else None for part in (target.train, target.val, target.test)]


FOLD = "every fifth image, by the hash of its path, is for testing"
TAKEN = {  # files -> train, val, test of transfer; images of recommend; what the notes say
    "plain": (classes(n=20), [33, None, 7], 40, [FOLD, "2 classes, 40 images"]),
    "any case": (classes("TRAIN/") + classes("Test/", 2), [10, None, 4], 10, ["in TRAIN; not looked at: Test"]),
    "other words": (classes("training/") + classes("validation/", 2), [10, None, 4], 10, ["val is for testing"]),
    "three": (classes("train/") + classes("valid/", 2) + classes("testing/", 1), [10, 4, 2], 10, ["for choosing"]),
    "wrapper": ([*classes("w/v/", 20), "README.md"], [None, None, None], 40, ["in w/v; left out: 1 .md"]),
    "wrapped splits": (classes("w/train/") + classes("w/test/", 2), [10, None, 4], 10, ["images in w"]),
    "doubled": (classes("training_set/training_set/") + classes("test_set/test_set/", 1), [10, None, 2], 10, []),
    "train alone": (classes("train/", 20), [None, None, None], 40, [FOLD, "in train"]),
    "vehicles": (classes(n=20, names=("train", "bus")), [None, None, None], 40, [FOLD, "2 classes"]),
    "an unlabelled test": ([*classes("train/"), *classes("val/", 1), "test/1.jpg"], [10, None, 2], 10,
                           ["left out: the folder test"]),
    "others beside": ([*classes("train/"), *classes("test/", 1), "labels/x.xml", "x.jpg"], [10, None, 2], 10,
                      ["1 image outside the class folders", "the folder labels"]),
    "no test of a class": ([*classes("train/"), "test/cat/1.jpg"], [10, None, 1], 10, ["without test images: dog"]),
    "not decoded here": ([*classes(n=20), "cat/1.heic", "dog/2.HEIC", "dog/notes.txt", "x.jpg"], [None, None, None], 40,
                         ["left out: 2 .heic, 1 .txt, 1 image outside the class folders"]),
    "of a system": ([*classes(n=20), "cat/Thumbs.db", "dog/._1.jpg", ".DS_Store", "__MACOSX/cat/1.jpg", "@eaDir/1.jpg",
                     "cat/.ipynb_checkpoints/1.jpg"], [None, None, None], 40,
                    ["2 classes, 40 images; left out: what is hidden or a system's (.DS_Store, ._1.jpg"]),
    "nested": (["cat/a/1.jpg", "cat/2.JPEG", "dog/b/c/3.jfif", "dog/4.jpg"], [2, None, 2], 4, ["2 classes, 4 images"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_and_what_is_left_out_is_said(tmp_path, name):
    files, of_splits, recommended, said = TAKEN[name]
    target, (images, found) = open_target(str(make(tmp_path, *files))), open_images(tmp_path)
    assert of_splits == [None, None, None] or counts(target) == of_splits
    if of_splits == [None, None, None]:  # the fold is by a hash; together they are all
        assert len(target.train) + len(target.test) == recommended and min(counts(target)[::2]) > 0
    assert len(images) == recommended and target.classes == found and len(found) == 2
    notes = f"{target.note} | {images.source.note}"
    assert all(words in notes for words in said), notes
    assert str(tmp_path) not in notes  # it goes into a cell
    for data in filter(None, (target.train, target.val, target.test, images)):
        data.decode(int(data.rows[0]))


REFUSED = {
    "one class": (classes(names=("cat",)), "one: cat"),
    "one class, nested": (["cat/a/1.jpg", "cat/a/2.jpg"], "one: a"),
    "one class in splits": (classes("train/", names=("cat",)) + classes("test/", 1, ("cat",)), "one: cat"),
    "no folders": (["1.jpg", "2.jpg"], "none; 2 images lie in it directly"),
    "nothing": ([], "none"),
    "an empty class": ([*classes(), "emu/"], "none here"),
    "a class that cannot be decoded": ([*classes(), "emu/1.heic"], "none here; left out: 1 .heic"),
    "splits for classes": (["train/1.jpg", "val/2.jpg"], "splits without class folders: train, val"),
    "splits in classes": (classes("cat/", names=("train", "test")) + classes("dog/", names=("train", "test")),
                          "test and train in a class folder"),
    "a split beside a class": ([*classes("train/"), "emu/1.jpg"], "the split train, and beside it emu"),
    "a split twice": (classes("train/") + classes("val/", 1) + classes("validation/", 1), "val, validation"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("verb", [lambda root: open_target(str(root)), open_images], ids=["transfer", "recommend"])
def test_nonsense_is_refused(tmp_path, name, verb):
    files, said = REFUSED[name]
    with pytest.raises(UsageError, match="not a dataset of images") as error:
        verb(make(tmp_path, *files))
    assert said in error.value.actual and error.value.source and error.value.expected and error.value.next


class _BeforeTheWork(Exception):
    """Raised where a verb has opened its images."""


def outcome(open_images):
    """What is taken, by name; or every word of the error."""
    try:
        return [str(name) for name in open_images()]
    except UsageError as error:
        return str(error)


@pytest.mark.parametrize("name", [name for name in TAKEN | REFUSED if name != "no folders"])
def test_verbs_that_look_at_images_take_what_evaluate_takes(tmp_path, name, monkeypatch, capsys):
    """`attack` and `visualize --images`: the same images, notes and errors, whatever the classes are called."""
    monkeypatch.setattr("robust_zoo.visualization.sheets._models", Mock(side_effect=_BeforeTheWork))
    (tmp_path / "in").mkdir()
    root, robust = make(tmp_path / "in", *(TAKEN | REFUSED)[name][0]), "resnet18_x0_25_cifar10_l2_eps0_5"
    by_evaluate = outcome(lambda: open_held_out(str(root), ("test", "val", "train")).names)
    assert by_evaluate == outcome(lambda: attack_each(robust, [root], None, "fgsm", tmp_path / "out").images.names)
    if isinstance(by_evaluate, str):
        assert by_evaluate == outcome(
            lambda: robust_zoo.visualize([robust], ["gradient"], images=[root], out=tmp_path / "out")
        )
        return
    note = open_held_out(str(root), ("test", "val", "train")).note
    with pytest.raises(_BeforeTheWork):
        robust_zoo.visualize([robust], ["gradient"], images=[root], out=tmp_path)
    assert note in capsys.readouterr().err


def test_verbs_that_ask_for_no_class_need_no_class_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("robust_zoo.visualization.sheets._models", Mock(side_effect=_BeforeTheWork))
    root, robust = make(tmp_path / "in", "2.jpg", "1.JPG", "3.heic", ".hidden.jpg"), "resnet18_x0_25_cifar10_l2_eps0_5"
    attempt = attack_each(robust, [root], None, "fgsm", tmp_path / "out")
    assert [str(name) for name in attempt.images.names] == ["1.JPG", "2.jpg"]
    assert [str(path.relative_to(tmp_path / "out")) for path in attempt.saved] == [
        f"{i}_adversarial.png" for i in (1, 2)
    ]
    with pytest.raises(_BeforeTheWork):
        robust_zoo.visualize(robust, "gradient", images=[root])
    assert "2 images; left out: 1 .heic, what is hidden" in capsys.readouterr().err
    with pytest.raises(UsageError, match="not a dataset of images"):
        attack_each(robust, [make(tmp_path / "none", "3.heic")], None, "fgsm", tmp_path / "out")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (classes("train/") + classes("test/", 1, ("cat", "dog", "emu")), "none of emu"),
        (classes("val/") + classes("test/"), "test, val alone"),
        ([*classes("train/"), "test/cat/", "test/dog/"], "none"),
    ],
)
def test_a_transfer_needs_images_of_every_class_to_learn_from_and_some_to_test(tmp_path, files, said):
    with pytest.raises(UsageError, match="not a dataset of images") as error:
        open_target(str(make(tmp_path, *files)))
    assert said in error.value.actual


def test_training_takes_the_same_splits(tmp_path):
    make(tmp_path, *classes("w/Training/"), *classes("w/Validation/", 2), *classes("w/test/", 1))
    train, val = open_source(tmp_path, "train"), open_source(tmp_path, "val")
    assert (len(train), len(val)) == (10, 4) and train.classes == val.classes == ("cat", "dog")
    assert train.note == "2 classes, 10 images in w/Training; not looked at: Validation, test"
    with pytest.raises(UsageError, match="no val images"):
        open_source(make(tmp_path / "half", *classes("train/")), "val")
    with pytest.raises(UsageError, match="not a dataset of images"):
        check_classes_differ(open_source(make(tmp_path / "one", "train/cat/1.jpg"), "train"), tmp_path)


def test_links_are_followed_and_loops_found(tmp_path):
    make(tmp_path / "real", *classes())
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "real" / name)
    real, linked = open_folder(tmp_path / "real"), open_folder(tmp_path / "linked")
    assert list(real.names) == list(linked.names) and torch.equal(real.labels, linked.labels)
    (tmp_path / "real" / "cat" / "up").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="a link to one above it"):
        open_folder(tmp_path / "real")
    (tmp_path / "round" / "x").parent.mkdir()
    (tmp_path / "round" / "x").symlink_to(tmp_path / "round")
    with pytest.raises(UsageError):
        open_folder(tmp_path / "round")


def test_a_pipe_is_not_waited_for_and_a_link_to_nowhere_is_named(tmp_path):
    make(tmp_path, *classes())
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    assert "1 not a file" in open_folder(tmp_path).note
    (tmp_path / "dog" / "gone.jpg").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"gone\.jpg"):
        open_folder(tmp_path)


def test_a_file_too_large_for_an_image_is_not_read(tmp_path):
    make(tmp_path, *classes())
    with (tmp_path / "cat" / "0.jpg").open("wb") as file:
        file.truncate(1 << 40)  # a hole of a terabyte
    data, _ = open_images(tmp_path)
    for read in (lambda: data.decode(0), lambda: data.sha256):
        with pytest.raises(UsageError, match=r"cannot read cat/0\.jpg"):
            read()


def test_names_may_be_any_bytes_and_a_note_is_printable(tmp_path):
    make(tmp_path, *classes(), "cat/x.\x1b[31m", ".\x1b[32m")
    folder = os.fsencode(tmp_path) + b"/emu\xff"
    os.mkdir(folder)  # noqa: PTH102
    for i in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
        os.replace(tmp_path / "x.png", folder + b"/%d\xfe.png" % i)  # noqa: PTH105
    target = open_target(str(tmp_path))
    assert len(target.classes) == 3 and len(target.train.sha256) == 64 and target.note.isprintable()


def test_classes_are_in_one_order_whatever_the_disk_says(tmp_path):
    make(tmp_path, *classes(names=("1", "01", "10", "2")))
    assert open_folder(tmp_path).classes == ("01", "1", "2", "10")


def test_splits_by_name():
    words = {
        "train": "Train TRAINING train_set trainset",
        "val": "val Valid validation val-data",
        "test": "TEST testing",
    }
    assert all(split_of(name) == split for split, names in words.items() for name in names.split())
    assert not any(map(split_of, ("trains", "tests", "valley", "trainer", "seg", "", "contest")))


def test_only_the_split_that_is_asked_for_is_read(tmp_path):
    make(tmp_path, *classes("train/"), "train/emu/", *classes("test/", 1))
    assert set(find_layout(tmp_path).splits) == {"train", "test"}
    assert len(open_folder(tmp_path, take=("test",))) == 2
    with pytest.raises(UsageError, match="none here"):
        open_folder(tmp_path)
