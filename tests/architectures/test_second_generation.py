"""Conv stems, XCiT, Swin with another eps, RaResNet: their sizes, and timm's conventions on narrow ones."""

import pytest
import timm
import torch
import torch.nn.functional as F
from gradients import are_same_when_checkpointed
from timm.layers import LayerNorm2d
from timm.models import group_parameters
from torch import nn

from robust_zoo.architectures.build import NETWORKS, build, register_architectures
from robust_zoo.architectures.conv_stem import conv_stem

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

# Parameters and tensors of what the authors' own code builds (RobustBench 1.1.1, and their repositories).
SIZES = {
    "convnext_tiny_convstem": (28_627_432, 186),
    "convnext_small_convstem": (50_261_992, 348),
    "convnext_base_convstem": (88_753_416, 352),
    "convnext_large_convstem": (198_134_680, 352),
    "vit_small_patch16_224_convstem": (22_777_576, 168),
    "vit_medium_patch16_224_convstem": (39_527_272, 192),
    "vit_base_patch16_224_convstem": (87_147_112, 168),
    "xcit_medium_12_p16_224": (46_401_160, 391),
    "xcit_large_12_p16_224": (103_792_648, 391),
    "swin_base_patch4_window7_224_eps1e6": (87_768_224, 329),
    "swin_large_patch4_window14_224_eps1e6": (196_794_556, 329),
    "raresnet50": (26_143_228, 491),
    "raresnet101": (45_901_928, 661),
    "rawide_resnet101_2": (104_065_776, 661),
}

_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
_TOKENS = {"img_size": 64, "num_heads": 2}
NARROW = {
    "convnext_tiny_convstem": _CONVNEXT | {"stem": (4, 8)},
    "convnext_base_convstem": _CONVNEXT | {"stem": (4, 6, 8)},
    "vit_small_patch16_224_convstem": _TOKENS | {"depth": 3, "embed_dim": 24},
    "vit_medium_patch16_224_convstem": _TOKENS | {"depth": 3, "embed_dim": 24},
    "xcit_medium_12_p16_224": _TOKENS | {"depth": 3, "embed_dim": 32, "cls_attn_layers": 1},
    "swin_base_patch4_window7_224_eps1e6": {
        "img_size": 64, "embed_dim": 8, "depths": (2, 1, 1, 1), "num_heads": (1, 1, 1, 1), "window_size": 4,
    },
    "raresnet50": {"depths": (1, 2, 1, 1), "widths": (8, 16, 24, 32)},
}  # fmt: skip


def narrow(name, **kwargs):
    return build(name, **NARROW[name] | kwargs).eval()


def channels_first(features):
    """timm's Swin has them last."""
    return features if features.shape[2] == features.shape[3] else features.permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_the_authors(name):
    with torch.device("meta"):
        model = build(name)
    assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == SIZES[name]
    cfg = NETWORKS[name].cfg
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    assert isinstance(model.get_submodule(cfg["first_conv"]), nn.Conv2d)


@pytest.mark.parametrize("name", NARROW)
def test_timms_conventions(name):
    model = narrow(name, num_classes=7, in_chans=1, drop_rate=0.2)
    one = IMAGES[:, :1]
    with torch.no_grad():
        features = model.forward_features(one)
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, model.head_hidden_size)
        assert torch.allclose(model.get_classifier()(pooled), model(one), atol=1e-6)
        model.reset_classifier(5, "avg")
        assert model(one).shape == (2, 5)
        model.reset_classifier(0, "")
        assert model(one).ndim == features.ndim
        without = narrow(name, num_classes=0)
        assert without(IMAGES).shape == (2, without.num_features)


@pytest.mark.parametrize("name", NARROW)
def test_features_have_the_announced_channels_and_strides(name):
    model = narrow(name, features_only=True)
    with torch.no_grad():
        features = [channels_first(f) for f in model(IMAGES)]
    assert [f.shape[1] for f in features] == model.feature_info.channels()
    assert [64 // f.shape[2] for f in features] == model.feature_info.reduction()
    two = narrow(name, features_only=True, out_indices=(0, 2))
    with torch.no_grad():
        assert [channels_first(f).shape[1] for f in two(IMAGES)] == two.feature_info.channels()
    assert len(narrow(name, features_only=True).feature_info.channels()) == len(features)  # asked for again


@pytest.mark.parametrize("name", NARROW)
def test_checkpointed_gradients_are_the_same(name):
    assert are_same_when_checkpointed(narrow(name), IMAGES)


@pytest.mark.parametrize("name", NARROW)
def test_parameters_fall_into_groups_by_depth(name):
    """The stem first, the head last."""
    model = narrow(name)
    groups = list(group_parameters(model, model.group_matcher()).values())
    stem = NETWORKS[name].cfg["first_conv"] + ".weight"
    assert stem in groups[0] and len(groups) >= 5
    assert any(key.startswith(NETWORKS[name].cfg["classifier"]) for key in groups[-1])
    assert sum(map(len, groups)) == len(list(model.named_parameters()))


def test_timms_own_exceptions_from_weight_decay_stay():
    assert narrow("vit_small_patch16_224_convstem").no_weight_decay() >= {"pos_embed", "cls_token"}


def test_the_stem_is_layer_norm_over_channels_with_its_small_eps():
    """Against the formula, on values so small that eps decides."""
    torch.manual_seed(0)
    stem = conv_stem(1, (4, 6, 8), (2, 2, 1))
    x = expected = 1e-3 * IMAGES[:, :1]
    with torch.no_grad():
        for i, stride in ((0, 2), (3, 2), (6, 1)):
            expected = 1e-3 * F.conv2d(expected, stem[i].weight, stem[i].bias * 0, stride, padding=1)
            stem[i].weight.mul_(1e-3)
            stem[i].bias.zero_()
            deviation = expected - expected.mean(1, keepdim=True)
            expected = F.gelu(deviation / (deviation.square().mean(1, keepdim=True) + 1e-6).sqrt())
        assert torch.allclose(stem(x), expected, rtol=1e-4, atol=1e-7)
        stem[1] = LayerNorm2d(4, eps=1e-5)
        assert not torch.allclose(stem(x), expected, rtol=0.1, atol=1e-7)


def test_a_stem_of_stride_16_has_patches_of_16_only():
    name = "vit_small_patch16_224_convstem"
    with pytest.raises(ValueError, match="patch_size 16 only"):
        narrow(name, patch_size=8)
    model = narrow(name)
    with pytest.raises(ValueError, match="patch_size 16 only"):
        model.set_input_size(patch_size=8)
    model.set_input_size(img_size=(32, 64))
    with torch.no_grad():
        assert model(IMAGES[:, :, :32]).shape == (2, 1000)


@pytest.mark.parametrize(("name", "size"), [("vit_small_patch16_224_convstem", 96), ("xcit_medium_12_p16_224", 96)])
def test_weights_fit_another_image_size_as_timms_do(name, size):
    state = narrow(name).state_dict()
    cfg = NETWORKS[name].cfg | {"state_dict": dict(state)}
    model = narrow(name, img_size=size, pretrained=True, pretrained_cfg=cfg)
    assert torch.equal(model.norm.weight, state["norm.weight"])
    with torch.no_grad():
        assert model(torch.rand(1, 3, size, size)).shape == (1, 1000)


def test_every_layer_norm_of_the_swin_has_the_small_eps():
    """timm's own has 1e-5 in all of them, and loads the same file."""
    name = "swin_base_patch4_window7_224_eps1e6"
    with torch.device("meta"):
        models = {1e-6: narrow(name), 1e-5: timm.create_model("swin_base_patch4_window7_224", **NARROW[name])}
    for eps, model in models.items():
        found = [module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)]
        assert len(found) == 1 + 2 * 5 + 3 + 1 and set(found) == {eps}
    a, b = (model.state_dict() for model in models.values())
    assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}


def test_the_raresnets_blocks():
    """No norm after the first 1x1; SE squeezes to a quarter of what comes in; two groups; no max-pool."""
    with torch.device("meta"):
        model = build("raresnet50")
    first, later = model.stages[0][0], model.stages[1][3]
    assert not hasattr(first, "bn1") and first.conv2.groups == later.conv2.groups == 2
    assert tuple(first.se.fc1.weight.shape[:2]) == (24, 72) and tuple(later.se.fc1.weight.shape[:2]) == (144, 144)
    assert len(first.downsample) == 2 and len(later.downsample) == 0
    assert {type(m) for m in first.modules()} >= {nn.SiLU, nn.ReLU} and isinstance(first.se.act, nn.ReLU)


def test_the_raresnet_starts_as_the_authors():
    """He's variance of the outgoing fan, which counts all channels of a grouped convolution."""
    torch.manual_seed(0)
    model = narrow("raresnet50", widths=(64, 64, 128, 256))
    for conv in (model.conv1, model.stages[3][0].conv2, model.stages[3][0].conv3):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05) and not model.fc.bias.any()


def test_a_pruned_raresnet_keeps_its_features():
    model = narrow("raresnet50")
    with torch.no_grad():
        last, taps = model.forward_intermediates(IMAGES)
        assert len(taps) == 5 and torch.equal(last, taps[4]) and torch.equal(last, model.forward_features(IMAGES))
        early = model.forward_intermediates(IMAGES, indices=[2], stop_early=True, intermediates_only=True)
        assert torch.equal(early[0], taps[2])
        assert model.prune_intermediate_layers([2]) == [2]
        assert torch.equal(model.forward_features(IMAGES), taps[2]) and model.num_features == 16
    assert not any(key.startswith(("fc", "stages.2")) for key in model.state_dict())


def test_dropout_acts_before_the_classifier_and_in_training_only():
    model = narrow("raresnet50", drop_rate=0.9)
    features = torch.ones(8, model.num_features, 2, 2)
    assert 0.02 < (model.train().forward_head(features, pre_logits=True) != 0).float().mean() < 0.3
    assert torch.equal(model.eval().forward_head(features, pre_logits=True), features[:, :, 0, 0])


def test_timm_builds_them_once_they_are_registered():
    register_architectures()
    assert SIZES.keys() <= set(timm.list_models())
    with torch.device("meta"):
        assert timm.create_model("vit_medium_patch16_224_convstem", num_classes=3).num_classes == 3
