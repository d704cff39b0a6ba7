"""Every row, in its source's layout, with random weights: what create_model makes of the file is the network in it.

One row of each architecture, layout and normalisation; the small ones in every run, the others with `make test-peers`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from file_layouts import FROM_TORCHVISION, file_of, original
from torch import Tensor, nn

from robust_zoo import create_model
from robust_zoo.architectures.build import build
from robust_zoo.files import sha256_of
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, get_architecture, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.ensure import ensure

SMALL = ("efficientnet_b0_mao2022_linf_eps4", "resnet50_gelu_rodriguezmunoz2024_linf_eps4", "mobilenet_l2_eps0")


def cases() -> list[Any]:
    """A row of each architecture, layout and normalisation; the smallest networks first."""
    rows = [get(name) for name in list_models(bundled=False)]
    found = {
        (row.architecture, row.format.name, row.preprocessing.mean, row.preprocessing.std): row
        for row in sorted(rows, key=lambda row: row.name not in SMALL, reverse=True)
    }
    return [
        pytest.param(row, id=row.name, marks=() if row.name in SMALL else (pytest.mark.peers,))
        for row in sorted(found.values(), key=lambda row: (row.network.parameters, row.name))
    ]


FEW = ("resnet18_x0_25", "shufflenet", "efficientnet_b0", "resnet50_gelu", "vit_small_patch16_224_convstem")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FEW else (pytest.mark.peers,)) for name in load_registry().architectures],
)
def test_an_architecture_has_the_parameters_that_its_row_says(name):
    network = get_architecture(name)
    classes = {row.preprocessing.num_classes for row in map(get, list_models()) if row.network == network}
    for num_classes in classes:
        with torch.device("meta"):
            model = build(network.timm, **{"num_classes": num_classes, **network.arguments})
        assert sum(p.numel() for p in model.parameters()) == network.parameters
    assert classes


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Gone with the test, caches and all: together the files would fill a disk."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def written(row: Checkpoint, model: nn.Module, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Puts the file where a user would, and accepts it as a user would; a hash that is known becomes this file's."""
    path = folder / row.file
    torch.save(file_of(row, model), path)
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(folder))
    monkeypatch.setenv("ROBUST_ZOO_OFFLINE", "1")
    if row.has_public_hash:
        row = replace(row, sha256=sha256_of(path), size=path.stat().st_size, converted_sha256=None)
    state = ensure(row, allow_unverified=not row.has_public_hash).state
    assert state == ("pinned" if row.has_public_hash else "first-seen")
    path.unlink()
    return row


def finite(loss: Tensor, model: nn.Module) -> bool:
    loss.backward()
    return all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("row", cases())
def test_the_network_in_the_file(row, folder, monkeypatch):
    theirs = original(row)
    row = written(row, theirs, folder, monkeypatch)
    name = row if row.has_public_hash else row.name
    # Transformers take one size only; BatchNorm takes two images where maps are of one pixel.
    images = (
        torch.rand(1, *row.preprocessing.input_size) if hasattr(theirs, "patch_embed") else torch.rand(2, 3, 64, 64)
    )
    model = create_model(name).eval()
    cfg, state = model.pretrained_cfg, model.state_dict()
    # In storage of their own: where tensors begin at other addresses, kernels add in another order.
    model.load_state_dict({key: tensor.clone() for key, tensor in state.items()}, assign=True)
    with torch.no_grad():
        expected, logits = theirs(images), model(images)
        if has_maps := hasattr(model, "forward_intermediates"):  # timm 1.0.22's DenseNet has none
            maps = model.forward_intermediates(images, intermediates_only=True)
    assert expected.isfinite().all() and expected.std() > 1e-3
    tolerance = 1e-5 if row.network.keys in FROM_TORCHVISION else 0  # another library adds in another order
    assert (logits - expected).abs().max() <= tolerance * expected.abs().max()
    del theirs, model

    features = create_model(name, features_only=True).eval()
    with torch.no_grad():
        found = features(images)
    if has_maps:  # Swin's have their channels last
        assert any(torch.equal(found[-1], map) for map in (maps[-1], maps[-1].permute(0, 2, 3, 1)))
    assert len(found) == len(features.feature_info.channels())
    del features, found

    half = create_model(name, dtype=torch.bfloat16).eval()
    for key, tensor in half.state_dict().items():
        assert torch.equal(tensor, state[key].bfloat16() if state[key].is_floating_point() else state[key])
    with torch.no_grad():
        assert half(images.bfloat16()).isfinite().all()
    del half

    other = create_model(name, num_classes=7, in_chans=1).train()
    first, head = cfg["first_conv"] + ".weight", cfg["classifier"] + "."
    for key, tensor in other.state_dict().items():
        if not key.startswith(head):
            wanted = state[key].sum(1, keepdim=True) if key == first else state[key]
            assert torch.equal(tensor, wanted), key
    del state, tensor, wanted  # gradients come instead: together the largest would need 16 GB
    logits = other(images[:, :1])
    assert logits.shape == (len(images), 7)
    assert finite(F.cross_entropy(logits, torch.arange(len(images))), other)
