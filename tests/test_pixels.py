"""pixel_model: whatever wraps a network, the logits are those of (images - mean) / std; or it is refused."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.transforms import Normalize, Resize, v2

import robust_zoo
from robust_zoo.errors import UsageError
from robust_zoo.normalisation import for_channels
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.lookup import get

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
MEAN, STD = get(NAME).preprocessing.mean, get(NAME).preprocessing.std
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network():
    return robust_zoo.create_model(NAME).eval()


@pytest.fixture(scope="module")
def logits(network):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        return network((IMAGES - mean) / std)


def in_ddp(network, path):
    torch.distributed.init_process_group("gloo", store=torch.distributed.FileStore(str(path), 1), rank=0, world_size=1)
    return nn.parallel.DistributedDataParallel(network)


class ImageNormalizer(nn.Module):
    """As RobustBench's."""

    def __init__(self, mean=MEAN, std=STD):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images):
        return (images - self.mean) / self.std


WRAPPERS = {
    "bare": lambda m: m,
    "DataParallel": nn.DataParallel,
    "AveragedModel": lambda m: AveragedModel(m).eval(),
    "timm's EMA": lambda m: timm.utils.ModelEmaV3(m).eval(),
    "torch.compile": lambda m: torch.compile(m, backend="eager"),
    "nested": lambda m: AveragedModel(nn.Sequential(nn.DataParallel(torch.compile(m, backend="eager")))).eval(),
    "Sequential": nn.Sequential,
    "Sequential in Sequential": lambda m: nn.Sequential(nn.Identity(), nn.Sequential(m, nn.Identity())),
    "Normalize": lambda m: nn.Sequential(Normalize(MEAN, STD), m),
    "Normalize, v2": lambda m: nn.DataParallel(nn.Sequential(v2.Normalize(MEAN, STD), nn.DataParallel(m))),
    "a normalising layer": lambda m: nn.Sequential(ImageNormalizer(), m),
    "pixel_model": robust_zoo.pixel_model,
    "DataParallel of pixel_model": lambda m: nn.DataParallel(robust_zoo.pixel_model(m)),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapper_changes_no_logit(kind, network, logits):
    pixels = robust_zoo.pixel_model(WRAPPERS[kind](network))
    assert not network.training
    with torch.no_grad():
        torch.testing.assert_close(pixels(IMAGES), logits)


def test_distributed(network, logits, tmp_path):
    try:
        with torch.no_grad():
            torch.testing.assert_close(robust_zoo.pixel_model(in_ddp(network, tmp_path / "store"))(IMAGES), logits)
    finally:
        torch.distributed.destroy_process_group()


def test_the_mode_is_handed_on(network):
    pixels = robust_zoo.pixel_model(nn.DataParallel(network))
    assert network.training is False
    pixels.train()
    assert network.training
    pixels.eval()
    assert not network.training


class Wrapper(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, images):
        return self.module(images)


class Transparent(Wrapper):
    """It answers for what it wraps, and may well normalise by itself."""

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


REFUSED = {
    "no statistics": (lambda m: torchvision.models.resnet18(), "ResNet, without a pretrained_cfg"),
    "taken apart": (lambda m: nn.Sequential(*m.children()), "Sequential that begins with Conv2d"),
    "a wrapper of one's own": (Wrapper, f"CifarResNet, of mean {MEAN}, std {STD}"),
    "a transparent wrapper": (Transparent, f"CifarResNet, of mean {MEAN}, std {STD}"),
    "resized first": (lambda m: nn.Sequential(Resize(32), m), "begins with Resize; in it CifarResNet"),
    "TorchScript": (torch.jit.script, "RecursiveScriptModule"),
    "other statistics": (lambda m: nn.Sequential(Normalize((0.5,) * 3, (0.5,) * 3), m), "mean (0.5, 0.5, 0.5)"),
    "normalised twice": (lambda m: nn.Sequential(ImageNormalizer(), robust_zoo.pixel_model(m)), "mean (0.491"),
    "empty": (lambda m: nn.Sequential(), "Sequential, without"),
    "a list": (lambda m: nn.ModuleList([m]), "ModuleList"),
    "a function": (lambda m: lambda images: images, "function"),
}


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_say_is_refused_by_name(kind, network):
    wrap, words = REFUSED[kind]
    with pytest.raises(UsageError) as error:
        robust_zoo.pixel_model(wrap(network))
    assert words in error.value.actual and error.value.next


def test_the_next_step_of_a_refusal_works(network, logits):
    with torch.no_grad():
        given = robust_zoo.pixel_model(Wrapper(network), mean=MEAN, std=torch.tensor(STD))
        torch.testing.assert_close(given(IMAGES), logits)
        whole = nn.Sequential(ImageNormalizer(), Wrapper(network))
        plain = robust_zoo.pixel_model(whole, mean=(0, 0, 0), std=(1, 1, 1))
        torch.testing.assert_close(plain(IMAGES), logits)


@pytest.mark.parametrize(
    "statistics",
    [
        {"mean": MEAN},
        {"std": STD},
        {"mean": (123.7, 116.8, 103.9), "std": (58.4, 57.1, 57.4)},
        {"mean": MEAN, "std": (0.2, 0.0, 0.2)},
        {"mean": MEAN, "std": (0.2, float("nan"), 0.2)},
        {"mean": MEAN[:2], "std": STD},
        {"mean": "0.5", "std": "0.5"},
    ],
    ids=str,
)
def test_numbers_that_are_no_statistics(statistics, network):
    with pytest.raises(UsageError, match="no statistics"):
        robust_zoo.pixel_model(network, **statistics)


@pytest.mark.parametrize(
    "images",
    [
        (IMAGES * 255).byte(), IMAGES * 255, (IMAGES * 255).half(), (IMAGES * 65535).double(), (IMAGES * 255).long(),
        IMAGES > 0.5, IMAGES.byte()[:0], IMAGES + 0j,
    ],
    ids=lambda images: str(images.dtype),
)  # fmt: skip
def test_images_that_were_not_divided_by_255(images, network):
    with pytest.raises(UsageError, match=r"not in \[0, 1\]"):
        robust_zoo.pixel_model(network)(images)


def test_smoothing_noise_and_no_image_pass(network):
    pixels = robust_zoo.pixel_model(network)
    noise = torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(0))
    assert pixels(IMAGES + noise).shape == (2, 10) and pixels(IMAGES[:0]).shape == (0, 10)


TOOLS = {
    "script": lambda p: torch.jit.script(p),
    "trace": lambda p: torch.jit.trace(p, IMAGES),
    "export": lambda p: torch.export.export(p, (IMAGES,)).module(),
    "symbolic_trace": torch.fx.symbolic_trace,
    "compile": lambda p: torch.compile(p, backend="eager", fullgraph=True),
    "vmap": lambda p: torch.func.vmap(lambda image: p(image[None])[0]),
}


@pytest.mark.filterwarnings("ignore:`torch.jit")  # they are deprecated, and used
@pytest.mark.parametrize("tool", TOOLS)
def test_torchs_tools_take_it(tool, network, logits):
    with torch.no_grad():
        torch.testing.assert_close(TOOLS[tool](robust_zoo.pixel_model(network))(IMAGES), logits)


def test_timms_transform_of_it_does_not_normalise_again(network):
    pixels = robust_zoo.pixel_model(network)
    config = timm.data.resolve_model_data_config(pixels)
    assert config["mean"] == (0, 0, 0) and config["std"] == (1, 1, 1)
    plain = timm.data.resolve_model_data_config(network)
    assert {k: v for k, v in config.items() if k not in ("mean", "std")} == {
        k: v for k, v in plain.items() if k not in ("mean", "std")
    }
    image = torchvision.transforms.ToPILImage()(IMAGES[0])
    ours, timms = (timm.data.create_transform(**c, is_training=False)(image)[None] for c in (config, plain))
    with torch.no_grad():
        torch.testing.assert_close(pixels(ours), network(timms))
    bare = timm.data.resolve_model_data_config(PixelModel(nn.Flatten(), (0.5,) * 3, (0.5,) * 3))
    assert bare["mean"] == (0, 0, 0)


@pytest.mark.filterwarnings("ignore::robust_zoo.errors.NewHeadWarning")
@pytest.mark.parametrize("channels", [1, 2, 4, 6])
@pytest.mark.parametrize("how", [{}, {"pretrained": False}, {"features_only": True}], ids=str)
def test_statistics_follow_the_channels(channels, how):
    model = robust_zoo.create_model(NAME, in_chans=channels, **how)
    assert model.pretrained_cfg["input_size"] == (channels, 32, 32)
    assert len(model.pretrained_cfg["mean"]) == len(model.pretrained_cfg["std"]) == channels
    assert robust_zoo.pixel_model(model).mean.shape == (channels, 1, 1)
    robust_zoo.pixel_model(model)(torch.rand(2, channels, 32, 32))


@pytest.mark.filterwarnings("ignore::robust_zoo.errors.NewHeadWarning")
def test_the_same_image_twice_in_six_channels_gives_the_same_logits(logits):
    """timm halves the weights and repeats them; so each half sees what it saw only behind the statistics repeated."""
    pixels = robust_zoo.pixel_model(robust_zoo.create_model(NAME, in_chans=6).eval())
    with torch.no_grad():
        torch.testing.assert_close(pixels(torch.cat([IMAGES, IMAGES], 1)), logits, atol=1e-4, rtol=1e-4)


def test_channels_of_a_model_of_timms_own():
    assert for_channels((1, 2, 3), 1) == (2,) and for_channels((1, 2, 3), 5) == (1, 2, 3, 1, 2)
    model = timm.create_model("resnet18", in_chans=1)
    assert robust_zoo.pixel_model(model).mean.flatten().tolist() == pytest.approx([sum((0.485, 0.456, 0.406)) / 3])
