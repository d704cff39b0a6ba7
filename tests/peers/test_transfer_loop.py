"""The salman2020 protocol against robustness' `train_model`, which upstream's main.py calls: three epochs, float64."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from robust_zoo.pixels import PixelModel
from robust_zoo.training.transfer.network import choose_trainable, order
from robust_zoo.training.transfer.protocols.salman2020 import MODES, Salman2020, fit

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

SEED, CLASSES, CPU = 3, 5, torch.device("cpu")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def pictures(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 32, 32, generator=generator).double(), torch.arange(n) % CLASSES


class Given:
    """Images as they are, in float64: what `fit` asks of a dataset."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Any:
        return zip(self.images.split(size), self.labels.split(size), strict=True)

    def train_batches(self, indices: Any, **_: Any) -> Any:
        return ((self.images[index], self.labels[index]) for index in indices)


class Loader:
    """The same batches for robustness, an epoch each time it is asked; it also wants a length."""

    def __init__(self, data: Given, size: int, shuffled: bool) -> None:
        self.data, self.size, self.shuffled, self.epoch = data, size, shuffled, 0

    def __len__(self) -> int:
        return -(-len(self.data) // self.size)

    def __iter__(self) -> Any:
        if not self.shuffled:
            return iter(list(self.data.batches(self.size)))
        indices = order(len(self.data), self.size, SEED, self.epoch)
        self.epoch += 1
        return iter(list(self.data.train_batches(indices)))


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("resnet18", num_classes=CLASSES).double()


@pytest.mark.parametrize("mode", MODES)
def test_three_epochs_are_upstreams(robustness: Any, mode: str, tmp_path: Path) -> None:
    settings = Salman2020(mode=mode, lr=0.01, batch_size=16, epochs=3, step=2)
    train, test = Given(*pictures(40, 0)), Given(*pictures(25, 1))  # the last batch is short
    ours = PixelModel(network(), MEAN, STD)
    choose_trainable(ours.model, "head" if mode == "fixed-feature" else "all")
    losses, scores, _ = fit(ours, train, test, settings, SEED, CPU, False)

    theirs = network()
    if mode == "fixed-feature":  # upstream: everything up to layer4 asks for no gradient, the fc does
        for name, parameter in theirs.named_parameters():
            parameter.requires_grad_(name.startswith("fc."))
    logged: list[dict[str, float]] = []
    args = robustness.train.Parameters(
        {
            "epochs": 3, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "step_lr": 2, "step_lr_gamma": 0.1,
            "custom_lr_multiplier": None, "mixed_precision": 0, "adv_train": 0, "adv_eval": 0, "out_dir": str(tmp_path),
            "save_ckpt_iters": -1, "log_iters": 1, "lr_interpolation": "step",
            "epoch_hook": lambda model, info: logged.append(dict(info)),
        }
    )  # fmt: skip
    statistics = types.SimpleNamespace(
        mean=torch.tensor(MEAN, dtype=torch.float64), std=torch.tensor(STD, dtype=torch.float64)
    )
    attacker, _ = robustness.model_utils.make_and_restore_model(
        arch=theirs, dataset=statistics, add_custom_forward=True
    )
    loaders = (Loader(train, 16, True), Loader(test, 250, False))
    robustness.train.train_model(
        args, attacker, loaders, update_params=[p for p in theirs.parameters() if p.requires_grad]
    )
    for epoch, info in enumerate(logged):
        difference = abs(info["train_loss"] - losses[epoch])
        print(f"{mode}, epoch {epoch}: losses differ by {difference:.1e}")
        assert difference <= 1e-8
        assert info["nat_prec1"] == pytest.approx(100 * scores[epoch][0] / 25, abs=1e-6)
    assert len(logged) == 3
    expected = theirs.state_dict()
    for name, value in ours.model.state_dict().items():
        assert (value - expected[name]).abs().max() <= 1e-8, name
    moved = (network().state_dict()["bn1.running_mean"] - expected["bn1.running_mean"]).abs().max()
    assert moved > 1e-3  # BatchNorm's statistics moved in both modes: "fixed" features are not
