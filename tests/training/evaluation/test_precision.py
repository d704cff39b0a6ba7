"""TF32 is asked for, never had by chance; a figure in it says so, and those in fp32 are called as ever."""

import csv
import io
import json

import pytest
import torch
from verbs import run_to as run

from robust_zoo.errors import VerificationFailed
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.precision import products_in
from robust_zoo.training.attacks.suites import Stage
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.evaluation import engine, entries, ledger, report
from robust_zoo.training.evaluation.entries import EntryKey

NAME, THREAT = "resnet18_x0_25_cifar10_l2_eps0_5", ThreatModel("linf", 0.5)


def flags():
    return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision


class Wary(torch.nn.Module):
    """Class 0; notes how products are made meanwhile."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def forward(self, images):
        self.seen.add(flags())
        return torch.tensor([[1.0, 0.0]]).expand(len(images), 2)


def entry_of(folder, precision):
    data = Images(torch.zeros((3, 3, 2, 2), dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    model = Wary()
    stage = Stage("fgsm", lambda model, images, *_, **how: images + 0 * model(images).sum())
    evaluation = engine.Evaluation(model, THREAT, (stage,), 250, precision=precision)
    key = EntryKey("m", "0" * 64, "d", data.sha256, "fgsm", THREAT, precision=precision)
    return ledger.complete(folder, key, evaluation, data), model.seen


@pytest.mark.parametrize("precision, name", [("fp32", "ieee"), ("tf32", "tf32")])
def test_every_pass_is_made_in_what_the_entry_says(tmp_path, precision, name):
    before = flags()
    entry, seen = entry_of(tmp_path, precision)
    assert seen == {(name, name)} and flags() == before and entry["precision"] == precision
    assert entries.read_ledger(tmp_path) == [entry]


def test_what_was_set_comes_back_after_an_error():
    before = flags()
    with pytest.raises(KeyboardInterrupt), products_in("fp32"):
        raise KeyboardInterrupt
    assert flags() == before


def test_a_figure_says_that_it_is_in_tf32(tmp_path):
    both = [entry_of(tmp_path, precision)[0] for precision in ("fp32", "tf32")]
    plain, rounded = both
    assert plain["settings"] | {"precision": "tf32"} == rounded["settings"] and "precision" not in plain["settings"]
    stems = [entries.stem_of(entry).name for entry in both]
    assert stems[0].split("__")[1] == f"fgsm_{THREAT.tag}" and stems[1].split("__")[1] == f"fgsm_{THREAT.tag}_tf32"
    assert stems[0][-12:] != stems[1][-12:] and len(entries.read_ledger(tmp_path)) == 2
    first, second = report.markdown(both).splitlines()[2:]
    assert "tf32" not in first and f"| fgsm, {THREAT}, tf32 |" in second
    assert [row["precision"] for row in csv.DictReader(io.StringIO(report.as_csv(both)))] == ["fp32", "tf32"]
    settings = [report.measurement(entry)["settings"] for entry in both]
    assert settings[1] == f"{settings[0]}, tf32"


@pytest.mark.parametrize("change", ["fp32", None])
def test_a_figure_in_tf32_cannot_pass_for_another(tmp_path, change):
    """`change`: None leaves the field out, as entries were when there was no other than fp32."""
    entry_of(tmp_path, "tf32")
    (file,) = tmp_path.rglob("*.json")
    entry = json.loads(file.read_text())
    del entry["precision"]
    file.write_text(json.dumps(entry | ({"precision": change} if change else {})))
    with pytest.raises(VerificationFailed, match="not a sound ledger entry"):
        entries.read_ledger(tmp_path)


def test_a_cpu_has_no_tf32(tmp_path):
    said = run("evaluate", NAME, "--precision", "tf32", "--device", "cpu", "--out", tmp_path / "ledger", code=2).stderr
    assert "--precision tf32 on cpu" in said and "next:     --precision fp32" in said
    assert not list(tmp_path.iterdir())
