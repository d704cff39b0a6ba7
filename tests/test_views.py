"""What a network sees of an image, against timm's own evaluation transform."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from robust_zoo import create_model, pixel_model, transform
from robust_zoo.errors import UsageError
from robust_zoo.registry.families import CROP_MODES, Preprocessing
from robust_zoo.registry.load import load_registry
from robust_zoo.views import View

BUNDLED = "resnet18_x0_25_cifar10_l2_eps0_5"
ROWS = dict.fromkeys(checkpoint.preprocessing for checkpoint in load_registry().checkpoints.values())
OTHERS = [  # settings of robust checkpoints elsewhere, and some of nobody's
    (224, "bicubic", 0.875, "center"), (224, "bicubic", 1.0, "center"), (224, "bilinear", 1.0, "squash"),
    (336, "bicubic", 0.9, "center"), (320, "bilinear", 0.875, "center"), (288, "bicubic", 0.95, "center"),
    (64, "lanczos", 0.9, "squash"), (96, "nearest", 0.8, "center"),
]  # fmt: skip


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Waves under noise, in three colours."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:height, :width]
    waves = np.stack([np.sin(y / 9 + k) + np.cos(x / (7 + k)) for k in range(3)], 2)
    return Image.fromarray((waves * 50 + 128 + rng.normal(0, 12, waves.shape)).clip(0, 255).astype(np.uint8))


def settings(size: int, interpolation: str, crop_pct: float, crop_mode: str) -> Preprocessing:
    mean, std = (0.4, 0.5, 0.45), (0.2, 0.25, 0.3)
    return Preprocessing((3, size, size), interpolation, crop_pct, crop_mode, mean, std, 10)


def timms(p: Preprocessing, **how):
    names = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
    return timm.data.create_transform(**{name: getattr(p, name) for name in names}, **how)


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (40, 61), (224, 224), (256, 341)])
@pytest.mark.parametrize(
    "p", [*ROWS, *(settings(*row) for row in OTHERS)], ids=lambda p: f"{p.input_size[1]} {p.resize}"
)
def test_it_is_timms_bit_for_bit(p, shape):
    image = picture(*shape)
    seen = View.of(p)(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    assert torch.equal(seen, timms(p, normalize=False)(image))


@pytest.mark.parametrize(
    "p", [*ROWS, *(settings(*row) for row in OTHERS)], ids=lambda p: f"{p.input_size[1]} {p.resize}"
)
def test_a_models_transform_is_the_one_that_timm_makes_of_its_cfg(p):
    image = picture(300, 401)
    cfg = {name: getattr(p, name) for name in ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")}
    model = nn.Sequential(nn.Conv2d(3, 2, 1))
    model.pretrained_cfg = cfg
    expected = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=cfg))(image)
    for wrapped in (model, nn.DataParallel(model), nn.Sequential(model)):
        assert torch.equal(transform(wrapped)(image), expected)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    scale = 1 / 255 / min(p.std)
    if p.interpolation in ("nearest", "bilinear", "bicubic"):
        assert (transform(model)(tensor) - expected).abs().max() <= 1.01 * scale


def test_a_name_a_model_and_a_pixel_model():
    image = picture(50, 40)
    model = create_model(BUNDLED).eval()
    of_name, of_model, of_pixels = (
        transform(BUNDLED)(image),
        transform(model)(image),
        transform(pixel_model(model))(image),
    )
    assert type(of_name) is torch.Tensor and of_name.dtype == torch.float32 and of_name.shape == (3, 32, 32)
    assert torch.equal(of_name, of_model)
    assert 0 <= of_pixels.min() <= of_pixels.max() <= 1
    with torch.no_grad():
        torch.testing.assert_close(pixel_model(model)(of_pixels[None]), model(of_name[None]))
    assert torch.equal(transform(BUNDLED)(image.convert("L")), transform(BUNDLED)(image.convert("L").convert("RGB")))
    assert transform(create_model(BUNDLED, pretrained=False, in_chans=1))(image).shape == (1, 32, 32)


def test_labels_and_masks_beside_an_image_are_left_alone():
    image, label = picture(50, 40), torch.tensor([3], dtype=torch.uint8)
    seen, same = transform(BUNDLED)(image, label)
    assert torch.equal(seen, transform(BUNDLED)(image)) and torch.equal(same, label) and same.dtype == torch.uint8
    batch = torch.stack([torch.from_numpy(np.array(picture(50, 40, seed))).permute(2, 0, 1) for seed in (0, 1)])
    assert torch.equal(transform(BUNDLED)(batch)[1], transform(BUNDLED)(batch[1]))
    torch.testing.assert_close(transform(BUNDLED)(batch.float() / 255), transform(BUNDLED)(batch), atol=0.02, rtol=0)


def test_a_model_that_says_nothing_is_refused():
    with pytest.raises(UsageError):
        transform(nn.Conv2d(3, 2, 1))
    normalised = nn.Sequential(v2.Normalize([0.5] * 3, [0.2] * 3), nn.Conv2d(3, 2, 1))
    with pytest.raises(UsageError, match="how large"):
        transform(normalised)


@pytest.mark.parametrize("change", [{"interpolation": "cubic"}, {"crop_mode": "border"}, {"crop_mode": "\x1b[2J"}])
def test_words_that_nobody_knows_are_refused(change):
    with pytest.raises(ValueError, match="none of") as raised:
        replace(settings(*OTHERS[0]), **change)
    assert all(mode in str(raised.value) for mode in CROP_MODES) == ("crop_mode" in change)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(("size", "crop_pct", "resize"), [(224, 0.875, 256), (320, 0.875, 365), (336, 0.9, 373)])
def test_the_shorter_side_is_rounded_down(size, crop_pct, resize):
    assert settings(size, "bicubic", crop_pct, "center").resize == resize
