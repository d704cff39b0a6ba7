"""A training within a cell that is cut off goes on after the last epoch that was saved, and ends with the same cell."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from object_files import squares

from robust_zoo.errors import VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.detection.folders import open_scenes
from robust_zoo.training.transfer import network
from robust_zoo.training.transfer.cells import settled
from robust_zoo.training.transfer.protocols import detection, finetune, salman2020
from robust_zoo.training.transfer.protocols.work import Workspace
from robust_zoo.training.transfer.saved import Saved
from robust_zoo.training.transfer.splits import stratified_split
from robust_zoo.training.transfer.sweep import TransferPlan, transfer
from robust_zoo.training.transfer.task import Target

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
CPU = torch.device("cpu")
GRID = finetune.Finetune(lrs=(0.001, 0.01), weight_decays=(0.0,), epochs=2, batch_size=16)
EARLY = salman2020.Salman2020(epochs=3, step=2, batch_size=16, choose_on_test=False)
BOXES = detection.Detection(side=32, longest=32, maps=2, width=8, samples=8, epochs=3, batch_size=8)
# protocol, its settings, all epochs of its trainings
KINDS = {
    "finetune": ("finetune", GRID, 6),
    "lwf": ("finetune", replace(GRID, lwf=0.01, augment=False, bn="frozen", lrs=(0.01,)), 2),
    "salman2020": ("salman2020", EARLY, 3),
    "detection": ("detection", BOXES, 3),
}


def few():
    data = cifar10_sample(10)
    data = data.subset((data.labels < 4).nonzero().flatten())
    train, test = stratified_split(data.labels, 6, 0)
    return Target("few", tuple("abcd"), data.subset(train), None, data.subset(test))


class CutOff(Exception):
    """What a kill is here."""


@pytest.fixture
def dropping(monkeypatch):
    """Networks that draw random numbers in training, as a Swin's DropPath does."""

    def with_dropout(*arguments, **options):
        model = network.with_new_head(*arguments, **options)
        model.drop_rate = 0.5
        return model

    for module in (finetune, salman2020):
        monkeypatch.setattr(module, "with_new_head", with_dropout)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return partial(open_scenes, str(squares(tmp_path_factory.mktemp("objects") / "squares")))


@pytest.fixture
def sweep(tmp_path, scenes, monkeypatch):
    """Fills one cell in a folder; cut off after so many epochs, or not (None): the entry and the epochs it did."""

    def run(kind, folder, epochs=None):
        protocol, settings, _ = KINDS[kind]
        done, keep = [], Saved.keep

        def counted(self, *arguments):
            keep(self, *arguments)
            done.append(arguments[0])
            if len(done) == epochs:
                raise CutOff

        monkeypatch.setattr(Saved, "keep", counted)
        workspace = Workspace(tmp_path / folder, tmp_path / "cache", progress=False, save_seconds=0)
        target = scenes if protocol == "detection" else few
        try:
            [entry] = transfer([NAME], [target], TransferPlan(protocol, settings), workspace)
        except CutOff:
            entry = None
        finally:
            monkeypatch.setattr(Saved, "keep", keep)
        return entry, len(done)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_the_same_cell(kind, sweep, tmp_path, dropping):
    epochs = KINDS[kind][2]
    whole, done = sweep(kind, "whole")
    assert done == epochs
    for cut in range(1, epochs):
        folder = f"cut{cut}"
        assert sweep(kind, folder, cut) == (None, cut)
        assert len(list((tmp_path / folder).glob("*.part/checkpoint-*.safetensors"))) == min(cut, 2)
        torch.rand(7)  # what was drawn elsewhere meanwhile
        entry, done = sweep(kind, folder)
        assert settled(entry) == settled(whole) and done == epochs - cut
        assert [file.suffix for file in (tmp_path / folder).iterdir()] == [".json"]


def test_a_damaged_file_is_passed_over_and_the_last_one_is_named(sweep, tmp_path, capsys):
    whole, _ = sweep("salman2020", "whole")
    assert sweep("salman2020", "cut", 2) == (None, 2)
    old, new = sorted((tmp_path / "cut").glob("*.part/checkpoint-*.safetensors"))
    new.write_bytes(new.read_bytes()[:-1])
    kept = old.read_bytes()
    old.write_bytes(kept[:-1])
    with pytest.raises(VerificationFailed, match="no checkpoint of this run is whole"):
        sweep("salman2020", "cut")
    old.write_bytes(kept)
    entry, done = sweep("salman2020", "cut")
    assert settled(entry) == settled(whole) and done == 2
    assert f"{new.name} is damaged" in capsys.readouterr().err


def test_nothing_is_saved_before_it_is_time(tmp_path):
    numbers = []
    for every, expected in ((600.0, 0), (0.0, 1)):
        saved = Saved(tmp_path / f"{every:g}", every)
        saved.keep(1, {"numbers": numbers})
        assert len(list(tmp_path.glob(f"{every:g}/*.safetensors"))) == expected
    assert Saved(tmp_path / "0").restore({"numbers": numbers}, ["another training"]) == 0
    Saved().keep(1, {"numbers": numbers})


@pytest.mark.parametrize("kind", ["finetune", "salman2020"])
def test_a_seed_decides_what_networks_draw(kind, tmp_path, dropping):
    module = {"finetune": finetune, "salman2020": salman2020}[kind]
    more = {"cache": tmp_path} if kind == "finetune" else {}
    settings = replace(KINDS[kind][1], epochs=1, **({"lrs": (0.01,)} if more else {}))
    found = []
    for seed in (0, 0, 1):
        before = torch.get_rng_state()
        outcome, _ = getattr(module, kind)(get(NAME), few(), settings, seed=seed, device=CPU, **more)
        assert torch.equal(before, torch.get_rng_state())
        torch.rand(3)
        found.append(outcome.details["losses"])
    assert found[0] == found[1] != found[2]
