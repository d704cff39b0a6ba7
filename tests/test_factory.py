"""create_model as a drop-in for timm's, with the weights of the bundled robust model as a known answer."""

import importlib.util
import json
import warnings
from functools import partial

import checkpoints
import pytest
import timm
import torch
from safetensors.torch import load_file

import robust_zoo
from robust_zoo.errors import NewHeadWarning, UnknownCheckpoint, UsageError
from robust_zoo.hub import entry_points
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import DATA
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.weights.safetensors_file import write_safetensors

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
GELU = "resnet50_gelu_rodriguezmunoz2024_linf_eps4"
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def reference():
    return robust_zoo.create_model(NAME).eval()


def test_weights_are_the_files_and_nothing_is_left_on_meta(reference):
    stored = load_file(DATA / get(NAME).file)
    assert stored.keys() == reference.state_dict().keys()
    assert all(torch.equal(stored[k], v) for k, v in reference.state_dict().items())
    assert not any(t.is_meta for t in (*reference.parameters(), *reference.buffers()))
    assert all(p.requires_grad for p in reference.parameters())
    assert robust_zoo.create_model(NAME).training  # timm's models come in train mode


def test_accuracy_on_the_sample_agrees_with_the_row(reference):
    data = cifar10_sample(50)
    with torch.no_grad():
        logits = robust_zoo.pixel_model(reference)(data.images.float() / 255)
    accuracy = 100 * (logits.argmax(1) == data.labels).float().mean()
    assert abs(accuracy - get(NAME).clean_accuracy) < 6  # 3 standard errors of 500 images


def test_preprocessing_belongs_to_the_weights(reference):
    config = timm.data.resolve_data_config(model=reference)
    row = get(NAME).preprocessing
    assert (config["input_size"], config["mean"], config["std"]) == (row.input_size, row.mean, row.std)
    model = robust_zoo.create_model("mobilenet_l2_eps3", pretrained=False)
    config = timm.data.resolve_data_config(model=model)
    assert config["input_size"] == (3, 224, 224) and config["interpolation"] == "bilinear"
    assert config["crop_pct"] == 0.875 and config["mean"] == (0.485, 0.456, 0.406)
    assert (
        robust_zoo.create_model(
            "mobilenet_l2_eps3", pretrained=False, pretrained_cfg_overlay={"crop_pct": 0.9}
        ).pretrained_cfg["crop_pct"]
        == 0.9
    )


def test_a_new_head_warns_and_keeps_the_backbone(reference):
    with pytest.warns(NewHeadWarning, match="do not apply"):
        model = robust_zoo.create_model(NAME, num_classes=37).eval()
    with torch.no_grad():
        assert model(IMAGES).shape == (2, 37)
        assert torch.equal(model.forward_features(IMAGES), reference.forward_features(IMAGES))
    assert "state_dict" not in model.pretrained_cfg


def test_no_head_does_not_warn(reference):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = robust_zoo.create_model(NAME, num_classes=0).eval()
        robust_zoo.create_model(NAME, num_classes=10)
    with torch.no_grad():
        pooled = reference.forward_head(reference.forward_features(IMAGES), pre_logits=True)
        assert torch.equal(model(IMAGES), pooled)


def test_other_channels_are_adapted_as_timm_does(reference):
    with pytest.warns(NewHeadWarning, match="1 channels"):
        model = robust_zoo.create_model(NAME, in_chans=1).eval()
    assert torch.allclose(model.conv1.weight, reference.conv1.weight.sum(1, keepdim=True), atol=1e-6)


def test_features_only(reference):
    model = robust_zoo.create_model(NAME, features_only=True, out_indices=(1, 4)).eval()
    with torch.no_grad():
        first, last = model(IMAGES)
        assert torch.equal(last, reference.forward_features(IMAGES))
    assert (first.shape[1], last.shape[1]) == tuple(model.feature_info.channels())


@pytest.mark.parametrize(
    ("arguments", "attribute", "value"),
    [
        ({"drop_rate": 0.3}, "drop_rate", 0.3),
        ({"global_pool": "max"}, "global_pool.pool_type", "max"),
        ({"num_classes": 0, "global_pool": ""}, "num_classes", 0),
        ({"scriptable": True}, "num_classes", 10),
        ({"exportable": True, "no_jit": True}, "num_classes", 10),
        ({"drop_path_rate": None}, "num_classes", 10),
        ({"dtype": torch.float64}, "conv1.weight.dtype", torch.float64),
        ({"device": "cpu"}, "conv1.weight.device", torch.device("cpu")),
    ],
)
def test_timms_arguments(arguments, attribute, value):
    found = robust_zoo.create_model(NAME, **arguments)
    for part in attribute.split("."):
        found = getattr(found, part)
    assert found == value


def test_pretrained_false_is_random(reference):
    model = robust_zoo.create_model(NAME, pretrained=False)
    assert not torch.equal(model.conv1.weight, reference.conv1.weight)
    assert robust_zoo.create_model("resnet18", pretrained=False, num_classes=3).num_classes == 3


@pytest.mark.parametrize("kind", ["robustness", "torchvision", "safetensors"])
def test_a_users_own_checkpoint(tmp_path, kind, own_machine):
    network = checkpoints.network("shufflenet")
    state = dict(network.state_dict())
    path = tmp_path / f"mine.{kind}"
    if kind == "safetensors":
        write_safetensors(path, state, {})
    else:
        torch.save(checkpoints.checkpoint(state) if kind == "robustness" else state, path)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(images)
        assert torch.equal(robust_zoo.create_model("shufflenet", checkpoint_path=path).eval()(images), expected)
        assert list((own_machine / "private").glob("*.safetensors"))
        again = robust_zoo.create_model("shufflenet_l2_eps3", checkpoint_path=path).eval()
        assert torch.equal(again(images), expected)
        with pytest.warns(NewHeadWarning):
            head = robust_zoo.create_model("shufflenet", checkpoint_path=path, num_classes=5).eval()
        assert torch.equal(head.forward_head(head.forward_features(images), pre_logits=True), _pooled(network, images))


def _pooled(network, images):
    features = network.maxpool(network.conv1(images))
    for layer in (network.stage2, network.stage3, network.stage4, network.conv5):
        features = layer(features)
    return features.mean([2, 3])


def test_a_users_own_classes_and_normaliser_are_read_from_the_file(tmp_path, monkeypatch):
    network = checkpoints.network("shufflenet")
    network.fc = torch.nn.Linear(1024, 7)
    monkeypatch.setattr(checkpoints, "MEAN", (0.1, 0.2, 0.3))
    torch.save(checkpoints.checkpoint(dict(network.state_dict())), tmp_path / "mine.ckpt")
    model = robust_zoo.create_model("shufflenet", checkpoint_path=tmp_path / "mine.ckpt")
    assert model.num_classes == 7
    assert model.pretrained_cfg["mean"] == (0.1, 0.2, 0.3)
    pixels = robust_zoo.pixel_model(model)
    assert pixels.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_wrong_calls():
    with pytest.raises(UnknownCheckpoint, match="closest"):
        robust_zoo.create_model("resnet50_l2_eps33")
    with pytest.raises(UnknownCheckpoint):
        robust_zoo.create_model("resnet50")  # an architecture has no weights of its own here
    with pytest.raises(UsageError, match="tag"):
        robust_zoo.create_model(NAME, pretrained_cfg="a1_in1k")
    with pytest.raises(UsageError, match="no such file"):
        robust_zoo.create_model("resnet18", checkpoint_path="/nothing.ckpt")


def test_pixel_model_has_gradient_at_the_bounds(reference):
    """The reason there is no clamp: torch gives a clamp's bound no gradient, which hides saturated pixels."""
    pixels = robust_zoo.pixel_model(reference)
    assert isinstance(pixels, PixelModel) and not pixels.training
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(pixels(images).logsumexp(1).sum(), images)
    assert (grad != 0).float().mean() > 0.99
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (get(NAME).preprocessing.mean, get(NAME).preprocessing.std))
    with torch.no_grad():
        assert torch.allclose(pixels(IMAGES), reference((IMAGES - mean) / std))


def test_timm_names():
    robust_zoo.register_with_timm()
    names = timm.list_models()
    robust_zoo.register_with_timm()
    assert timm.list_models() == names
    assert set(robust_zoo.list_models()) <= set(names)
    model = timm.create_model(NAME, pretrained=True, num_classes=10).eval()
    with torch.no_grad():
        assert torch.equal(model(IMAGES), robust_zoo.create_model(NAME).eval()(IMAGES))
    untrained = timm.create_model(NAME, num_classes=4)  # timm's own default: random weights
    assert untrained.num_classes == 4 and not torch.equal(untrained.conv1.weight, model.conv1.weight)
    assert set(robust_zoo.list_models()) <= set(timm.list_models(pretrained=True))


@pytest.mark.parametrize("made", ["timm", "torch.hub"])
def test_a_name_elsewhere_brings_its_arguments(made):
    """What no file says: timm's own resnet50 has ReLU."""
    robust_zoo.register_with_timm()
    make = partial(timm.create_model, GELU) if made == "timm" else entry_points()[GELU]
    with torch.device("meta"):
        model = make(pretrained=False)
    kinds = {type(module).__name__ for module in model.modules()}
    assert "GELU" in kinds and "ReLU" not in kinds


def test_torch_hub(tmp_path, monkeypatch, reference):
    """list and help read torch.hub's copy of a repository; load(source="local") a checkout."""
    from pathlib import Path

    root = Path(__file__).parents[1]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "someone_zoo_main").symlink_to(root)
    names = torch.hub.list("someone/zoo:main", trust_repo=True, verbose=False)
    assert set(robust_zoo.list_models()) <= set(names)
    text = torch.hub.help("someone/zoo:main", "resnet50_l2_eps3", trust_repo=True)
    assert "62.83 %" in text and "reported by" in text
    model = torch.hub.load(str(root), NAME, source="local").eval()
    with torch.no_grad():
        assert torch.equal(model(IMAGES), reference(IMAGES))
    assert not torch.equal(
        torch.hub.load(str(root), NAME, source="local", pretrained=False).conv1.weight, reference.conv1.weight
    )


def test_hubconf_exposes_entry_points_only():
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("hubconf", Path(__file__).parents[1] / "hubconf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    public = {name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")}
    assert public == set(robust_zoo.list_models())
    assert all(importlib.util.find_spec(d) for d in module.dependencies)


@pytest.mark.parametrize("words", [{"progress": False}, {"map_location": "cpu"}, {"map_location": torch.device("cpu")}])
def test_torch_hubs_words(words, reference):
    from pathlib import Path

    for load in (
        lambda **words: robust_zoo.create_model(NAME, **words),
        lambda **words: torch.hub.load(str(Path(__file__).parents[1]), NAME, source="local", **words),
    ):
        with torch.no_grad():
            assert torch.equal(load(**words).eval()(IMAGES), reference(IMAGES))


def test_progress_reaches_the_download(monkeypatch):
    from robust_zoo import factory

    asked = []
    monkeypatch.setattr(factory, "ensure", lambda *_, **how: asked.append(how["progress"]) or 1 / 0)
    for progress in (False, True):
        with pytest.raises(ZeroDivisionError):
            robust_zoo.create_model("resnet18_l2_eps3", progress=progress)
    assert asked == [False, True]


@pytest.mark.parametrize(
    "words",
    [
        {"map_location": "cpu", "device": "meta"},
        {"map_location": lambda storage, location: storage},
        {"map_location": {"cuda:0": "cpu"}},
        {"weights": "DEFAULT"},
    ],
    ids=["two devices", "a function", "a dict", "weights"],
)
def test_words_that_mean_something_else_elsewhere(words):
    with pytest.raises(UsageError) as error:
        robust_zoo.create_model(NAME, **words)
    assert error.value.expected and error.value.actual and error.value.next


def test_a_repository_of_timms_says_how_it_is_loaded(tmp_path, reference):
    """timm has no such architecture, and importing robust_zoo registers nothing: the config.json says what to call."""
    import subprocess
    import sys

    timm.models.save_for_hf(reference, tmp_path / "saved", safe_serialization=True)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "robust_zoo.register_with_timm()" in config["pretrained_cfg"]["notes"][0]
    with torch.no_grad():
        torch.save((IMAGES, reference(IMAGES)), tmp_path / "logits.pt")
    fresh = """
import sys, robust_zoo, timm, torch
robust_zoo.register_with_timm()
model = timm.create_model(f"local-dir:{sys.argv[1]}/saved", pretrained=True).eval()
images, logits = torch.load(f"{sys.argv[1]}/logits.pt", weights_only=True)
assert torch.equal(model(images), logits)
assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 32, 32)
"""
    found = subprocess.run([sys.executable, "-c", fresh, str(tmp_path)], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
