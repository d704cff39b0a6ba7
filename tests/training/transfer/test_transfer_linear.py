"""Linear heads on cached features: solvers against scikit-learn and a plain loop, and a cache that is never stale."""

import hashlib
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from robust_zoo import create_model, pixel_model
from robust_zoo.architectures.batch_norm import adapt
from robust_zoo.errors import StorageError, UsageError, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.dataset import Images, epoch_order
from robust_zoo.training.data.folders import open_folder
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.transfer.feature_files import kept, store
from robust_zoo.training.transfer.features import Backbone, batches_for, features
from robust_zoo.training.transfer.heads import Head, Scale, sgd_grid
from robust_zoo.training.transfer.logistic import logistic_path, objective
from robust_zoo.training.transfer.protocols.linear import PENALTIES, Linear, linear, robust_accuracy, with_head
from robust_zoo.training.transfer.splits import hold_out, stratified_split
from robust_zoo.training.transfer.task import Target, score
from robust_zoo.views import View

ROW = get("resnet18_x0_25_cifar10_l2_eps0_5")


def blobs(n=300, d=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, d, generator=generator)
    return centres[labels] + 1.5 * torch.randn(n, d, generator=generator), labels


@pytest.fixture(scope="module")
def cifar():
    data = cifar10_sample(20)
    kept, rest = stratified_split(data.labels, 12, 0)
    return Target("cifar10 sample", tuple("abcdefghij"), data.subset(kept), None, data.subset(rest))


@pytest.mark.parametrize("kind", ["many images", "fewer images than features", "features of one kind"])
def test_the_path_ends_where_scikit_learn_does(kind):
    from sklearn.linear_model import LogisticRegression  # a second, of every process that looks for tests

    x, y = blobs()
    if kind == "fewer images than features":
        x, y = torch.cat((x, x.sin(), x.cos()), 1)[:30], y[:30]
    elif kind == "features of one kind":
        x = torch.cat((x, x[:, :3], torch.zeros(len(x), 1)), 1)
    penalties = [1.0, 1e-2, 1e-4]
    for penalty, head in zip(penalties, logistic_path(x, y, 4, penalties), strict=True):
        peer = LogisticRegression(C=1 / (len(x) * penalty), max_iter=10_000, tol=1e-8).fit(x.double().numpy(), y)
        theirs = replace(head, weight=torch.tensor(peer.coef_).float(), bias=torch.tensor(peer.intercept_).float())
        ours, best = (float(objective(h, x, y, penalty)) for h in (head, theirs))
        assert abs(ours - best) <= 2e-6
        assert (head(x).argmax(1) == theirs(x).argmax(1)).float().mean() > 0.99


def test_the_weakest_penalties_are_minima_too():
    """A loss whose curvature is at least the penalty is at most |gradient|^2 / (2 penalty) above its minimum."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = torch.from_numpy(digits.data), torch.from_numpy(digits.target)
    x = Scale.of(x)(x)
    for penalty, head in zip(PENALTIES, logistic_path(x, y, 10, PENALTIES), strict=True):
        free = Head(head.weight.requires_grad_(), head.bias.requires_grad_())
        objective(free, x, y, penalty).backward()
        assert free.weight.grad.square().sum() / (2 * penalty) < 1e-5
        assert free.bias.grad.abs().max() < 1e-4


def test_a_path_without_numbers_ends():
    x, y = blobs()
    (head,) = logistic_path(x * torch.nan, y, 4, [0.01])
    assert head.weight.isnan().all()


def test_the_grid_is_many_plain_trainings():
    """Each head of the product against torch's own SGD, alone, in the same order."""
    x, y = blobs()
    views = torch.stack((x, x + 0.1)).double()
    grid = [(0.1, 0.0), (0.01, 5e-4), (0.1, 1e-1)]
    heads = sgd_grid(views, y, 4, grid, epochs=5, batch_size=32, step=2, seed=3)
    for (rate, decay), head in zip(grid, heads, strict=True):
        layer = torch.nn.Linear(12, 4).double()
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
        solver = torch.optim.SGD(layer.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.StepLR(solver, 2)
        for epoch in range(5):
            for index in epoch_order(len(x), 32, seed=3, epoch=epoch):
                solver.zero_grad()
                F.cross_entropy(layer(views[epoch % 2, index]), y[index]).backward()
                solver.step()
            schedule.step()
        torch.testing.assert_close(head.weight, layer.weight.detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(head.bias, layer.bias.detach(), rtol=0, atol=1e-12)


def test_the_scale_folds_into_the_head():
    x, y = blobs()
    x = torch.cat((x * 40 + 3, torch.full((len(x), 1), 7.0)), 1)  # and a unit that says nothing
    scale = Scale.of(x)
    (head,) = logistic_path(scale(x), y, 4, [0.01])
    torch.testing.assert_close(scale.folded_into(head)(x), head(scale(x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_class", [3, 0.25])
def test_a_draw_is_stratified_and_whole(per_class):
    labels = torch.tensor([0] * 8 + [1] * 12 + [2] * 2)
    kept, rest = stratified_split(labels, per_class, 1)
    assert torch.equal(torch.cat((kept, rest)).sort().values, torch.arange(len(labels)))
    assert torch.bincount(labels[kept]).tolist() == ([3, 3, 1] if per_class == 3 else [2, 3, 1])
    assert not torch.equal(kept, stratified_split(labels, per_class, 2)[0]) and torch.equal(
        kept, stratified_split(labels, per_class, 1)[0]
    )


def test_no_class_loses_its_only_image():
    labels = torch.tensor([0] * 10 + [1] + [2] * 3)
    held, kept = hold_out(labels, 0.2, 0)
    assert labels[held].tolist() == [0, 0, 2] and labels[kept].tolist() == [0] * 8 + [1] + [2] * 2
    both = torch.tensor([0, 0, 1, 1] * 5)
    assert all(torch.equal(a, b) for a, b in zip(hold_out(both, 0.3, 4), stratified_split(both, 0.3, 4), strict=True))
    for few in (torch.arange(3), torch.arange(0)):
        with pytest.raises(UsageError, match="too few images to hold some out"):
            hold_out(few, 0.2, 0)


def test_features_are_those_of_the_plain_model(tmp_path):
    data = cifar10_sample(3)
    found = features(Backbone(ROW), data, tmp_path, batch_size=7)
    model = pixel_model(create_model(ROW.name, num_classes=0)).eval()
    with torch.no_grad():
        expected = model(data.images.float() / 255)
    torch.testing.assert_close(torch.from_numpy(np.array(found)), expected, rtol=1e-4, atol=1e-4)
    mirrored = features(Backbone(ROW), Images(data.images.flip(-1), data.labels), tmp_path)
    np.testing.assert_allclose(features(Backbone(ROW), data, tmp_path, view=1), mirrored, rtol=1e-4, atol=1e-4)


def test_small_images_reach_the_networks_size():
    digits = Images(torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8), torch.arange(5))
    for name, side in ((ROW.name, 32), ("resnet18_l2_eps3", 224)):
        ((images, labels),) = batches_for(digits, get(name).preprocessing, 10)
        assert images.shape == (5, 3, side, side) and torch.equal(labels, digits.labels)
        assert images.min() >= 0 and images.max() <= 1


def write_image(file, seed):
    """A raw bitmap's worth of noise as PNG, stored: any content has the same size."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, compress_level=0)


def test_a_stale_feature_is_never_served(tmp_path, monkeypatch):
    """An image changed in place, same size and times; other preprocessing, views, seeds and weights; another label."""
    folder, cache = tmp_path / "images", tmp_path / "cache"
    for number in range(4):
        (folder / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        write_image(folder / f"{number % 2}" / f"{number}.png", number)

    def look(backbone=None, **options):
        backbone = backbone or Backbone(ROW)
        files = ImageFiles(open_folder(folder), view=View(32, 32))
        return np.array(features(backbone, files, cache, **options)), len(list(cache.glob("*.npy")))

    first, stored = look()
    assert stored == 1 and look()[1] == 1
    file = folder / "0" / "0.png"
    before = file.stat()
    write_image(file, 99)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    changed, stored = look()
    assert stored == 2 and not np.allclose(first[0], changed[0]) and np.allclose(first[1:], changed[1:])
    otherwise = replace(ROW, preprocessing=replace(ROW.preprocessing, mean=(0.0, 0.0, 0.0)))
    others = [
        {"backbone": Backbone(otherwise)},
        {"backbone": Backbone(ROW, adapt=cifar10_sample(2))},
        {"view": 1},
        {"view": 2},
        {"view": 2, "seed": 1},
    ]
    for count, other in enumerate(others, start=3):
        found, stored = look(**other)
        assert stored == count and ("seed" in other or not np.allclose(found, changed))
    assert not list(cache.glob(".*"))
    standard = get("resnet18_x0_25_cifar10_l2_eps0")  # other bytes under the same name
    disguised = replace(ROW, file=standard.file, sha256=standard.sha256, size=standard.size)
    assert Backbone(disguised).key != Backbone(ROW).key


@pytest.mark.parametrize("harm", ["cut", "one bit", "longer", "empty", "folder of nothing", "hashed, of another shape"])
def test_features_that_were_changed_are_made_again(tmp_path, harm):
    data = cifar10_sample(1)
    sound = np.array(features(Backbone(ROW), data, tmp_path))
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    assert len(content) == 128 + sound.nbytes + 32 and np.array_equal(np.load(file), sound)
    changed = bytearray(content)
    changed[1000] ^= 1
    other = bytes(content[:-36])
    reshaped = other + hashlib.sha256(other).digest()
    harmed = {"cut": content[:-1], "one bit": changed, "longer": content + b"x", "empty": b"",
              "folder of nothing": None, "hashed, of another shape": reshaped}[harm]  # fmt: skip
    file.unlink()
    if harmed is not None:
        file.write_bytes(harmed)
    found = features(Backbone(ROW), data, tmp_path)
    assert np.array_equal(found, sound) and not found.flags.writeable
    assert file.read_bytes() == content and [*tmp_path.iterdir()] == [file]


def test_a_full_disk_ends_features_before_the_work(tmp_path, monkeypatch):
    """Their space is taken when the first batch is there: nothing is mapped that the disk cannot hold."""
    seen = []

    def parts():
        for _ in range(5):
            seen.append(1)
            yield torch.zeros(10, 4)

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(StorageError, match=r"cannot write f\.npy") as error:
        store(parts(), 50, tmp_path / "f.npy", lambda n: None)
    assert len(seen) == 1 and not [*tmp_path.iterdir()] and "100 are free" not in error.value.next
    monkeypatch.undo()
    store(parts(), 50, tmp_path / "f.npy", lambda n: None)
    assert kept(tmp_path / "f.npy", 50).shape == (50, 4) and kept(tmp_path / "f.npy", 49) is None


def test_a_writer_that_dies_leaves_nothing(tmp_path):
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(3):
            write_image(tmp_path / "images" / label / f"{number}.png", number)
    (tmp_path / "images" / "b" / "2.png").write_bytes(b"not an image")
    files, cache = ImageFiles(open_folder(tmp_path / "images")), tmp_path / "cache"
    with pytest.raises(VerificationFailed, match=r"b/2\.png"):
        features(Backbone(ROW), files, cache, batch_size=2)
    assert not list(cache.iterdir())


def test_adapted_statistics_are_the_targets(tmp_path):
    """BatchNorm on the target's images: the first layer's channels have mean 0 and variance 1 over them."""
    data = cifar10_sample(25)
    backbone = Backbone(ROW, adapt=data)
    plain = pixel_model(create_model(ROW.name, num_classes=0))
    adapt(plain, batches_for(data, ROW.preprocessing, 250), backbone.device)
    inputs = ((data.images.float() / 255) - plain.mean) / plain.std
    first = plain.model.bn1
    assert not first.training and first.momentum == 0.1
    raw = plain.model.conv1(inputs)
    torch.testing.assert_close(first.running_mean, raw.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first.running_var, raw.var((0, 2, 3)), rtol=1e-3, atol=1e-4)
    adapted, source = (features(b, data, tmp_path) for b in (backbone, Backbone(ROW)))
    assert not np.allclose(adapted, source)


@pytest.mark.parametrize(
    "settings", [Linear(), Linear(solver="sgd"), Linear(views=2, bn="adapt", train_size=6)], ids=str
)
def test_linear_beats_chance_by_far(cifar, tmp_path, settings, few_penalties):
    """The backbone knows these very classes: a sound probe finds most of them from ten images each."""
    outcome, head = linear(ROW, cifar, settings, cache=tmp_path)
    assert outcome.n == 80 and outcome.accuracy > 50
    assert outcome.chosen in [{k: v for k, v in t.items() if k != "validation_accuracy"} for t in outcome.tried]
    again, _ = linear(ROW, cifar, settings, cache=tmp_path)
    assert again == outcome
    model = pixel_model(with_head(ROW, head))
    with torch.no_grad():
        logits = torch.cat([model(images) for images, _ in batches_for(cifar.test, ROW.preprocessing, 40)])
    if settings.bn == "source":
        assert score(logits.argmax(1), cifar.test.labels)[0] == outcome.correct
        robust = robust_accuracy(model.model, ROW, cifar.test, ThreatModel("l2", 0.5), n=40)
        assert robust["n"] == 40 and 0.2 < robust["correct"] / 40 < outcome.accuracy / 100


def test_the_test_images_choose_nothing(cifar, tmp_path, few_penalties):
    """Other test labels: another accuracy, the same head."""
    outcome, head = linear(ROW, cifar, Linear(), cache=tmp_path)
    lies = Images(cifar.test.images, cifar.test.labels.flip(0))
    blind, same = linear(ROW, replace(cifar, test=lies), Linear(), cache=tmp_path)
    assert torch.equal(head.weight, same.weight) and blind.tried == outcome.tried and blind.accuracy < outcome.accuracy


def test_an_official_validation_split_is_used(cifar, tmp_path, few_penalties):
    fit, check = stratified_split(cifar.train.labels, 8, 0)
    split = replace(cifar, train=cifar.train.subset(fit), val=cifar.train.subset(check))
    outcome, _ = linear(ROW, split, Linear(), cache=tmp_path)
    assert outcome.details["n_train"] == len(cifar.train)  # trained again on both
    accuracies = {t["validation_accuracy"] for t in outcome.tried}
    assert all(round(a * len(check) / 100, 6).is_integer() for a in accuracies)


@pytest.mark.parametrize("wrong", [{"solver": "adam"}, {"bn": "train"}, {"views": 0}], ids=str)
def test_other_settings_are_refused(wrong):
    with pytest.raises(UsageError, match="linear cannot have"):
        Linear(**wrong)


def test_scores_by_hand():
    predictions, labels = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 0, 1, 1, 3])
    correct, n, mean = score(predictions, labels)
    assert (correct, n) == (3, 5) and mean == pytest.approx(100 * (1 + 0.5 + 0) / 3)
