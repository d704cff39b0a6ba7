"""Our corruptions: moments and closed forms, PIL and scipy as peers; what is random depends on nothing but its key."""

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from robust_zoo.training.corruptions import operators
from robust_zoo.training.corruptions.corrupt import corrupt, rng_of
from robust_zoo.training.corruptions.functions import FUNCTIONS, exchanged, fogged
from robust_zoo.training.corruptions.kinds import GROUPS, KINDS, OWN, SEVERITIES, mean_corruption_error
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.evaluation.corruptions import Corrupted

RNG = np.random.default_rng(0)
PHOTOS = cifar10_sample(2).images.permute(0, 2, 3, 1).numpy()  # (20, 32, 32, 3) uint8
SMOOTH = ndimage.gaussian_filter(RNG.random((48, 48, 3)), (3, 3, 0))
CONSTANT = np.full((48, 48, 3), 0.3)


def apply(kind, image, *strength, seed=0):
    return FUNCTIONS[kind](image, np.random.default_rng(seed), *strength)


def within(measured, expected, error):
    """A statistic within four standard errors."""
    assert abs(measured - expected) < 4 * error, (measured, expected, error)


# --- noise: mean and variance by formula ------------------------------------------------------------------------


@pytest.mark.parametrize("deviation", [0.04, 0.38])
def test_gaussian_noise_adds_its_deviation_and_nothing_else(deviation):
    noise = apply("gaussian_noise", np.full((200, 200, 3), 0.5), deviation) - 0.5
    within(noise.mean(), 0, deviation / noise.size**0.5)
    within(noise.var(), deviation**2, deviation**2 * (2 / noise.size) ** 0.5)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 4 / 200


@pytest.mark.parametrize(("value", "photons"), [(0.2, 500), (0.7, 50), (0.7, 3)])
def test_shot_noise_is_that_of_photons(value, photons):
    noisy = apply("shot_noise", np.full((200, 200, 3), value), photons)
    variance = value / photons
    within(noisy.mean(), value, (variance / noisy.size) ** 0.5)
    fourth = 3 * variance**2 + variance / photons**2  # of a Poisson variable: 3 l^2 + l
    within(noisy.var(), variance, ((fourth - variance**2) / noisy.size) ** 0.5)
    assert np.allclose(noisy * photons, np.rint(noisy * photons))


@pytest.mark.parametrize("share", [0.01, 0.27])
def test_impulse_noise_changes_its_share_to_black_and_white_evenly(share):
    noisy = apply("impulse_noise", np.full((200, 200, 3), 0.5), share)
    assert set(np.unique(noisy)) == {0.0, 0.5, 1.0}
    within((noisy != 0.5).mean(), share, (share * (1 - share) / noisy.size) ** 0.5)
    within((noisy == 0).mean(), share / 2, (share / 2 * (1 - share / 2) / noisy.size) ** 0.5)


# --- closed forms -----------------------------------------------------------------------------------------------


def test_contrast_keeps_each_channels_mean_and_scales_its_deviation():
    changed = apply("contrast", SMOOTH, 0.15)
    assert np.allclose(changed.mean((0, 1)), SMOOTH.mean((0, 1)))
    assert np.allclose(changed.std((0, 1)), 0.15 * SMOOTH.std((0, 1)))


def test_brightness_adds_to_the_value_of_hsv():
    pixels = np.concatenate([RNG.random((8, 8, 3)), np.zeros((8, 1, 3)), np.ones((8, 1, 3))], 1)
    changed = apply("brightness", pixels, 0.3)
    for before, after in zip(pixels.reshape(-1, 3), changed.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        assert np.allclose(after, colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1)))


def test_fog_of_one_thickness_is_a_formula():
    brightest, amount = SMOOTH.max(), 1.5
    for thickness in (0.0, 0.4, 1.0):
        expected = (SMOOTH + amount * thickness) * brightest / (brightest + amount)
        assert np.allclose(fogged(SMOOTH, np.full((48, 48), thickness), amount), expected)
    assert fogged(SMOOTH, np.ones((48, 48)), amount).max() == pytest.approx(brightest)


def test_clouds_fill_the_range_and_are_smoother_the_faster_octaves_decay():
    rough, smooth = (operators.clouds(64, decay, np.random.default_rng(1)) for decay in (1.5, 3.0))
    for field in (rough, smooth):
        assert (field.min(), field.max()) == (0, 1)
    assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()


def test_snow_without_flakes_only_pales_and_flakes_only_brighten():
    share = 0.7
    grey = SMOOTH @ [0.299, 0.587, 0.114]
    paler = share * SMOOTH + (1 - share) * np.maximum(SMOOTH, 1.5 * grey[..., None] + 0.5)
    assert np.allclose(apply("snow", SMOOTH, 0.1, 0.2, 1, 99.0, 8, 3, share), paler)
    fallen = apply("snow", SMOOTH, 0.3, 0.3, 1.25, 0.5, 8, 3, share) - paler
    assert (fallen > -1e-9).all() and fallen.max() > 0.1
    assert np.allclose(fallen, fallen[::-1, ::-1])  # the flakes, and the same turned around


@pytest.mark.parametrize("kind", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform"])
def test_blurs_leave_a_constant_as_it_is(kind):
    for strength in KINDS[kind].small:
        assert np.allclose(apply(kind, CONSTANT, *strength), CONSTANT)


def test_strength_zero_changes_nothing():
    same = {
        "gaussian_noise": (0.0,), "impulse_noise": (0.0,), "zoom_blur": (0, 0.01), "contrast": (1.0,),
        "brightness": (0.0,), "elastic_transform": (0.0, 0.0, 0.0), "fog": (0.0, 2.0),
    }  # fmt: skip
    for kind, strength in same.items():
        assert np.allclose(apply(kind, SMOOTH, *strength), SMOOTH), kind


# --- operators --------------------------------------------------------------------------------------------------


def test_zoom_by_one_is_the_identity_and_a_ramp_is_stretched():
    assert np.array_equal(operators.zoom(32, 1.0), np.eye(32))
    ramp = np.arange(32.0)
    assert np.allclose(operators.zoom(32, 1.25) @ ramp, 15.5 + (ramp - 15.5) / 1.25)
    image = apply("zoom_blur", SMOOTH, 2, 0.1)
    zoomed = [operators.both(operators.zoom(48, factor), SMOOTH) for factor in (1.1, 1.2)]
    assert np.allclose(image, (2 * SMOOTH + sum(zoomed)) / 4)


@pytest.mark.parametrize("sigma", [0.0, 0.4, 2.5, 40.0])
def test_the_gaussian_is_scipys(sigma):
    expected = ndimage.gaussian_filter(SMOOTH, (sigma, sigma, 0), mode="reflect", radius=int(np.ceil(4 * sigma)))
    assert np.allclose(operators.both(operators.gaussian(48, sigma), SMOOTH), expected)


def test_a_points_blur_is_the_disk():
    point = np.zeros((33, 33, 3))
    point[16, 16] = 1
    spread = operators.defocus(point, 3, 0.01)[..., 0]
    rows, columns = np.nonzero(spread > 1e-9)
    assert len(rows) == 29 and ((rows - 16) ** 2 + (columns - 16) ** 2 <= 9).all()
    assert np.allclose(spread[rows, columns], 1 / 29, atol=1e-6)
    assert operators.defocus(point, 10, 0.5).sum() == pytest.approx(3, abs=1e-5)


def test_a_points_streak_is_half_a_gaussian_to_one_side():
    point = np.zeros((41, 41))
    point[20, 20] = 1
    weights = np.exp(-0.5 * (np.arange(13) / 2) ** 2)
    to_the_left = np.zeros((41, 41))
    to_the_left[20, 20 - np.arange(13)] = weights / weights.sum()
    assert np.allclose(operators.streak(point, 6, 2, 0), to_the_left)
    assert np.allclose(operators.streak(point, 6, 2, 90), to_the_left.T)


def test_places_between_pixels_are_scipys():
    y, x = RNG.uniform(-60, 110, (2, 48, 48))
    expected = [ndimage.map_coordinates(SMOOTH[..., c], (y, x), order=1, mode="reflect") for c in range(3)]
    assert np.allclose(operators.sample(SMOOTH, y, x), np.stack(expected, -1))


def test_glass_moves_pixels_and_makes_none():
    for far, rounds in ((1, 1), (4, 2)):
        places = exchanged(20, far, rounds, np.random.default_rng(0))
        assert sorted(places) == list(range(400)) and places != list(range(400))
    assert np.allclose(apply("glass_blur", SMOOTH, 0.0, 1, 1).sum((0, 1)), SMOOTH.sum((0, 1)))


# --- what is done to files: PIL ---------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_and_pixelate_are_pils(severity):
    for photo in PHOTOS[:5]:
        content = io.BytesIO()
        Image.fromarray(photo).save(content, "JPEG", quality=int(KINDS["jpeg_compression"].strength(severity, 32)[0]))
        assert np.array_equal(corrupt(photo, "jpeg_compression", severity), np.asarray(Image.open(content)))
        few = int(32 * KINDS["pixelate"].strength(severity, 32)[0])
        box = Image.fromarray(photo).resize((few, few), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
        assert np.array_equal(corrupt(photo, "pixelate", severity), np.asarray(box))


def test_pixelate_twice_is_pixelate_once():
    """Where the side can be divided: at half and a quarter of 224 pixels."""
    large = np.asarray(Image.fromarray(PHOTOS[0]).resize((224, 224)))
    for severity in (2, 5):
        once = corrupt(large, "pixelate", severity)
        assert np.array_equal(corrupt(once, "pixelate", severity), once) and not np.array_equal(once, large)


# --- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OWN)
def test_every_kind_gives_an_image_and_severity_zero_the_same_one(kind):
    assert np.array_equal(corrupt(PHOTOS[0], kind, 0), PHOTOS[0])
    for severity in SEVERITIES:
        found = corrupt(PHOTOS[0], kind, severity)
        assert (found.shape, found.dtype) == (PHOTOS[0].shape, np.uint8) and not np.array_equal(found, PHOTOS[0])
        assert np.array_equal(found, corrupt(PHOTOS[0], kind, severity))
    large = np.asarray(Image.fromarray(PHOTOS[0]).resize((224, 224)))
    assert corrupt(large, kind, 5).shape == (224, 224, 3)
    black = np.zeros((32, 32, 3), np.uint8)
    assert corrupt(black, kind, 5).shape == black.shape


@pytest.mark.parametrize(
    "kind", ["gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "zoom_blur", "fog", "brightness",
             "contrast", "pixelate", "jpeg_compression"],
)  # fmt: skip
def test_severity_is_severity(kind):
    """Of glass, motion, snow and elastic the official strengths do not rise at each step."""
    changes = [
        np.mean([np.abs(corrupt(photo, kind, severity).astype(int) - photo).mean() for photo in PHOTOS])
        for severity in SEVERITIES
    ]
    assert changes == sorted(changes)


def test_what_is_random_is_keyed_by_seed_image_kind_and_severity():
    def drawn(kind="fog", severity=1, index=0, seed=0):
        return rng_of(kind, severity, index, seed).random()

    found = [drawn(), drawn(kind="snow"), drawn(severity=2), drawn(index=1), drawn(seed=1), drawn(seed=-1)]
    assert len(set(found)) == len(found) and drawn() == found[0]


@pytest.mark.parametrize("kind", ["gaussian_noise", "glass_blur", "elastic_transform"])
def test_order_of_images_and_batches_changes_nothing(kind):
    whole = Corrupted(cifar10_sample(2), kind, 3, seed=5)
    (images, labels), = whole.batches(20)  # fmt: skip
    rows = torch.tensor(RNG.permutation(20)[:11])
    for size in (1, 4):
        some, those = (torch.cat(parts) for parts in zip(*whole.subset(rows).batches(size), strict=True))
        assert torch.equal(some, images[rows]) and torch.equal(those, labels[rows])
    twice = whole.subset(rows).subset(torch.tensor([3]))
    assert torch.equal(next(twice.batches(1))[0][0], images[rows[3]])
    assert torch.equal(images[7], torch.from_numpy(corrupt(PHOTOS[7], kind, 3, index=7, seed=5)).permute(2, 0, 1) / 255)
    hashes = {whole.sha256, whole.subset(rows).sha256, twice.sha256, Corrupted(cifar10_sample(2), kind, 3).sha256}
    assert len(hashes) == 4


def test_the_kinds_are_the_official_fifteen_in_four_groups():
    assert [*KINDS] == [kind for group in GROUPS.values() for kind in group] and len(KINDS) == 15
    assert set(KINDS) - set(OWN) == {"frost"}
    for name in OWN:
        assert len(KINDS[name].small) == len(KINDS[name].large) == 5


def test_mce_is_100_for_alexnet_and_relative_to_it():
    alexnet = {name: 100 * (1 - kind.alexnet) for name, kind in KINDS.items()}
    assert mean_corruption_error(alexnet) == pytest.approx(100)
    assert mean_corruption_error({name: 50 + value / 2 for name, value in alexnet.items()}) == pytest.approx(50)
    fog = alexnet | {"fog": 100.0}
    assert mean_corruption_error(fog) == pytest.approx(100 * 14 / 15)
    with pytest.raises(KeyError):
        mean_corruption_error({name: value for name, value in alexnet.items() if name != "frost"})
