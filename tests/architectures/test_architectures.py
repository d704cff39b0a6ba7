"""The networks timm lacks, against torchvision's and against timm's own conventions."""

import subprocess
import sys

import checkpoints
import pytest
import timm
import torch
from gradients import are_same_when_checkpointed
from timm.models import group_parameters

from robust_zoo.architectures.build import build, register_architectures
from robust_zoo.errors import UnknownCheckpoint

OURS = ("shufflenet_v2_x1_0", "wide_resnet50_4", "resnet18_x0_25", "resnet10_x0_5_s2")
SMALL = ("shufflenet_v2_x1_0", "resnet18_x0_25", "resnet10_x0_5_s2")
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "theirs"), [("shufflenet_v2_x1_0", "shufflenet"), ("wide_resnet50_4", "wide_resnet50_4")]
)
def test_same_keys_and_logits_as_torchvision(name, theirs):
    reference = checkpoints.network(theirs)
    with torch.device("meta"):  # what it would start with is not looked at
        model = build(name).eval()
    assert list(model.state_dict()) == list(reference.state_dict())
    model.load_state_dict(reference.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(model(IMAGES), reference(IMAGES))


def test_the_shufflenet_starts_as_torchvisions():
    reference = checkpoints.network("shufflenet", seed=3)
    torch.manual_seed(3)
    ours = dict(build("shufflenet_v2_x1_0").named_parameters())
    assert all(torch.equal(ours[key], value) for key, value in reference.named_parameters())


@pytest.mark.parametrize("name", SMALL)
def test_features_have_the_announced_channels_and_strides(name):
    model = build(name, features_only=True).eval()
    with torch.no_grad():
        features = model(IMAGES)
    assert [f.shape[1] for f in features] == model.feature_info.channels()
    assert [64 // f.shape[2] for f in features] == model.feature_info.reduction()
    two = build(name, features_only=True, out_indices=(1, 3))
    assert two.feature_info.channels() == [model.feature_info.channels()[i] for i in (1, 3)]


@pytest.mark.parametrize(
    ("name", "output_stride", "strides"),
    [("resnet18_x0_25", 4, [1, 1, 2, 4, 4]), ("resnet18_x0_25", 2, [1, 1, 2, 2, 2]),
     ("resnet10_x0_5_s2", 8, [2, 2, 4, 8, 8])],
)  # fmt: skip
def test_dilated_features_have_the_stride_asked_for(name, output_stride, strides):
    model = build(name, features_only=True, output_stride=output_stride).eval()
    with torch.no_grad():
        assert [64 // f.shape[2] for f in model(IMAGES)] == model.feature_info.reduction() == strides


@pytest.mark.parametrize("name", SMALL)
def test_a_pruned_model_keeps_its_features(name):
    model = build(name).eval()
    with torch.no_grad():
        taps = model.forward_intermediates(IMAGES, intermediates_only=True)
        early = model.forward_intermediates(IMAGES, indices=[2], stop_early=True, intermediates_only=True)
        assert len(taps) == 5 and torch.equal(early[0], taps[2])
        assert model.prune_intermediate_layers([2], prune_norm=True) == [2]
        assert torch.equal(model.forward_features(IMAGES), taps[2])


def test_the_shufflenets_parameters_fall_into_groups_by_depth():
    """stem, 16 units, and what is left (conv5 and fc): what layer-wise decay and partial freezing go by."""
    model = build("shufflenet_v2_x1_0")
    groups = list(group_parameters(model, model.group_matcher()).values())
    assert len(groups) == 18
    assert groups[0] == ["conv1.0.weight", "conv1.1.weight", "conv1.1.bias"]
    assert {key.split(".")[0] for key in groups[-1]} == {"conv5", "fc"}
    assert len(group_parameters(model, model.group_matcher(coarse=True))) == 5


@pytest.mark.parametrize("name", SMALL)
def test_timms_conventions(name):
    model = build(name, num_classes=7, in_chans=1, drop_rate=0.2).eval()
    with torch.no_grad():
        features = model.forward_features(IMAGES[:, :1])
        assert features.shape[1] == model.num_features
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, model.head_hidden_size)
        assert torch.equal(model.get_classifier()(pooled), model(IMAGES[:, :1]))
        assert model.get_submodule(model.get_classifier(name_only=True)) is model.get_classifier()
        model.reset_classifier(5, "max")
        assert model(IMAGES[:, :1]).shape == (2, 5)
        model.reset_classifier(0, "")
        assert model(IMAGES[:, :1]).shape == features.shape
        unpooled = build(name, num_classes=0, global_pool="").eval()
        assert unpooled(IMAGES).ndim == 4
        last, taken = unpooled.forward_intermediates(IMAGES, indices=[1, 4])
        assert torch.equal(last, unpooled.forward_features(IMAGES)) and len(taken) == 2


@pytest.mark.parametrize("name", SMALL)
def test_checkpointed_gradients_are_the_same(name):
    assert are_same_when_checkpointed(build(name).eval(), IMAGES)


@pytest.mark.parametrize("name", SMALL)
def test_dropout_acts_before_the_classifier_and_in_training_only(name):
    model = build(name, drop_rate=0.9)
    features = torch.ones(8, model.num_features, 2, 2)
    assert 0.02 < (model.train().forward_head(features, pre_logits=True) != 0).float().mean() < 0.3
    assert torch.equal(model.eval().forward_head(features, pre_logits=True), features[:, :, 0, 0])


def test_meta_device_has_the_same_shapes():
    for name in SMALL:
        with torch.device("meta"):
            meta = build(name)
        assert all(t.is_meta for t in meta.state_dict().values())
        real = build(name)
        assert {k: v.shape for k, v in meta.state_dict().items()} == {k: v.shape for k, v in real.state_dict().items()}


@pytest.mark.parametrize(("name", "parameters"), [("resnet18_x1", 11_173_962)])
def test_size_of_the_cifar_family(name, parameters):
    """x1 is the ResNet-18 for CIFAR that the field uses: 11,173,962 parameters (kuangliu/pytorch-cifar)."""
    assert sum(p.numel() for p in build(name).parameters()) == parameters


def test_importing_and_building_register_nothing():
    code = (
        "import timm; before = timm.list_models(); from robust_zoo.architectures.build import build;"
        "build('resnet18_x0_25'); assert timm.list_models() == before"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_registering_is_idempotent():
    register_architectures()
    names = set(timm.list_models())
    register_architectures()
    assert set(timm.list_models()) == names >= set(OURS)
    with torch.device("meta"):
        assert timm.create_model("wide_resnet50_4", num_classes=3).num_classes == 3


def test_unknown_names_and_impossible_requests():
    with pytest.raises(UnknownCheckpoint) as error:
        build("shuflenet_v2_x1_0")
    assert error.value.exit_code == 4 and error.value.actual == "'shuflenet_v2_x1_0'"
    closest = error.value.expected.partition("closest: ")[2].split(", ")
    assert closest[0] == "shufflenet_v2_x1_0" and len(closest) == 3
    with pytest.raises(ValueError, match="output_stride"):
        build("shufflenet_v2_x1_0", output_stride=16)
