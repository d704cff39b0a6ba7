"""Datasets on disk: the same images from folders, shards and Hugging Face; augmentation by (seed, epoch, index)."""

import hashlib
import io
import json
import math
import pickle
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.training.data.dataset import epoch_order, spread
from robust_zoo.training.data.folders import check_classes, open_source
from robust_zoo.training.data.image_files import ImageFiles, crop_window
from robust_zoo.views import View

CLASSES = ("n01440764", "n01443537", "n02123045")
CPU = torch.device("cpu")


def picture(seed, size=(60, 48), mode="RGB"):
    """Smooth noise, so that JPEG and resizing keep it recognisable."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image, kind="JPEG"):
    out = io.BytesIO()
    image.save(out, kind, quality=95)
    return out.getvalue()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """12 images in the layout of ImageNet, with what lies about in real ones: hidden files and notes."""
    root = tmp_path_factory.mktemp("imagenet")
    for split in ("train", "val"):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                (folder / f"{name}_{i}.JPEG").write_bytes(encoded(picture(100 * label + i)))
            (folder / "._hidden.JPEG").write_bytes(b"of a Macintosh")
            (folder / "notes.txt").write_text("none")
    return root


def members(tree, split):
    return [(p.parent.name, p.name, p.read_bytes()) for p in sorted((tree / split).rglob("n*_*.JPEG"))]


def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def shards(tree, tmp_path_factory):
    """The same images as WebDataset shards (labelled by .cls or .json), and as tars of folders."""
    root = tmp_path_factory.mktemp("shards")
    for kind in ("wds", "folders"):
        (root / kind).mkdir()
        for split in ("train", "val"):
            images = members(tree, split)
            for number, part in enumerate((images[:5], images[5:])):
                with tarfile.open(root / kind / f"{split}-{number:04d}.tar", "w") as tar:
                    for folder, name, content in part:
                        if kind == "folders":
                            add(tar, f"{folder}/{name}", content)
                            continue
                        key, label = name.removesuffix(".JPEG"), CLASSES.index(folder)
                        add(tar, f"{key}.jpg", content)
                        if number:
                            add(tar, f"{key}.json", b'{"caption": "a fish"}')
                            add(tar, f"{key}.cls", b"%d" % label)
                        else:
                            add(tar, f"{key}.json", json.dumps({"label": label}).encode())
    return root


@pytest.fixture(scope="module")
def hugging_face(tree, tmp_path_factory):
    """The same images as a Hugging Face dataset, names included."""
    datasets = pytest.importorskip("datasets")
    root = tmp_path_factory.mktemp("hf")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    splits = {
        wanted: datasets.Dataset.from_dict(
            {
                "image": [{"bytes": c, "path": n} for _, n, c in members(tree, split)],
                "label": [CLASSES.index(f) for f, _, _ in members(tree, split)],
            },
            features=features,
        )
        for split, wanted in (("train", "train"), ("val", "validation"))
    }
    datasets.DatasetDict(splits).save_to_disk(str(root / "saved"))
    for wanted, rows in splits.items():
        rows.to_parquet(str(root / "parquet" / f"{wanted}.parquet"))
    return root


def data_of(root, split="train", **how):
    return ImageFiles(open_source(root, split), **{"view": View(24, 32), **how})


def epoch(data, workers=0, seed=1, epoch=2, size=4):
    data = ImageFiles(data.source, data.view, data.augment, workers, data.indices)
    order = epoch_order(len(data), size, seed=seed, epoch=epoch)
    return list(data.train_batches(order, seed=seed, epoch=epoch, device=CPU))


@pytest.mark.parametrize("kind", ["wds", "folders", "hf"])
def test_every_layout_gives_the_same_images(tree, kind, request):
    if kind == "hf":
        where = f"hfds/{request.getfixturevalue('hugging_face') / 'saved'}"
    else:
        where = request.getfixturevalue("shards") / kind
    for split in ("train", "val"):
        expected, found = data_of(tree, split), data_of(where, split)
        assert len(found) == 12 and torch.equal(found.labels, expected.labels)
        for (a, x), (b, y) in zip(expected.batches(5), found.batches(5), strict=True):
            assert torch.equal(a, b) and torch.equal(x, y)
    for (a, x), (b, y) in zip(epoch(data_of(tree)), epoch(data_of(where)), strict=True):
        assert torch.equal(a, b) and torch.equal(x, y)
    sent = pickle.loads(pickle.dumps(found.source))  # as to a loader process that is not forked
    assert sent.read(7) == members(tree, "val")[7][2]
    assert [name.rpartition("/")[2].partition(".")[0] for name in sent.names] == [
        name.partition(".")[0] for _, name, _ in members(tree, "val")
    ]
    assert list(sent.sizes) == [len(content) for _, _, content in members(tree, "val")]


def test_a_folder_that_datasets_loads_is_read(tree, hugging_face, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    source = open_source(f"hfds/{hugging_face / 'parquet'}", "val")
    assert [source.read(i) for i in range(12)] == [content for _, _, content in members(tree, "val")]


def test_reading_writes_nothing(tree, shards, tmp_path, monkeypatch):
    def everything():
        return {p: p.stat().st_mtime_ns for root in (tree, shards, tmp_path) for p in (root, *root.rglob("*"))}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = everything()
    for root in (tree, shards / "wds", shards / "folders"):
        epoch(data_of(root), workers=2)
        list(data_of(root, "val").batches(5))
    assert everything() == before


def test_timms_shards_are_found_by_their_names(shards, tmp_path):
    for path in (shards / "wds").glob("*.tar"):
        name = path.name.replace("val", "validation")
        (tmp_path / f"imagenet1k-{name}").symlink_to(path)
    for split in ("train", "val"):
        assert torch.equal(open_source(tmp_path, split).labels, open_source(shards / "wds", split).labels)


def test_labels_are_the_sorted_folders(tree):
    source = open_source(tree, "train")
    assert source.classes == CLASSES and source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert source.names[5] == "n01443537/n01443537_1.JPEG"


def test_workers_batches_and_the_global_generator_change_nothing(tree):
    data = data_of(tree)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    plain = epoch(data)
    list(data.batches(5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    for (a, x), (b, y) in zip(plain, epoch(data, workers=2), strict=True):
        assert torch.equal(a, b) and torch.equal(x, y)
    assert torch.equal(torch.get_rng_state(), before)
    singles = torch.cat([images for images, _ in epoch(data, size=1)])
    assert torch.equal(torch.cat([images for images, _ in plain]), singles)
    for other in (epoch(data, seed=2), epoch(data, epoch=3)):
        assert not torch.equal(plain[0][0], other[0][0])


def test_at_test_time_it_is_torchvisions_own_pipeline(tree):
    """v1 on PIL images, as upstream: the decoders agree, antialiased resizing nearly."""
    pipeline = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(24), transforms.ToTensor()])
    ((images, _),) = data_of(tree, "val").batches(12)
    for image, (_, _, content) in zip(images, members(tree, "val"), strict=True):
        expected = pipeline(Image.open(io.BytesIO(content)).convert("RGB"))
        assert (image - expected).abs().max() <= 2 / 255


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """One image whose red is its column and whose green is its row: a crop says where it is from."""
    root = tmp_path_factory.mktemp("ramp") / "train" / "a"
    root.mkdir(parents=True)
    rows, columns = np.mgrid[0:200, 0:200].astype(np.uint8)
    Image.fromarray(np.stack([columns, rows, rows * 0 + 128], 2)).save(root / "ramp.png")
    return data_of(root.parents[1], augment="crop_flip")


def test_crops_are_windows_of_a_fair_share_and_half_are_flipped(ramp):
    shares, flips = [], 0
    for number in range(300):
        ((batch, _),) = ramp.train_batches([torch.zeros(1).long()], seed=0, epoch=number, device=CPU)
        red, green = (batch[0, :2] * 255).numpy()
        flips += red[0, 0] > red[0, -1]
        width, height = abs(red[0, -1] - red[0, 0]) * 24 / 23, (green[-1, 0] - green[0, 0]) * 24 / 23
        assert np.abs(np.diff(red, axis=0)).max() <= 1 and np.abs(np.diff(green, axis=1)).max() <= 1  # no shear
        assert 0.7 < width / height < 1.4  # torchvision's 3/4 to 4/3
        shares.append(width * height / 200**2)
    assert 0.07 < min(shares) < 0.15 and max(shares) > 0.85 and abs(np.mean(shares) - 0.5) < 0.08
    assert 120 < flips < 180


@pytest.mark.parametrize("shape", [(375, 500), (40, 400), (400, 40)])
def test_windows_are_distributed_as_torchvisions(shape):
    """Mean place and size over 3,000 draws; the narrow shapes mostly take the central window."""
    rng, image = np.random.default_rng(0), torch.zeros(3, *shape, dtype=torch.uint8)
    torch.manual_seed(0)
    theirs = [transforms.RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(3000)]
    ours = [crop_window(*shape, rng) for _ in range(3000)]
    for a, b in zip(np.array(ours).T, np.array(theirs).T, strict=True):
        error = 4 * math.hypot(a.std(), b.std()) / 3000**0.5
        assert abs(a.mean() - b.mean()) <= error + 1e-9 and abs(a.std() - b.std()) <= error + 1e-9


def test_jitter_and_lighting_come_with_robustness_augmentation(tree):
    plain = torch.cat([x for x, _ in epoch(data_of(tree, augment="crop_flip"))])
    rich = torch.cat([x for x, _ in epoch(data_of(tree))])
    assert not torch.equal(plain, rich)
    # the same windows: contrast and brightness of 0.9 to 1.1, and a small shift, apart
    assert (plain - rich).abs().max() < 0.35 and (plain - rich).flatten(1).mean(1).abs().max() < 0.15
    assert rich.min() >= 0 and rich.max() <= 1


def test_subsets_keep_their_images_and_change_the_fingerprint(tree):
    data = data_of(tree)
    some = spread(data, 4).subset(torch.tensor([3, 1]))
    assert some.labels.tolist() == [2, 0] and len(some) == 2
    (whole, _), (few, _) = next(data.batches(12)), next(some.batches(12))
    assert torch.equal(few, whole[[9, 3]])
    assert len({data.sha256, some.sha256, data_of(tree, "val").subset(torch.arange(11)).sha256}) == 3
    ((batch, labels),) = some.train_batches([torch.tensor([0])], seed=1, epoch=1, device=CPU)
    assert batch.shape == (1, 3, 24, 24) and labels.tolist() == [2]


def test_the_fingerprint_is_of_bytes_and_labels_in_order(tmp_path):
    """Against the definition; names do not count, an image of the same size does, and files are read once."""
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "b").mkdir()
    contents = {"a/1.png": b"one", "a/2.png": b"two", "b/3.png": b"six"}
    for name, content in contents.items():
        (tmp_path / "train" / name).write_bytes(content)

    def expected(*pairs):
        parts = (hashlib.sha256(content).digest() + label.to_bytes(8, "little") for content, label in pairs)
        return hashlib.sha256(b"".join(parts)).hexdigest()

    data = data_of(tmp_path)
    assert data.sha256 == expected((b"one", 0), (b"two", 0), (b"six", 1))
    (tmp_path / "train" / "a" / "1.png").rename(tmp_path / "train" / "a" / "0.png")
    assert data_of(tmp_path).sha256 == data.sha256
    (tmp_path / "train" / "a" / "0.png").write_bytes(b"ONE")  # as many bytes
    assert data_of(tmp_path).sha256 == expected((b"ONE", 0), (b"two", 0), (b"six", 1))
    assert data.subset(torch.tensor([2, 1])).sha256 == expected((b"six", 1), (b"two", 0))  # hashed already
    assert len(pickle.loads(pickle.dumps(data.source)).digests) == 0 and len(data.source.digests) == 3
    late = data_of(tmp_path)
    (tmp_path / "train" / "b" / "3.png").unlink()
    with pytest.raises(UsageError, match=r"cannot read b/3\.png"):
        late.subset(torch.tensor([0, 2])).sha256  # noqa: B018


@pytest.mark.parametrize(
    ("image", "kind"),
    [(picture(1, mode="L"), "JPEG"), (picture(1, mode="CMYK"), "JPEG"), (picture(1), "PNG"), (picture(1), "WEBP")],
    ids=["grey", "CMYK", "PNG", "WebP"],
)
def test_all_that_is_called_jpeg_is_decoded(tmp_path, image, kind):
    """ImageNet has grey and CMYK images, and a PNG named .JPEG."""
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "x.JPEG").write_bytes(encoded(image, kind))
    pixels = data_of(tmp_path).decode(0)
    expected = np.asarray(Image.open(io.BytesIO(encoded(image, kind))).convert("RGB")).astype(int)
    assert pixels.shape == (3, 48, 60)
    assert np.abs(pixels.permute(1, 2, 0).numpy().astype(int) - expected).mean() < 3


def test_sixteen_bits_become_eight_and_an_animation_its_first_frame(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    deep = np.linspace(0, 65535, 48 * 60).reshape(48, 60).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "train" / "a" / "1.png")
    picture(1).save(tmp_path / "train" / "a" / "2.jpg", "GIF", save_all=True, append_images=[picture(2)])
    grey, first = (data_of(tmp_path).decode(i) for i in range(2))
    assert grey.dtype == torch.uint8 and np.abs(grey.numpy().astype(int) - deep // 256).max() <= 1
    assert np.abs(first.permute(1, 2, 0).numpy().astype(int) - np.asarray(picture(1)).astype(int)).mean() < 12


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", [0, 300, 1000], ids="{} bytes".format)
def test_a_damaged_image_is_named(tmp_path, workers, kept):
    """With all five fields and no traceback in them, from a loader process as well."""
    (tmp_path / "train" / "a").mkdir(parents=True)
    content = encoded(picture(1))
    assert len(content) > 1000
    (tmp_path / "train" / "a" / "cut.JPEG").write_bytes(content[:kept])
    (tmp_path / "train" / "a" / "whole.JPEG").write_bytes(content)
    with pytest.raises(VerificationFailed, match="cannot decode a/cut") as error:
        epoch(data_of(tmp_path), workers=workers, size=2)
    assert error.value.source == "a/cut.JPEG" and error.value.actual and "Traceback" not in str(error.value)


def test_hidden_and_other_files_are_passed_over(tmp_path):
    for name in ("a/1.jpg", "a/deeper/2.png", "a/.thumbnails/1.jpg", "a/notes.txt", ".trash/3.jpg"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(encoded(picture(1)))
    (tmp_path / "train" / "a" / "folder.jpg").mkdir()
    assert list(open_source(tmp_path, "train").names) == ["a/1.jpg", "a/deeper/2.png"]
    with tarfile.open(tmp_path / "val.tar", "w") as tar:
        for name in ("./a/1.jpg", "a/._1.jpg", "a/.thumbnails/1.jpg", "a/notes.txt"):
            add(tar, name, b"x")
    source = open_source(tmp_path, "val")
    assert list(source.names) == ["./a/1.jpg"] and source.classes == ("a",)


def test_splits_of_different_classes_are_refused(tree, tmp_path):
    (tmp_path / "val" / CLASSES[1]).mkdir(parents=True)
    (tmp_path / "val" / CLASSES[1] / "x.jpg").write_bytes(encoded(picture(1)))
    train, val = open_source(tree, "train"), open_source(tmp_path, "val")
    assert val.labels.tolist() == [0]  # which is another class of train's: hence the check
    check_classes(train, open_source(tree, "val"))
    with pytest.raises(UsageError, match="different classes") as error:
        check_classes(train, val)
    assert CLASSES[0] in error.value.actual and CLASSES[1] not in error.value.actual


def empty_class(root):
    (root / "train" / "b").mkdir()


def broken_link(root):
    (root / "train" / "a").mkdir(parents=True)
    (root / "train" / "a" / "1.jpg").symlink_to("nowhere")


def small_tar(root, mode="w", **contents):
    with tarfile.open(root / "train.tar", mode) as tar:
        add(tar, "1.jpg", encoded(picture(1)))
        for kind, content in contents.items():
            add(tar, f"1.{kind}", content)


def damaged_header(root):
    """tarfile would stop at the second image, without a word."""
    with tarfile.open(root / "train.tar", "w") as tar:
        for i in range(4):
            add(tar, f"a/{i}.jpg", bytes(512))
    content = bytearray((root / "train.tar").read_bytes())
    content[1024:1100] = b"x" * 76
    (root / "train.tar").write_bytes(content)


def cut_tar(root):
    with tarfile.open(root / "train.tar", "w") as tar:
        add(tar, "a/1.jpg", encoded(picture(1)))
    (root / "train.tar").write_bytes((root / "train.tar").read_bytes()[:700])


def unlabelled(root):
    with tarfile.open(root / "train-0.tar", "w") as tar:
        add(tar, "1.jpg", encoded(picture(1)))
        add(tar, "1.cls", b"0")
        add(tar, "2.jpg", encoded(picture(2)))


def mixed(root):
    unlabelled(root)
    with tarfile.open(root / "train-0.tar", "w") as tar:
        add(tar, "1.jpg", encoded(picture(1)))
        add(tar, "1.cls", b"0")
    with tarfile.open(root / "train-1.tar", "w") as tar:
        add(tar, "a/1.jpg", encoded(picture(1)))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda root: None, "no train images"),
        (lambda root: (root / "train").mkdir(), "class folders"),
        (lambda root: ((root / "train").mkdir(), empty_class(root)), "images in every class folder"),
        (broken_link, "No such file"),
        (cut_tar, "a sound .tar file"),
        (damaged_header, "no end mark at byte 1,024"),
        (lambda root: small_tar(root, "w:gz"), "train.tar is compressed"),
        (small_tar, "1.jpg, without a class"),
        (lambda root: small_tar(root, json=b'{"caption": "x"}'), "1.jpg, without a class"),
        (lambda root: small_tar(root, json=b"[3]"), "JSON of type list"),
        (lambda root: small_tar(root, json=b'{"label": [3]}'), "the label [3] is neither"),
        (lambda root: small_tar(root, cls=b"-1"), "a label of -1"),
        (unlabelled, "2.jpg has no .cls or .json"),
        (mixed, "one way of labelling"),
    ],
)
def test_faults_are_named(tmp_path, fault, said):
    fault(tmp_path)
    with pytest.raises(UsageError) as error:
        open_source(tmp_path, "train")
    assert said in str(error.value)
    assert all(getattr(error.value, field) for field in ("source", "expected", "actual", "next"))


def test_an_hf_dataset_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(UsageError, match="cannot read validation of the dataset"):
        (tmp_path / "none").mkdir()
        open_source(f"hfds/{tmp_path / 'none'}", "val")


def test_an_unlabelled_hf_split_is_refused(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"image": [{"bytes": b"x", "path": None}], "label": [-1]})
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "hf"))
    with pytest.raises(UsageError, match="label 0 is -1"):
        open_source(f"hfds/{tmp_path / 'hf'}", "train")


def test_without_the_datasets_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match="pip install 'robust-zoo\\[hf\\]'"):
        open_source(f"hfds/{tmp_path}", "train")
