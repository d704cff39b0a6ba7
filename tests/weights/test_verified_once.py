"""A file of weights is read and hashed once in a process, and what was hashed is what is used."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from robust_zoo import create_model, files, pixel_model
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import DATA
from robust_zoo.threat import ThreatModel
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.dataset import spread
from robust_zoo.training.evaluation.run import EvaluationPlan, evaluate
from robust_zoo.training.transfer.protocols.finetune import Finetune
from robust_zoo.training.transfer.protocols.linear import Linear
from robust_zoo.training.transfer.protocols.work import Workspace
from robust_zoo.training.transfer.sample_suite import cifar10_half
from robust_zoo.training.transfer.sweep import TransferPlan, transfer
from robust_zoo.weights.ensure import ensure

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
OTHER = "resnet18_x0_25_cifar10_l2_eps0"
SHA256 = {get(name).sha256: name for name in (NAME, OTHER)}


@pytest.fixture
def hashes(monkeypatch):
    """The names of the checkpoints whose file was hashed, once for each time."""
    seen = []

    class Counted:
        """hashlib, as the one module that hashes files sees it."""

        def __getattr__(self, name):
            return getattr(hashlib, name)

        @staticmethod
        def sha256(content=b""):
            return noted(hashlib.sha256(content))

        @staticmethod
        def file_digest(file, name):
            return noted(hashlib.file_digest(file, name))

    def noted(digest):
        seen.extend(filter(None, [SHA256.get(digest.hexdigest())]))
        return digest

    monkeypatch.setattr(files, "hashlib", Counted())
    return seen


def test_the_count_counts(hashes):
    ensure(get(NAME))
    files.sha256_of(DATA / get(NAME).file)
    assert hashes == [NAME, NAME]


def test_one_hash_for_many_evaluations(hashes, tmp_path):
    plan = EvaluationPlan("pgd-2", [ThreatModel("l2", 0.25), ThreatModel("linf", 2 / 255)], n=20, check=False)
    assert len(evaluate([NAME, OTHER], "", "sample", tmp_path, plan, device="cpu")) == 4
    assert hashes == [NAME, OTHER]


def few(name):
    """A target of 100 images to train on and 20 to test on."""

    def target():
        whole = cifar10_half()
        return replace(whole, name=name, train=spread(whole.train, 100), test=spread(whole.test, 20))

    return target


def test_one_hash_for_many_transfers(hashes, tmp_path, monkeypatch):
    monkeypatch.setattr("robust_zoo.training.transfer.protocols.linear.PENALTIES", (10.0,))
    workspace = Workspace(tmp_path / "cells", tmp_path / "features", "cpu", progress=False)
    plan = TransferPlan("linear", Linear(train_size=5, views=2), seeds=(0, 1))
    assert len(transfer([NAME, OTHER], (few("a"), few("b")), plan, workspace)) == 8
    assert hashes == [NAME, OTHER]


def test_one_hash_for_a_grid_of_fine_tunings(hashes, tmp_path):
    workspace = Workspace(tmp_path / "cells", tmp_path / "features", "cpu", progress=False)
    grid = Finetune(lrs=(0.01, 0.02), weight_decays=(0.0,), epochs=1, train_size=2, part="head")
    transfer([NAME], (few("a"),), TransferPlan("finetune", grid, seeds=(0, 1)), workspace)
    assert hashes == [NAME]


@pytest.mark.parametrize("change", ["overwritten", "truncated", "deleted"])
def test_a_loaded_model_stays_what_it_is(change, tmp_path):
    """Nothing of it is mapped from the file."""
    path = Path(shutil.copy(DATA / get(NAME).file, tmp_path))
    model = pixel_model(create_model(replace(get(NAME), file=str(path))).eval())
    images = cifar10_sample(1).images.float() / 255
    with torch.no_grad():
        before = model(images)
        if change == "overwritten":
            with path.open("r+b") as file:
                file.write(os.urandom(path.stat().st_size))
        elif change == "truncated":
            os.truncate(path, 100)
        else:
            path.unlink()
        assert torch.equal(model(images), before)


def test_a_file_that_changes_after_it_was_verified_is_not_looked_at_again(tmp_path):
    path = Path(shutil.copy(DATA / get(NAME).file, tmp_path))
    weights = ensure(replace(get(NAME), file=str(path)))
    path.write_bytes(b"other bytes")
    model = create_model(NAME, weights=weights)
    expected = create_model(NAME).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_models_of_the_same_weights_share_nothing():
    weights = ensure(get(NAME))
    one, two = (create_model(NAME, weights=weights) for _ in range(2))
    with torch.no_grad():
        one.conv1.weight.zero_()
    assert two.conv1.weight.abs().sum() > 0 and create_model(NAME, weights=weights).conv1.weight.abs().sum() > 0


def test_weights_of_another_checkpoint_are_refused():
    with pytest.raises(UsageError, match="not the weights"):
        create_model(NAME, weights=ensure(get(OTHER)))


def test_a_loaded_model_can_be_saved_in_parts(tmp_path):
    """Its tensors lie in one buffer; a part of it must not drag the rest along."""
    model = create_model(NAME)
    torch.save(model.fc.state_dict(), tmp_path / "head.pt")
    save_file(model.state_dict(), tmp_path / "whole.safetensors")
    assert (tmp_path / "head.pt").stat().st_size < 20_000


def test_the_advice_for_a_changed_file_is_true_of_it(tmp_path):
    """One of the package comes back with the package, one that was exported does not."""
    packaged = get(NAME)
    own = replace(packaged, file=str(tmp_path / "own.safetensors"))
    (tmp_path / "own.safetensors").write_bytes(b"changed")
    said = []
    for checkpoint in (replace(packaged, sha256="0" * 64), own):
        with pytest.raises(VerificationFailed, match="damaged") as error:
            ensure(checkpoint)
        said.append("pip install" in error.value.fields["next"])
    assert said == [True, False]
