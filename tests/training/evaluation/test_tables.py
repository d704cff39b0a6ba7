"""Tables in the ledger: corrupted images, ours and official ones. In any batches and shards the same."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from verbs import run_to as run

from robust_zoo import create_model, pixel_model
from robust_zoo.counts import MeanCount
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.corruptions import Corruptions
from robust_zoo.registry.lookup import get
from robust_zoo.training.corruptions.corrupt import corrupt
from robust_zoo.training.corruptions.kinds import KINDS, OWN, SEVERITIES
from robust_zoo.training.data import image_files
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.dataset import spread
from robust_zoo.training.evaluation import datasets, entries, ledger, of_series, table_report, tables
from robust_zoo.training.evaluation.corruptions import cifar10_c, imagenet_c, our_corruptions
from robust_zoo.training.evaluation.run import EvaluationPlan, evaluate
from robust_zoo.training.transfer.features import as_files
from robust_zoo.views import View

NAME = "resnet18_x0_25_cifar10_l2_eps0_25"
OURS = ["evaluate", NAME, "--attack", "corruptions", "--n", "8", "--out"]
RNG = np.random.default_rng(3)


def settled(folder):
    """The entry but for its times, and the images' fates."""
    (file,) = folder.rglob("tables/*.json")
    entry = json.loads(file.read_text())
    assert not list((folder / "parts").iterdir())
    return file.name, {k: v for k, v in entry.items() if k not in ledger.TIMES}, file.with_suffix(".npz").read_bytes()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours")
    assert "| noise | blur | weather | digital | mCE |" in run(*OURS, folder).stdout
    return folder


def test_counts_are_those_of_the_model_on_each_image_alone(ours):
    (entry,) = tables.read_tables(ours)
    assert entry["dataset"] == "cifar10 bundled sample, our corruptions, 8 evenly spread"
    assert (entry["n"], entry["model"], entry["weights_sha256"]) == (8, NAME, get(NAME).sha256)
    assert entry["correct"].keys() == {"clean"} | {f"{kind} {severity}" for kind in OWN for severity in SEVERITIES}
    model, whole = pixel_model(create_model(NAME)).eval(), cifar10_sample()
    rows = [i * 125 for i in range(8)]
    often = np.zeros(8, int)
    for condition, count in entry["correct"].items():
        kind, _, severity = condition.rpartition(" ")
        photos = [whole.images[row].permute(1, 2, 0).numpy() for row in rows]
        if kind:  # the place is that in the whole set, whichever images are taken of it
            photos = [corrupt(photo, kind, int(severity), index=row) for photo, row in zip(photos, rows, strict=True)]
        with torch.no_grad():
            logits = model(torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2) / 255)
        right = (logits.argmax(1) == whole.labels[rows]).numpy()
        assert count == right.sum(), condition
        often += right if kind else 0
    assert entry["mean_accuracy"] == pytest.approx(100 * often.mean() / 70)
    half = 1.959964 * 100 * (often / 70).std(ddof=1) / 8**0.5
    assert entry["mean_interval_95"] == pytest.approx([entry["mean_accuracy"] - half, entry["mean_accuracy"] + half])
    assert MeanCount(1, 1, 1, 1).interval == (0, 100) and MeanCount(8, 8, 1, 8).interval == (100, 100)


def test_batches_and_shards_change_nothing(ours, tmp_path):
    """Chunks of 250 of the 568 images. Of processes and kills: test_ledger."""
    run(*OURS, tmp_path / "batches", "--batch-size", 3)
    assert settled(tmp_path / "batches") == settled(ours)
    assert "complete when all 2 are" in run(*OURS, tmp_path / "shards", "--shard", "1/2").stderr
    assert not list((tmp_path / "shards").rglob("*.json"))
    run(*OURS, tmp_path / "shards", "--shard", "0/2")
    assert settled(tmp_path / "shards") == settled(ours)


def test_what_exists_is_not_computed_again_and_another_seed_is_another_entry(ours, tmp_path, monkeypatch):
    before = settled(ours)
    monkeypatch.setattr("robust_zoo.training.evaluation.engine.run_chunk", None)
    assert run(*OURS, ours).exit_code == 0 and settled(ours) == before
    monkeypatch.undo()
    (entry,) = evaluate([NAME], "", "sample", tmp_path, EvaluationPlan("corruptions", n=1, seed=1), device="cpu")
    (other,) = evaluate([NAME], "", "sample", tmp_path, EvaluationPlan("corruptions", n=1, seed=2), device="cpu")
    assert entry["data_sha256"] != other["data_sha256"] and len(tables.read_tables(tmp_path)) == 2
    said = run("report", tmp_path).stdout
    assert all(f"our corruptions, seed {seed}, 1 evenly spread" in said for seed in (1, 2))
    assert "tables of corruptions" in run("report", tmp_path, "--plot", tmp_path / "x.png", code=2).stderr
    assert entries.read_ledger(tmp_path) == []  # tables are no accuracies of one kind


CHANGES = [
    ("n", lambda v: 9), ("correct", lambda v: v | {"fog 1": v["fog 1"] + 1}), ("correct", lambda v: {"fog 1": 3}),
    ("correct", lambda v: []), ("mean_accuracy", lambda v: v + 1), ("mean_interval_95", lambda v: v[::-1]),
    ("seed", lambda v: 1), ("precision", lambda v: "tf32"), ("model", lambda v: "other"), ("table", lambda v: "x"),
    ("settings", lambda v: v | {"seed": 1}), ("settings_sha256", lambda v: "0" * 64), ("dataset", lambda v: "other"),
    ("weights_sha256", lambda v: "0" * 64), ("data_sha256", lambda v: "0" * 64), ("more", lambda v: 1),
    ("more_accuracy", lambda v: 1.0), ("seconds", lambda v: -1), ("finished", lambda v: "now"), ("code", len),
]  # fmt: skip


def test_a_changed_table_is_refused(ours, tmp_path):
    (file,) = ours.rglob("tables/*.json")
    copy = tmp_path / file.relative_to(ours)
    copy.parent.mkdir(parents=True)
    sound, fates = json.loads(file.read_text()), file.with_suffix(".npz").read_bytes()
    copy.with_suffix(".npz").write_bytes(fates)
    missing = [{k: v for k, v in sound.items() if k != name} for name in sound]
    for changed in [*missing, *(sound | {name: change(sound.get(name))} for name, change in CHANGES)]:
        copy.write_text(json.dumps(changed))
        with pytest.raises(VerificationFailed, match="not a sound ledger entry"):
            tables.read_tables(tmp_path)
    copy.write_text(json.dumps(sound))
    assert tables.read_tables(tmp_path) == tables.read_tables(ours)
    with np.load(file.with_suffix(".npz")) as stored:
        right = stored["right"]
    for other in (right ^ 128, right[:-1], right.astype(int), right[:, :-1]):
        np.savez(copy.with_suffix(".npz"), right=other)
        assert "not a sound ledger entry" in run("report", tmp_path, code=1).stderr


def test_report_and_rows_say_what_the_table_says(ours, tmp_path):
    (entry,) = tables.read_tables(ours)
    said = run("report", ours, "--rows", tmp_path / "rows.json", "--readme", tmp_path / "README.md").stdout
    assert f"{entry['mean_accuracy']:.2f} %" in said and said in (tmp_path / "README.md").read_text()
    (row,) = json.loads((tmp_path / "rows.json").read_text())[NAME]
    figure = Corruptions.parse(row)
    assert (figure.n, figure.clean, figure.mce) == (8, entry["correct"]["clean"], None)
    assert figure.mean == pytest.approx(entry["mean_accuracy"])
    fog = 100 * sum(entry["correct"][f"fog {severity}"] for severity in SEVERITIES) / 40
    assert figure.by_kind["fog"] == pytest.approx(fog)
    assert (ours / NAME / "tables" / f"{figure.entry}.json").is_file()
    for wrong in ({"correct": {"fog": [9] * 5}}, {"correct": {"fog": [1]}}, {"correct": {}}, {"clean": -1}):
        with pytest.raises(ValueError, match="corruptions"):
            Corruptions.parse(row | wrong)


# --- official images --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """CIFAR-10-C as it is published, but with 4 images at each severity in place of 10,000."""
    folder = tmp_path_factory.mktemp("cifar10-c")
    for kind in [*KINDS, "spatter"]:
        np.save(folder / f"{kind}.npy", RNG.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    np.save(folder / "labels.npy", np.tile(np.array([3, 8, 8, 0], np.uint8), 5))
    return folder


def test_cifar10_c_is_read_as_it_is_laid_out(arrays):
    series = cifar10_c(str(arrays), get(NAME), count=4)
    assert series.conditions == tuple(sorted(f"{k} {s}" for k in [*KINDS, "spatter"] for s in SEVERITIES))
    assert len(series) == 16 * 5 * 4 and series.labels.tolist() == [3, 8, 8, 0] * 80
    seen = torch.cat([images for images, _ in series.batches(3)])
    for number, condition in enumerate(series.conditions):
        kind, _, severity = condition.rpartition(" ")
        first = 4 * (int(severity) - 1)  # severity 1 comes first
        stored = np.load(arrays / f"{kind}.npy")[first : first + 4]
        assert torch.equal(seen[4 * number : 4 * number + 4], torch.from_numpy(stored).permute(0, 3, 1, 2) / 255)
    taken = series.spread(2)
    assert taken.labels.tolist() == [3, 8] * 80 and taken.sha256 != series.sha256
    chunk = series.subset(torch.arange(6, 11)).subset(torch.tensor([0, 4]))  # of the second and third condition
    assert torch.equal(next(chunk.batches(2))[0][0], seen[6]) and chunk.labels.tolist() == [8, 8]
    assert [len(images) for images, _ in chunk.batches(2)] == [1, 1]


def test_official_images_are_measured_by_their_name(arrays, tmp_path, monkeypatch):
    row = replace(datasets.DATASETS["cifar10-c"], open=partial(cifar10_c, count=4))
    monkeypatch.setitem(datasets.DATASETS, "cifar10-c", row)
    run("evaluate", NAME, "-d", "cifar10-c", "--data", arrays, "--out", tmp_path)
    (entry,) = tables.read_tables(tmp_path)
    assert (entry["dataset"], entry["n"], len(entry["correct"])) == ("cifar10-c", 4, 80)
    extra = sum(entry["correct"][f"spatter {severity}"] for severity in SEVERITIES)
    assert entry["mean_accuracy"] == pytest.approx(100 * (sum(entry["correct"].values()) - extra) / 300)
    assert "spatter" not in table_report.claim(entry)["correct"] and table_report.corruption_error(entry) is None
    said = run("evaluate", NAME, "-d", "cifar10-c", "--data", arrays, "-a", "pgd-20", "--out", tmp_path, code=2).stderr
    assert "as they are" in said and "next:" in said


def test_arrays_that_are_not_the_official_ones_are_refused(arrays, tmp_path):
    def refused(word, count=4):
        with pytest.raises(UsageError) as error:
            _ = cifar10_c(str(tmp_path), get(NAME), count).sha256
        assert word in f"{error.value.message} {error.value.actual}" and error.value.next

    assert "--data DIR" in run("evaluate", NAME, "-d", "cifar10-c", "--out", tmp_path / "out", code=2).stderr
    refused("no gaussian_noise.npy")
    for file in arrays.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert cifar10_c(str(tmp_path), get(NAME), 4).sha256 == cifar10_c(str(arrays), get(NAME), 4).sha256
    refused("(20,) uint8", count=5)
    (tmp_path / "fog.npy").unlink()
    refused("no fog.npy")
    np.save(tmp_path / "fog.npy", np.zeros((20, 32, 32, 3), np.float32))
    refused("float32")
    (tmp_path / "labels.npy").unlink()
    np.save(tmp_path / "labels.npy", np.arange(20, dtype=np.uint8) % 10)
    refused("severity 2")


def test_imagenet_c_is_read_as_it_is_laid_out(tmp_path):
    checkpoint, shades = get("resnet18_l2_eps0"), {}
    for number, (kind, severity) in enumerate((k, s) for k in KINDS for s in SEVERITIES):
        for wnid, label in (("n01440764", 0), ("n02124075", 285)):
            folder = tmp_path / kind / str(severity) / wnid
            folder.mkdir(parents=True)
            shades[f"{kind} {severity}", label] = shade = (3 * number + label % 2) % 256
            Image.new("RGB", (224, 224), (shade,) * 3).save(folder / "ILSVRC2012_val_00000001.JPEG", quality=100)
    series = imagenet_c(str(tmp_path), checkpoint, count=2)
    assert series.labels.tolist() == [0, 285] * 75
    chosen = [4, 5, 76, 149]
    images = torch.cat([images for images, _ in series.subset(torch.tensor(chosen)).batches(2)])
    for place, image in zip(chosen, images, strict=True):
        expected = shades[series.conditions[place // 2], (0, 285)[place % 2]]
        assert (image.shape, round(255 * image.mean().item())) == ((3, 224, 224), expected)
    with pytest.raises(UsageError, match="not this dataset"):
        imagenet_c(str(tmp_path), checkpoint)
    (tmp_path / "fog" / "3" / "n02124075").rename(tmp_path / "fog" / "3" / "n02123045")
    with pytest.raises(UsageError, match="fog 3 is not of the images of gaussian_noise 1") as error:
        imagenet_c(str(tmp_path), checkpoint, count=2)
    assert "n02124075" in error.value.expected and "n02123045" in error.value.actual
    (tmp_path / "fog" / "3" / "n02123045").rename(tmp_path / "fog" / "3" / "n02124075")
    (tmp_path / "frost").rename(tmp_path / "frosted")
    with pytest.raises(UsageError, match="1 of the 15"):
        imagenet_c(str(tmp_path), checkpoint, count=2)


def test_mce_is_of_the_official_imagenet_images_alone():
    """Every condition half right: 50 / AlexNet's error, averaged over the fifteen."""
    correct = {f"{kind} {severity}": 5 for kind in KINDS for severity in SEVERITIES}
    expected = np.mean([50 / kind.alexnet for kind in KINDS.values()])
    for dataset, error in (("imagenet-c", expected), ("imagenet validation, our corruptions", None)):
        entry = {"table": "corruptions", "dataset": dataset, "n": 10, "correct": correct}
        assert table_report.corruption_error(entry) == (error and pytest.approx(error))


def test_a_smaller_set_of_the_same_images_has_the_same_corruptions():
    whole, few = our_corruptions(cifar10_sample(2)), our_corruptions(spread(cifar10_sample(2), 20)).spread(5)
    fog = [name for name in whole.conditions if name.startswith("fog")]
    for condition in fog:
        (every, _), = whole.parts[condition]().batches(20)  # fmt: skip
        (some, _), = few.parts[condition]().batches(20)  # fmt: skip
        assert torch.equal(some, every[::4])
    assert whole.sha256 != few.sha256


def test_a_process_that_shares_the_work_starts_no_loaders(tmp_path, monkeypatch):
    """Spawned anew for each of 70 conditions, they took over ten minutes where one process takes half of one."""
    images, begun = as_files(cifar10_sample(1), View(32, 32)), []
    series = our_corruptions(replace(images, workers=2)).spread(2)
    loader = image_files.DataLoader
    monkeypatch.setattr(
        image_files,
        "DataLoader",
        lambda *a, **k: begun.append(k["num_workers"]) or loader(*a, **k | {"num_workers": 0}),
    )
    monkeypatch.setattr(of_series.engine, "run_chunk", lambda evaluation, data, *_: sum(1 for _ in data.batches(2)))
    for name in ("_evaluation", "folded_model_of"):
        monkeypatch.setattr(of_series, name, lambda *_: None)
    few = series.subset(torch.arange(4))
    assert of_series._chunk(None, "corruptions", None, (few, tmp_path), None) == 2
    assert begun == [0, 0] and sum(1 for _ in few.batches(2)) == 2 and max(begun) > 0
