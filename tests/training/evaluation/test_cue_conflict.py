"""Shape against texture: models that go by the one or the other alone; the 16 classes; the images' names."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from robust_zoo.counts import Count
from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.training.data.class_names import class_names, labels_called
from robust_zoo.training.evaluation import datasets, of_series, table_report, tables
from robust_zoo.training.evaluation.cue_conflict import CATEGORIES, Categories, cue_conflict
from robust_zoo.training.evaluation.report import everything
from robust_zoo.training.evaluation.run import EvaluationPlan, evaluate
from robust_zoo.training.evaluation.shared import Origin

ORDER = [*CATEGORIES]
PAIRS = [("airplane", "bicycle"), ("cat", "dog"), ("dog", "cat"), ("truck", "oven"), ("bird", "bird")]
CHECKPOINT = "resnet18_l2_eps0"
# WordNet's ids of the same classes, which the authors list beside the labels (those that are of ImageNet's 1,000).
WNIDS = {
    "airplane": "n02690373", "bear": "n02132136 n02133161 n02134084 n02134418", "bicycle": "n02835271 n03792782",
    "boat": "n02951358 n03344393 n03662601 n04273569 n04612504",
    "bottle": "n02823428 n03937543 n03983396 n04557648 n04560804 n04579145 n04591713",
    "car": "n02814533 n03100240 n04285008", "cat": "n02123045 n02123159 n02123394 n02123597 n02124075 n02125311",
    "chair": "n02791124 n03376595 n04099969 n04429376", "clock": "n02708093 n03196217 n04548280",
    "elephant": "n02504013 n02504458", "keyboard": "n03085013 n04505470", "knife": "n03041632", "oven": "n04111531",
    "truck": "n03345487 n03417042 n03770679 n03796401 n03930630 n03977966 n04461696 n04467665",
}  # fmt: skip


class ByChannel(nn.Module):
    """ImageNet's logits by the shade of one channel: 10 for each category, of which one label is certain."""

    def __init__(self, channel):
        super().__init__()
        self.channel = channel

    def forward(self, images):
        category = (images[:, self.channel].flatten(1).mean(1) * 25.5).round().long()
        labels = torch.tensor([CATEGORIES[name][-1] for name in ORDER])[category]
        return 20.0 * nn.functional.one_hot(labels, 1000)


class Uniform(nn.Module):
    def forward(self, images):
        return torch.zeros(len(images), 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of one colour: red says the shape, green the texture; folders by shape, as the authors have them."""
    root = tmp_path_factory.mktemp("cues")
    for number, (shape, texture) in enumerate(PAIRS, 1):
        (root / shape).mkdir(exist_ok=True)
        colour = (10 * ORDER.index(shape), 10 * ORDER.index(texture), 0)
        Image.new("RGB", (224, 224), colour).save(root / shape / f"{shape}{number}-{texture}{number + 1}.png")
    return root


def measured(monkeypatch, folder, out, model):
    """The table of a model in place of the checkpoint's own, by the whole of `evaluate`."""
    row = datasets.DATASETS["cue-conflict"]
    few = datasets.EvaluationSet(**vars(row) | {"open": lambda data, c: cue_conflict(data, c, count=4)})
    monkeypatch.setitem(datasets.DATASETS, "cue-conflict", few)
    monkeypatch.setattr(of_series, "ensure", lambda checkpoint: SimpleNamespace(sha256="a" * 64))
    monkeypatch.setattr(Origin, "models", lambda self, weights: (model, model))
    (entry,) = evaluate([CHECKPOINT], str(folder), "cue-conflict", out, EvaluationPlan("none"), device="cpu")
    seeded = evaluate([CHECKPOINT], str(folder), "cue-conflict", out, EvaluationPlan("none", seed=5), device="cpu")
    assert tables.read_tables(out) == [entry] == seeded  # nothing is drawn of images that are there already
    return entry


@pytest.mark.parametrize(("channel", "bias", "correct"), [(0, 100, (4, 0)), (1, 0, (0, 4))])
def test_a_model_that_goes_by_one_cue_has_all_or_nothing(monkeypatch, folder, tmp_path, channel, bias, correct):
    entry = measured(monkeypatch, folder, tmp_path, ByChannel(channel))
    assert (entry["n"], entry["shape_bias"], tuple(entry["correct"].values())) == (4, bias, correct)
    assert entry["shape_bias_interval_95"] == list(Count(correct[0], 4).interval)
    assert f"| {bias:.2f} % (" in everything([entry]) and table_report.claim(entry) is None


def test_a_model_without_a_decision_has_no_shape_bias(monkeypatch, folder, tmp_path):
    with pytest.raises(UsageError, match="no meaning"):
        measured(monkeypatch, folder, tmp_path, Uniform())
    assert not list(tmp_path.rglob("*.json"))


def test_decisions_are_by_mean_probability():
    """Three classes of 1, 2 and 3 labels, by hand: sums would give the last, single labels the first or the second."""
    chances = torch.tensor(
        [[0.15, 0.10, 0.12, 0.21, 0.21, 0.21], [0.18, 0.30, 0.10, 0.20, 0.11, 0.11], [0.2, 0.2, 0.2, 0.1, 0.1, 0.2]]
    )
    decide = Categories(nn.Identity(), {"a": (0,), "b": (1, 2), "c": (3, 4, 5)})
    means = decide(chances.log())
    assert torch.allclose(means[:2, :3], torch.tensor([[0.15, 0.11, 0.21], [0.18, 0.20, 0.14]]))
    assert means.argmax(1).tolist() == [2, 1, 3]  # of the last two tie: neither is decided for


def test_the_classes_are_those_of_the_authors_list_of_ids():
    dataset = get(CHECKPOINT).collection.dataset
    for name, ids in WNIDS.items():
        assert CATEGORIES[name] == tuple(sorted(labels_called(wnid, dataset)[0] for wnid in ids.split()))
    names = class_names(dataset)
    assert {name: len(CATEGORIES[name]) for name in ("bird", "dog")} == {"bird": 49, "dog": 109}
    assert (names[CATEGORIES["bird"][0]], names[CATEGORIES["bird"][-1]]) == ("hen", "king penguin")
    assert (names[CATEGORIES["dog"][0]], names[CATEGORIES["dog"][-1]]) == ("Japanese spaniel", "Mexican hairless")
    labels = [label for labels in CATEGORIES.values() for label in labels]
    assert len(CATEGORIES) == 16 and len(labels) == len(set(labels)) and sorted(ORDER) == ORDER


def test_images_without_a_conflict_are_left_out_and_others_names_refused(folder, tmp_path):
    checkpoint = get(CHECKPOINT)
    series = cue_conflict(str(folder), checkpoint, count=4)
    assert (series.conditions, len(series)) == (("shape", "texture"), 8)
    names = [ORDER[label] for label in series.labels.tolist()]
    assert sorted(zip(names[:4], names[4:], strict=True)) == sorted(PAIRS[:4])
    with pytest.raises(UsageError, match="4 images are not the cue conflicts"):
        cue_conflict(str(folder), checkpoint)
    Image.new("RGB", (8, 8)).save(tmp_path / "lion1-cat1.png")
    with pytest.raises(UsageError) as error:
        cue_conflict(str(tmp_path), checkpoint)
    assert error.value.actual == "lion1-cat1.png"
