"""Fine-tuning's arithmetic: against a loop written out, its modes' parts, its radius, its distance, its splits."""

import tarfile
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from photos import write_photos
from torch import nn

from robust_zoo import ThreatModel, create_model, get, pixel_model
from robust_zoo.errors import UsageError
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.dataset import Images, epoch_order
from robust_zoo.training.data.torch_items import encoded_items
from robust_zoo.training.distributed import ALONE
from robust_zoo.training.machine import Machine
from robust_zoo.training.objectives import features_and_logits, keeping_features
from robust_zoo.training.signals import Interrupt
from robust_zoo.training.transfer.heads import Head
from robust_zoo.training.transfer.task import Target
from robust_zoo.training.transfer.tuning.images import Split, open_split
from robust_zoo.training.transfer.tuning.in_memory import source_of
from robust_zoo.training.transfer.tuning.modes import MODES, Tuning, usual_epochs
from robust_zoo.training.transfer.tuning.start import source_model, start
from robust_zoo.training.transfer.tuning.tries import Tuner, choose
from robust_zoo.weights.ensure import ensure

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
ROW = get(NAME)
RECIPE = Tuning(
    "resnet18_x0_25", "photos", ThreatModel("l2", 0.0), epochs=5, batch_size=4, lr=0.02, schedule="cosine",
    augment="crop_flip", weight_decay=5e-4, seed=3,
)  # fmt: skip
EXACT = Machine(device="cpu", precision="fp64", progress=False)
HEAD = Head(torch.linspace(-0.1, 0.1, 3 * 128).sin().reshape(3, 128), torch.tensor([0.1, 0.0, -0.1]))


def some(n=16, classes=3):
    data = cifar10_sample()
    rows = torch.cat([(data.labels == label).nonzero().flatten()[:n] for label in range(classes)])
    data = data.subset(rows[torch.arange(len(rows)).reshape(classes, n).T.flatten()])
    return Images(data.images[:n], data.labels[:n])


def tuner(data, machine=EXACT, head=HEAD):
    split = Split("photos", ("a", "b", "c"), data, data.subset(torch.arange(2)), data, "")
    return Tuner(ROW, ensure(ROW), split, head, ALONE, machine, Interrupt())


@pytest.mark.parametrize("mode", ["all", "head"])
def test_twenty_steps_are_those_of_a_plain_loop(mode, tmp_path):
    """In float64, to 1e-9: SGD written out, the cosine, BatchNorm's statistics; the head alone moves alone."""
    data, recipe = some(8), replace(RECIPE, mode=mode, batch_size=2)
    network, _ = tuner(data).train(recipe, tmp_path)

    mine = create_model(NAME).double()
    mine.fc = nn.Linear(128, 3).double()
    mine.fc.load_state_dict({"weight": HEAD.weight, "bias": HEAD.bias})
    trained = dict(mine.named_parameters()) if mode == "all" else dict(mine.fc.named_parameters(prefix="fc"))
    velocity = {name: torch.zeros_like(p) for name, p in trained.items()}
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (ROW.preprocessing.mean, ROW.preprocessing.std)
    )
    mine.train(mode == "all")
    step = 0
    for epoch in range(5):
        order = epoch_order(8, 2, seed=3, epoch=epoch)
        for images, labels in data.train_batches(order, seed=3, epoch=epoch):
            loss = F.cross_entropy(mine((images.double() - mean) / std), labels)
            gradients = torch.autograd.grad(loss, list(trained.values()))
            lr = 0.02 * (1 + torch.cos(torch.tensor(torch.pi * step / 20, dtype=torch.float64))) / 2
            with torch.no_grad():
                for (name, p), gradient in zip(trained.items(), gradients, strict=True):
                    velocity[name] = 0.9 * velocity[name] + gradient + 5e-4 * p
                    p -= lr * velocity[name]
            step += 1
    expected, found = mine.state_dict(), network.state_dict()
    assert step == 20 and expected.keys() == found.keys()
    assert max((found[k].double() - v.double()).abs().max().item() for k, v in expected.items()) < 1e-9
    moved = {
        k
        for k, v in create_model(NAME).state_dict().items()
        if v.shape != found[k].shape or not torch.equal(v.double(), found[k].double())
    }
    assert moved == ({"fc.weight", "fc.bias"} if mode == "head" else set(expected)), moved ^ set(expected)


def test_what_a_mode_trains_and_what_stays_in_eval_mode():
    weights, parts = ensure(ROW), {}
    for mode in MODES:
        model = start(ROW, weights, replace(RECIPE, mode=mode, k=2), HEAD).train()
        trained = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
        moving = {n.split(".")[1] for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d) and m.training}
        parts[mode] = (trained, moving)
        assert model.model.fc.training and model.model.num_classes == 3
    blocks = {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    assert parts["all"] == parts["adversarial"] == (blocks | {"fc"}, blocks - {"conv1"})
    assert parts["head"] == ({"fc"}, set()) and parts["lwf"] == (blocks | {"fc"}, set())
    assert parts["last-k"] == ({"layer3", "layer4", "fc"}, {"layer3", "layer4"})
    with pytest.raises(UsageError, match="cannot train 'last-9'") as error:
        start(ROW, weights, replace(RECIPE, mode="last-k", k=9), HEAD)
    assert error.value.expected.endswith("last-6") and "last-6" in error.value.next


def test_a_new_head_also_where_the_source_has_as_many_classes():
    head = Head(torch.full((10, 128), 0.5), torch.arange(10.0))
    state = start(ROW, ensure(ROW), RECIPE, head).model.state_dict()
    assert torch.equal(state["fc.weight"], head.weight) and torch.equal(state["fc.bias"], head.bias)
    assert torch.equal(state["conv1.weight"], create_model(NAME).conv1.weight)


def test_a_model_in_memory_is_a_source(tmp_path):
    """The same weights and the same preprocessing as by its name; what is no such model is refused."""
    model = create_model(NAME)
    for given in (model, pixel_model(model), nn.DataParallel(model)):
        source = source_of(given, tmp_path)
        state = start(source, ensure(source), RECIPE, HEAD).model.state_dict()
        expected = start(ROW, ensure(ROW), RECIPE, HEAD).model.state_dict()
        assert all(torch.equal(state[k], v) for k, v in expected.items()) and source.preprocessing == ROW.preprocessing
    assert source_of(NAME, tmp_path) == ROW
    model.conv1 = nn.Conv2d(3, 16, 5)
    for wrong in (nn.Linear(3, 2), model):
        with pytest.raises(UsageError, match="which network is this"):
            source_of(wrong, tmp_path)


def test_the_radius_waits_and_then_rises():
    """0 for a quarter, half of it in the middle, the target from three quarters on; other modes have none."""
    recipe = replace(RECIPE, mode="adversarial", threat=ThreatModel("l2", 0.5), epochs=8)
    assert [recipe.at(e).threat.eps for e in (0, 2, 4, 6, 8)] == [0, 0, 0.25, 0.5, 0.5]
    plain, aim = replace(RECIPE, aim=ThreatModel("l2", 1)), ThreatModel("l2", 1)
    assert RECIPE.at(4) is RECIPE and [plain.watched(e).eps for e in (1, 4, 5)] == [0, 0, 1]
    assert replace(recipe, aim=aim).watched(1) == aim
    assert [usual_epochs(n, 64) for n in (100, 64 * 100, 10**6)] == [50, 15, 5]


def test_the_distance_to_the_source_is_that_of_its_features():
    """0 for the source itself; of moved features the mean absolute difference, times the weight; its gradient too."""
    images, labels = next(some(4).batches(4))
    source = source_model(ROW, ensure(ROW), torch.zeros(()))
    loss = keeping_features(source, 3.2).loss
    plain = F.cross_entropy(source(images), labels)
    assert loss(source, images, images, labels, RECIPE)[0].item() == pytest.approx(plain.item(), abs=1e-6)
    moved = start(ROW, ensure(ROW), replace(RECIPE, mode="lwf"), HEAD).eval()
    with torch.no_grad():
        moved.model.layer4[1].bn2.bias += 0.5
    features, logits = features_and_logits(moved, images)
    assert torch.allclose(logits, moved(images), atol=1e-6)
    distance = sum((a - b).abs().sum() for a, b in zip(features, features_and_logits(source, images)[0], strict=True))
    expected = F.cross_entropy(logits, labels) + 3.2 * distance / features.numel()
    found, said = loss(moved, images, images, labels, RECIPE)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5) and torch.equal(said, logits)
    found.backward()
    assert moved.model.conv1.weight.grad.abs().sum() > 0 and source.model.conv1.weight.grad is None


def test_validation_images_choose_the_rate_and_a_diverged_one_is_out(tmp_path, capsys):
    fast = Machine(device="cpu", precision="fp32", progress=False)
    recipe = replace(RECIPE, epochs=2, batch_size=16)
    chosen = choose(tuner(some(), fast), recipe, (1e30, 0.05), tmp_path)
    first, second = chosen.tried
    assert chosen.recipe.lr == 0.05 and first["clean"] is None and second["clean"] is not None
    assert "lr 1e+30" in capsys.readouterr().err


def test_the_split_is_the_folders_own_or_said(tmp_path):
    """The kinds that transfer takes give the same images here; what has no validation images lends a fifth."""
    photos = write_photos(tmp_path / "photos", 10, classes=3)
    split = open_split(photos)
    sizes = [len(part) for part in split.parts.values()]
    assert sum(sizes) == 30 and f"{sizes[1]} of the training images, a fifth of each class" in split.note
    names = [{data.source.names[i] for i in data.rows} for data in split.parts.values()]
    assert len(set.union(*names)) == 30
    for part, rows in (("train", 8), ("val", 4), ("test", 6)):
        write_photos(tmp_path / "splits" / part, rows, classes=3)
    ours = open_split(tmp_path / "splits")
    assert [len(p) for p in ours.parts.values()] == [24, 12, 18] and "val is for choosing" in ours.note
    given = open_split(photos, write_photos(tmp_path / "more", 5, classes=2))
    assert len(given.val) == 10 and given.classes == split.classes
    with pytest.raises(UsageError, match="of other classes"):
        open_split(write_photos(tmp_path / "two", 4, classes=2), tmp_path / "splits")
    seen = ours.seen_by(ROW.preprocessing)
    assert isinstance(seen.train, Images) and torch.equal(seen.train.labels, ours.train.labels)
    assert len(seen.test) == 18 and seen.note == ours.note


def test_tar_shards_are_the_same_images(tmp_path):
    """Of a folder with splits and of its shards: the same classes, labels and pixels in each set."""
    for part, rows in (("train", 5), ("val", 2), ("test", 2)):
        write_photos(tmp_path / "splits" / part, rows, classes=2)
        (tmp_path / "shards").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "shards" / f"{part}-0.tar", "w") as tar:
            for file in sorted((tmp_path / "splits" / part).rglob("*.png")):
                tar.add(file, file.relative_to(tmp_path / "splits" / part))
    folder, shards = (open_split(tmp_path / kind).seen_by(ROW.preprocessing) for kind in ("splits", "shards"))
    assert folder.classes == shards.classes == ("airplane", "automobile")
    for one, other in zip(folder.parts.values(), shards.parts.values(), strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels) and len(one)


class Pairs:
    """A Dataset of torch's kind."""

    def __init__(self, items, **more):
        self.items = items
        vars(self).update(more)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_a_dataset_of_torchs():
    from torchvision.transforms.v2 import functional as T

    data = some(15)
    pixels = [(image, int(label)) for image, label in zip(data.images, data.labels, strict=True)]
    kinds = [
        Pairs([(T.to_pil_image(image), label) for image, label in pixels], classes=["x", "y", "z"]),
        Pairs(pixels, targets=[label for _, label in pixels]),
        Pairs([(image.float() / 255, torch.tensor(label)) for image, label in pixels]),
    ]
    splits = [open_split(kind).seen_by(ROW.preprocessing) for kind in kinds]
    assert splits[0].classes == ("x", "y", "z") and splits[1].classes == ("0", "1", "2")
    assert len({split.train.sha256 for split in splits}) == 1 and len(splits[0].test) == 3
    assert torch.equal(encoded_items(kinds[2]).labels, data.labels)
    wrong = [
        Pairs([]), Pairs([(pixels[0][0] / 255 - 0.5, 0)]), Pairs([(pixels[0][0].long(), 0)]), Pairs([3]),
        Pairs([(pixels[0][0], "cat")]), Pairs([(pixels[0][0], -1)]), Pairs(pixels, targets=[0]),
    ]  # fmt: skip
    for data in wrong:
        with pytest.raises(UsageError, match="are not images and labels") as error:
            open_split(data)
        assert error.value.actual and "uint8" in error.value.next
    target = Target("t", ("a", "b", "c"), some(), None, some())
    assert open_split(target).test is target.test and len(open_split(some()).train) == 10
