"""Datasets on disk: the same images from folders, shards and Hugging Face; augmentation by (seed, epoch, index)."""

import io
import json
import math
import tarfile

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.training import files
from robust_zoo.training.data import epoch_order, spread
from robust_zoo.training.files import ImageFiles, crop_window, lighting
from robust_zoo.training.sources import open_source

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
    """The same images as WebDataset shards (labelled by .cls or .json), as tars of folders, and as a HF dataset."""
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
                            add(tar, f"{key}.cls", b"%d" % label)
                        else:
                            add(tar, f"{key}.json", json.dumps({"label": label}).encode())
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    splits = {
        wanted: datasets.Dataset.from_dict(
            {
                "image": [{"bytes": c, "path": None} for _, _, c in members(tree, split)],
                "label": [CLASSES.index(f) for f, _, _ in members(tree, split)],
            },
            features=features,
        )
        for split, wanted in (("train", "train"), ("val", "validation"))
    }
    datasets.DatasetDict(splits).save_to_disk(str(root / "hf"))
    return root


def data_of(root, split="train", **how):
    return ImageFiles(open_source(root, split), **{"size": 24, "resize": 32, **how})


def epoch(data, workers=0, seed=1, epoch=2, size=4):
    data = ImageFiles(data.source, data.size, data.resize, data.augment, workers, data.indices)
    order = epoch_order(len(data), size, seed=seed, epoch=epoch)
    return list(data.train_batches(order, seed=seed, epoch=epoch, device=CPU))


@pytest.mark.parametrize("kind", ["wds", "folders", "hf"])
def test_every_layout_gives_the_same_images(tree, shards, kind):
    where = f"hfds/{shards / 'hf'}" if kind == "hf" else shards / kind
    for split in ("train", "val"):
        expected, found = data_of(tree, split), data_of(where, split)
        assert len(found) == 12 and torch.equal(found.labels, expected.labels)
        for (a, x), (b, y) in zip(expected.batches(5), found.batches(5), strict=True):
            assert torch.equal(a, b) and torch.equal(x, y)
    for (a, x), (b, y) in zip(epoch(data_of(tree)), epoch(data_of(where)), strict=True):
        assert torch.equal(a, b) and torch.equal(x, y)


def test_labels_are_the_sorted_folders(tree):
    source = open_source(tree, "train")
    assert source.classes == CLASSES and source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert source.names[5] == "n01443537/n01443537_1.JPEG"


def test_workers_batches_and_the_global_generator_change_nothing(tree):
    data = data_of(tree)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    plain = epoch(data)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    for (a, _), (b, _) in zip(plain, epoch(data, workers=2), strict=True):
        assert torch.equal(a, b)
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
    luck, image = np.random.default_rng(0), torch.zeros(3, *shape, dtype=torch.uint8)
    torch.manual_seed(0)
    theirs = [transforms.RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(3000)]
    ours = [crop_window(*shape, luck) for _ in range(3000)]
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


def test_lighting_is_along_the_components_of_colour():
    """Covariance E diag((0.05 l)^2) E^T over many draws (Krizhevsky et al. 2012, section 4.1)."""
    luck = np.random.default_rng(0)
    draws = torch.stack([lighting(luck) for _ in range(20_000)])
    spread_ = torch.diag((0.05 * files._EIGENVALUES) ** 2)
    expected = files._EIGENVECTORS @ spread_ @ files._EIGENVECTORS.T
    assert draws.mean(0).abs().max() < 3e-4
    assert torch.allclose(draws.T.cov(), expected, atol=0.03 * expected.abs().max().item())


def test_subsets_keep_their_images_and_change_the_fingerprint(tree):
    data = data_of(tree)
    some = spread(data, 4).subset(torch.tensor([3, 1]))
    assert some.labels.tolist() == [2, 0] and len(some) == 2
    (whole, _), (few, _) = next(data.batches(12)), next(some.batches(12))
    assert torch.equal(few, whole[[9, 3]])
    assert len({data.sha256, some.sha256, data_of(tree, "val").subset(torch.arange(11)).sha256}) == 3
    ((batch, labels),) = some.train_batches([torch.tensor([0])], seed=1, epoch=1, device=CPU)
    assert batch.shape == (1, 3, 24, 24) and labels.tolist() == [2]


def test_the_fingerprint_is_of_names_sizes_and_labels(tmp_path):
    def fingerprint(*names):
        root = tmp_path / "_".join(n.replace("/", "-") for n in names)
        for i, name in enumerate(names):
            (root / "train" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "train" / name).write_bytes(encoded(picture(i)))
        return open_source(root, "train").sha256

    base = fingerprint("a/1.png", "b/2.png")
    assert len({base, fingerprint("a/1.png", "b/3.png"), fingerprint("a/1.png", "a/2.png"),
                fingerprint("a/1.png", "b/2.png", "b/3.png")}) == 4  # fmt: skip


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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(tmp_path, workers):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "cut.JPEG").write_bytes(encoded(picture(1))[:300])
    with pytest.raises(VerificationFailed, match="cannot decode a/cut"):
        epoch(data_of(tmp_path), workers=workers, size=1)


def empty_class(root):
    (root / "train" / "b").mkdir()


def cut_tar(root):
    with tarfile.open(root / "train.tar", "w") as tar:
        add(tar, "a/1.jpg", encoded(picture(1)))
    (root / "train.tar").write_bytes((root / "train.tar").read_bytes()[:700])


def unlabelled(root):
    with tarfile.open(root / "train-0.tar", "w") as tar:
        add(tar, "1.jpg", encoded(picture(1)))
        add(tar, "1.cls", b"0")
        add(tar, "2.jpg", encoded(picture(2)))


def not_a_number(root):
    with tarfile.open(root / "train-0.tar", "w") as tar:
        add(tar, "1.jpg", encoded(picture(1)))
        add(tar, "1.cls", b"cat")


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
        (cut_tar, "a sound .tar file"),
        (unlabelled, "2.jpg has no .cls or .json"),
        (not_a_number, "invalid literal"),
        (mixed, "one way of labelling"),
    ],
)
def test_faults_are_named(tmp_path, fault, said):
    fault(tmp_path)
    with pytest.raises(UsageError) as error:
        open_source(tmp_path, "train")
    assert said in str(error.value)


def test_an_hf_dataset_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="cannot read validation of the dataset"):
        (tmp_path / "none").mkdir()
        open_source(f"hfds/{tmp_path / 'none'}", "val")
