"""Genuine checkpoints: made, trained for a step and saved by the robustness library itself, then read by ours.

For each of the registry's ten ImageNet architectures the converted weights must give the logits of robustness' own
model, on [0, 1] images, to 1e-5. Architectures that robustness defines are made by it; those that upstream took from
torchvision go through robustness' wrapper for foreign networks, which adds one more `model.` to every key.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from hub import Hub
from safetensors.torch import load_file
from torch import Tensor, nn

from robust_zoo import create_model, pixel_model
from robust_zoo.architectures.build import build
from robust_zoo.errors import VerificationFailed
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.lookup import get, get_architecture
from robust_zoo.weights.convert import convert

# robustness is from 2020 and warns in many ways.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

OWN = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnext50_32x4d": "resnext50_32x4d",
    "wide_resnet50_2": "wide_resnet50_2",
    "wide_resnet50_4": "wide_resnet50_4",
    "densenet": "densenet161",
    "vgg16_bn": "vgg16_bn",
}
FROM_TORCHVISION = ("resnext50_32x4d", "densenet", "mnasnet", "mobilenet", "shufflenet", "vgg16_bn")
CASES = [(name, "own") for name in OWN] + [(name, "torchvision") for name in FROM_TORCHVISION]


def _network(robustness: Any, architecture: str, origin: str) -> nn.Module:
    """DataParallel's inside: AttackerModel, made by robustness, with running statistics that fit its random weights.

    Without fitting statistics the activations of a random network grow from layer to layer, and an absolute
    tolerance on its logits means nothing.
    """
    torch.manual_seed(0)
    dataset = robustness.datasets.ImageNet("nowhere")
    arch = OWN[architecture] if origin == "own" else checkpoints.TORCHVISION[architecture]()
    model, _ = robustness.model_utils.make_and_restore_model(arch=arch, dataset=dataset, add_custom_forward=True)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    usual = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.normal_(norm.bias, 0, 0.1)
    with torch.no_grad():
        model.train()(torch.rand(4, 3, 96, 96))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)
    return model


def _train(robustness: Any, model: nn.Module, directory: Path) -> tuple[nn.Module, Path]:
    """One step of adversarial training by robustness' own loop, which also saves: the parallel model, and the file."""
    settings = robustness.train.Parameters(
        {
            "epochs": 1, "lr": 1e-5, "momentum": 0.9, "weight_decay": 1e-4, "step_lr": 30, "step_lr_gamma": 0.1,
            "adv_train": 1, "adv_eval": 0, "constraint": "2", "eps": 3.0, "attack_lr": 2.0, "attack_steps": 1,
            "use_best": 1, "random_restarts": 0, "random_start": 0, "mixed_precision": 0, "custom_lr_multiplier": None,
            "lr_interpolation": "step", "custom_eps_multiplier": None, "log_iters": 1, "save_ckpt_iters": -1,
            "out_dir": str(directory),
        }
    )  # fmt: skip
    batch = [(torch.rand(2, 3, 64, 64), torch.tensor([1, 2]))]
    model = robustness.train.train_model(settings, model, (batch, batch))
    (directory / "0_checkpoint.pt").unlink()  # the same again
    return model.eval(), directory / robustness.train.consts.CKPT_NAME_LATEST


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    """images: (B, 3, 224, 224) in [0, 1] -> (B, 1000)."""
    with torch.inference_mode():
        output = model.eval()(images)
    return output[0] if isinstance(output, tuple) else output  # robustness gives the image back as well


def _compare(ours: Tensor, theirs: Tensor, about: str) -> None:
    difference, size = (ours - theirs).abs().max().item(), theirs.std().item()
    print(f"{about}: largest difference {difference:.2e}, logits vary by {size:.2g}")
    assert theirs.isfinite().all() and size > 0.01
    assert (theirs[0] - theirs[1]).abs().max() > 1e-3, "the images must matter for the comparison to mean something"
    assert difference <= 1e-5


@pytest.mark.parametrize(("architecture", "origin"), CASES)
def test_logits_equal_those_of_robustness(robustness: Any, tmp_path: Path, architecture: str, origin: str) -> None:
    model, file = _train(robustness, _network(robustness, architecture, origin), tmp_path)
    images = torch.rand(2, 3, 224, 224)
    theirs = _logits(model, images)
    del model
    gc.collect()  # the widest holds 3 GB with its gradients
    network = get_architecture(architecture)
    target = tmp_path / "out.safetensors"
    answer = convert(file, target, network, {"name": "x"}, mean=checkpoints.MEAN, std=checkpoints.STD, num_classes=1000)
    file.unlink()
    assert answer["mean"] == list(checkpoints.MEAN) and answer["std"] == list(checkpoints.STD)
    with torch.device("meta"):
        ours = build(network.timm)
    ours.load_state_dict(load_file(target), strict=True, assign=True)
    target.unlink()
    _compare(_logits(PixelModel(ours, checkpoints.MEAN, checkpoints.STD), images), theirs, f"{architecture} ({origin})")


def test_what_robustness_saves_has_the_keys_the_other_tests_assume(robustness: Any, tmp_path: Path) -> None:
    """tests/support/checkpoints.py writes such files by hand: the same entries, the same names in the same order."""
    model, file = _train(robustness, _network(robustness, "mobilenet", "torchvision"), tmp_path)
    genuine = torch.load(file, weights_only=True)
    network = model.module.model.model
    ours = checkpoints.checkpoint(dict(network.state_dict()))
    assert genuine.keys() - {"adv_prec1"} == ours.keys()
    assert list(genuine["model"]) == list(checkpoints.robustness_state(network.state_dict(), extra="model."))
    assert genuine["optimizer"]["state"][0].keys() == ours["optimizer"]["state"][0].keys()


def test_create_model_takes_the_file_as_it_is(robustness: Any, tmp_path: Path) -> None:
    """The user's way: no row, no promised statistics; the head and the normaliser come from the file."""
    model, file = _train(robustness, _network(robustness, "resnet18", "own"), tmp_path)
    images = torch.rand(2, 3, 224, 224)
    ours = pixel_model(create_model("resnet18", checkpoint_path=file))
    _compare(_logits(ours, images), _logits(model, images), "resnet18 (create_model)")


def test_from_the_hub_to_logits_then_offline(
    robustness: Any, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row whose hash only the hub declares, from an empty cache; then offline. A pinned row refuses the file."""
    model, file = _train(robustness, _network(robustness, "resnet50", "own"), tmp_path)
    images = torch.rand(2, 3, 224, 224)
    theirs = _logits(model, images)
    hub.files = {get(name).file: file.read_bytes() for name in ("resnet50_l2_eps0_25", "resnet50_l2_eps0_5")}
    ours = _logits(pixel_model(create_model("resnet50_l2_eps0_25")), images)
    _compare(ours, theirs, "resnet50 (through the hub)")
    with pytest.raises(VerificationFailed):
        create_model("resnet50_l2_eps0_5")
    asked = len(hub.requests)
    monkeypatch.setenv("ROBUST_ZOO_OFFLINE", "1")
    assert torch.equal(_logits(pixel_model(create_model("resnet50_l2_eps0_25")), images), ours)
    assert len(hub.requests) == asked
