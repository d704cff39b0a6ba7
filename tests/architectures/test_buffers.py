"""A model built without storage has the buffers, and so the logits, of one that was built with it."""

from dataclasses import replace

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention

from robust_zoo import factory
from robust_zoo.architectures.build import build
from robust_zoo.registry.lookup import get_architecture

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SWIN = {"embed_dim": 8, "depths": (2, 2, 1, 1), "num_heads": (1, 1, 1, 1), "window_size": 4}
TOKENS = {"depth": 1, "embed_dim": 24, "num_heads": 2}
OF_TIMM = "init_non_persistent_buffers"


@pytest.fixture
def built(monkeypatch):
    """The devices on which the factory builds."""
    devices = []

    def noting(*args, **kwargs):
        devices.append(torch.empty(()).device.type)
        return build(*args, **kwargs)

    monkeypatch.setattr(factory, "build", noting)
    return devices


def exact(name, kwargs):
    """A model by the factory, and the one whose weights it was given."""
    torch.manual_seed(0)
    reference = build(name, img_size=64, **kwargs).eval()
    network = replace(get_architecture("resnet18"), name=name, timm=name)
    model = factory._build_exact(network, name, reference.state_dict, {"img_size": 64, **kwargs})
    return model.eval(), reference


@pytest.mark.parametrize(
    ("name", "kwargs", "computed"),
    [
        ("swin_base_patch4_window7_224_eps1e6", SWIN, 8),
        ("swin_tiny_patch4_window7_224", SWIN, 8),
        ("vit_small_patch16_224_convstem", TOKENS, 0),
        ("vit_small_patch16_224", TOKENS, 0),
        ("xcit_medium_12_p16_224", TOKENS, 0),
    ],
)
def test_same_buffers_and_logits(name, kwargs, computed, built):
    model, reference = exact(name, kwargs)
    mine, theirs = dict(model.named_buffers()), dict(reference.named_buffers())
    assert mine.keys() == theirs.keys() and len(mine.keys() - model.state_dict().keys()) == computed
    assert all(mine[k].dtype == theirs[k].dtype and torch.equal(mine[k], theirs[k]) for k in mine)
    assert not any(p.is_meta for p in model.parameters()) and list(model.state_dict()) == list(reference.state_dict())
    with torch.no_grad():
        assert torch.equal(model(IMAGES), reference(IMAGES))
    assert built == (["meta"] if not computed or hasattr(WindowAttention, OF_TIMM) else ["meta", "cpu"])


def test_a_timm_whose_modules_cannot_compute_theirs(monkeypatch, built):
    for cls in (WindowAttention, SwinTransformerBlock):
        monkeypatch.delattr(cls, OF_TIMM, raising=False)
    model, reference = exact("swin_tiny_patch4_window7_224", SWIN)
    with torch.no_grad():
        assert torch.equal(model(IMAGES), reference(IMAGES))
    assert built == ["meta", "cpu"]
