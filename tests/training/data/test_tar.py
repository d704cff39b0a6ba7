"""Tar shards: labels by number, by name or by folder; what is no sound label for each image is refused by its name."""

import io
import subprocess
import tarfile

import pytest
from PIL import Image
from verbs import run_to as run

from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.training.data.encoded import counted
from robust_zoo.training.data.folders import open_folder, open_source
from robust_zoo.training.evaluation.datasets import open_dataset
from robust_zoo.training.transfer.datasets import open_target
from robust_zoo.training.transfer.recommend import open_images


def png(shade=0):
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (shade * 20 % 256, 5, 99)).save(out, "PNG")
    return out.getvalue()


def shard(file, *members, mode="w"):
    """members: (name, bytes); of an image None stands for the bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as tar:
        for i, (name, content) in enumerate(members):
            content = png(i) if content is None else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.parent


def beside(labels, kind="cls", first=0):
    """An image and its label for each of `labels`."""
    for i, label in enumerate(labels, start=first):
        yield f"{i:03d}.png", None
        yield f"{i:03d}.{kind}", label


WAYS = {
    "numbers": (beside([b"0", b"1\n"] * 5), ("0", "1")),
    "padded numbers": (beside([b"000", b" 001"] * 5), ("0", "1")),
    "names": (beside([b"dog", b"cat"] * 5), ("cat", "dog")),
    "names as Windows writes them": (beside([b"\xef\xbb\xbfdog\r\n", b"cat\r\n"] * 5), ("cat", "dog")),
    "names in txt": (beside([b"dog", b"cat"] * 5, "txt"), ("cat", "dog")),
    "names in json": (beside([b'{"label": "dog"}', b'{"label": "cat", "n": 1}'] * 5, "json"), ("cat", "dog")),
    "numbers in json": (beside([b'{"label": 1}', b'{"label": "0"}'] * 5, "json"), ("0", "1")),
    "folders with captions": (
        [(f"{c}/{i}.{k}", None if k == "png" else b"a\npet") for c in ("dog", "cat") for i in range(5)
         for k in ("png", "txt")],
        ("cat", "dog"),
    ),
    "folders with annotations": (
        [("notes.json", b"[1, 2]"), *((f"{c}/{i}.png", None) for c in ("cat", "dog") for i in range(5))],
        ("cat", "dog"),
    ),
    "several endings": ([(f"{i}.{end}", None if end == "rgb.png" else b"%d" % (i % 2)) for i in range(10)
                         for end in ("rgb.png", "cls")], ("0", "1")),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_labelling_counts_its_classes(tmp_path, way):
    members, classes = WAYS[way]
    root = shard(tmp_path / "mine" / "0.tar", *members)
    images, found = open_images(root)
    assert found == classes and sorted(images.labels.tolist()) == [0] * 5 + [1] * 5
    assert open_images(root / "0.tar")[1] == classes  # a shard by itself
    target = open_target(str(root))
    assert target.classes == classes and len(target.train) + len(target.test) == 10


@pytest.mark.parametrize(
    "names",
    [
        ("train.tar", "val.tar"),
        ("train/0.tar", "test/0.tar"),
        ("my-train-0.tar", "my-test-0.tar"),
        ("my-train.tar", "my-val.tar"),
        ("my-train0.tar", "my-validation0.tar"),
        ("training.tar", "validation.tar"),
    ],
)
@pytest.mark.parametrize("labels", [[b"0", b"1"], [b"dog", b"cat"]])
def test_shards_of_splits_are_these_splits(tmp_path, names, labels):
    shard(tmp_path / names[0], *beside(labels * 3))
    shard(tmp_path / names[1], *beside(labels[1:]))  # cat alone: its label is train's
    target = open_target(str(tmp_path))
    assert (len(target.train), target.val, len(target.test)) == (6, None, 1)
    assert target.classes[int(target.test.labels[0])] == labels[1].decode()
    assert [len(open_source(tmp_path, split)) for split in ("train", "val")] == [6, 1]  # every verb by one rule
    shard(tmp_path / names[1], *beside([b"2" if labels[0] == b"0" else b"eel"]))
    with pytest.raises(UsageError, match="not a dataset") as error:
        open_target(str(tmp_path))
    assert error.value.actual in ("also 2", "also eel")


def test_a_label_is_that_of_its_image(tmp_path):
    order = [b"dog", b"cat", b"dog", b"eel"]
    shard(tmp_path / "0.tar", *beside(order[:2]))
    shard(tmp_path / "1.tar", *beside(order[2:]))
    source = open_folder(tmp_path)
    assert [source.classes[i] for i in source.labels.tolist()] == [name.decode() for name in order]


def test_recommend_names_the_number_of_classes(tmp_path):
    """Case 11: labels in digits gave num_classes=0, which takes the head away."""
    root = shard(tmp_path / "mine" / "0.tar", *beside([b"%d" % (i % 2) for i in range(12)]))
    arguments = ("recommend", root, "-a", "resnet18_x0_25", "--workers", 0, "--cache", tmp_path / "cache")
    said = run(*arguments, "--norm", "linf").stdout
    assert "12 images of 2 classes" in said and "num_classes=2)" in said


FAULTS = {
    "missing": (list(beside([b"0", b"1"] * 3))[:-1], "005.png has no .cls or .json beside it, as 1 of 6"),
    "without an image": ([*beside([b"0", b"1"]), ("7.cls", b"0")], "1 labels without one, first of 7"),
    "twice": ([*beside([b"0", b"1"]), ("000.png", None)], "000.png twice"),
    "label twice": ([*beside([b"0", b"1"]), ("000.cls", b"1")], "000.cls twice"),
    "two images": ([*beside([b"0", b"1"]), ("000.jpg", None)], "000.png and 000.jpg share the label of 000"),
    "two views": (
        [("1.left.png", None), ("1.right.png", None), ("1.cls", b"0")], "1.left.png and 1.right.png share the label",
    ),
    "negative": (beside([b"0", b"-1"]), "001.png: a label of -1"),
    "float": (beside([b"0.0", b"1.0"]), "000.png: a label of 0.0"),
    "float in json": (beside([b'{"label": 1.5}'], "json"), "the label 1.5 is neither"),
    "true in json": (beside([b'{"label": true}'], "json"), "the label True is neither"),
    "nan": (beside([b"nan"]), "a label of nan"),
    "huge": (beside([b"0", b"9" * 30]), "001.png: a label of 9"),
    "overflowing": (beside([b"0", b"9" * 5000]), "001.png: a label of 9"),
    "empty": (beside([b"0", b" \n"]), "001.png: an empty label"),
    "UTF-16": (beside(["cat".encode("utf-16")]), "000.png: UTF-16 text"),
    "a caption": (beside([b"a cat\non a mat"]), "no name of a class"),
    "a caption in txt": (beside([b"a cat on a mat, " * 9], "txt"), "no name of a class"),
    "a video in cls": (beside([b"x" * (2**20 + 1)]), "more than 1,048,576 bytes"),
    "deep json": (beside([b"[" * 100_000], "json"), "000.png: "),
    "names and numbers": (beside([b"cat", b"1"]), "'cat' (0.tar/000.png) and 1 (0.tar/001.png)"),
    "nothing": ([], "none in this one"),
    "no image": ([("a.cls", b"0"), ("b.txt", b"x")], "none in this one"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_unsound_labels_are_refused_by_name(tmp_path, fault):
    members, said = FAULTS[fault]
    shard(tmp_path / "0.tar", *members)
    with pytest.raises(UsageError) as error:
        open_folder(tmp_path)
    assert said in error.value.actual and str(tmp_path) in error.value.source
    assert error.value.expected and error.value.next


GAPS = {
    "from one": ([b"1", b"2"] * 6, "labels 1 to 2, none of 0", "take 1 from each number"),
    "a gap": ([b"0", b"2"] * 6, "labels 0 to 2, none of 1", "number the classes"),
    "far apart": ([b"0", b"1000000"] * 6, "none of 1; the next higher is 1000000, first of 0.tar/001.png", "number"),
}


@pytest.mark.parametrize("gap", GAPS)
def test_numbers_that_do_not_count_from_zero_are_refused(tmp_path, gap):
    labels, said, then = GAPS[gap]
    root = shard(tmp_path / "train" / "0.tar", *beside(labels))
    for opened in (lambda: open_images(root), lambda: open_target(str(root))):
        with pytest.raises(UsageError) as error:
            opened()
        assert said in error.value.actual and then in error.value.next
    names = open_folder(shard(tmp_path / "names" / "0.tar", *beside([b"2b", b"1a"])))
    assert counted(names, tmp_path).classes == ("1a", "2b")
    stderr = run("train", "resnet18_linf_eps4", "--data", tmp_path, "--out", tmp_path / "run", code=2).stderr
    assert said in stderr and not list(tmp_path.glob("run/checkpoint*"))


@pytest.mark.parametrize("other", [[("cat/1.png", None)], list(beside([b"cat"])), list(beside([b"1"], "txt"))])
def test_shards_that_disagree_are_named(tmp_path, other):
    shard(tmp_path / "0.tar", *beside([b"0", b"1"]))
    shard(tmp_path / "1.tar", *other)
    with pytest.raises(UsageError) as error:
        open_folder(tmp_path)
    assert "0.tar" in error.value.actual and "1.tar" in error.value.actual


def test_labels_beyond_the_networks_classes_are_refused_before_anything_is_measured(tmp_path):
    shard(tmp_path / "0.tar", *beside([b"0", b"1000"]))
    with pytest.raises(UsageError, match="labels up to 1000") as error:
        open_dataset("numbered", str(tmp_path), get("resnet18_linf_eps4"))
    assert error.value.expected and error.value.next


@pytest.mark.parametrize(
    ("name", "mode", "then"),
    [
        ("0.tar.gz", "w:gz", "gunzip"), ("0.tgz", "w:gz", "gunzip"), ("0.tar.bz2", "w:bz2", "bunzip2"),
        ("0.tar.xz", "w:xz", "unxz"), ("0.TAR.GZ", "w:gz", "gunzip"), ("0.tar", "w:gz", "mv"),
        ("0.tar", "w:xz", "mv"), ("0.zip", "w", "unzip"), ("0.tar.zst", "w", "zstd -d"),
    ],
)  # fmt: skip
def test_compressed_shards_are_named_with_the_command_that_unpacks_them(tmp_path, name, mode, then):
    root = shard(tmp_path / "my images" / name, *beside([b"0", b"1"]), mode=mode)
    for given in (root, root / name):
        with pytest.raises(UsageError, match="not a dataset") as error:
            open_folder(given)
        assert f"{name} is compressed" in error.value.actual and error.value.next.startswith(then)
    if name.endswith((".gz", ".tgz", "0.tar")):
        subprocess.run(["bash", "-c", error.value.next], check=True)  # it is the next command: afterwards it works
        assert len(open_folder(root)) == 2


def test_a_compressed_shard_among_others_is_not_left_out(tmp_path):
    shard(tmp_path / "train-0.tar", *beside([b"0", b"1"]))
    shard(tmp_path / "train-1.tar.gz", *beside([b"0", b"1"], first=2), mode="w:gz")
    with pytest.raises(UsageError, match="not a dataset") as error:
        open_source(tmp_path, "train")
    assert error.value.actual == "train-1.tar.gz is compressed"
    subprocess.run(["gunzip", "-k", tmp_path / "train-1.tar.gz"], check=True)
    assert len(open_source(tmp_path, "train")) == 4  # the compressed copy may stay


def test_links_in_a_shard_are_not_lost(tmp_path):
    root = shard(tmp_path / "0.tar", ("cat/1.png", None))
    with tarfile.open(tmp_path / "0.tar", "a") as tar:
        info = tarfile.TarInfo("dog/1.png")
        info.type, info.linkname = tarfile.LNKTYPE, "cat/1.png"
        tar.addfile(info)
    with pytest.raises(UsageError) as error:
        open_folder(root)
    assert "dog/1.png is a link" in error.value.actual
