"""Colours of training images: torchvision's blends, the paper's noise, an image's own whatever its batch."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from robust_zoo.training.data import colour
from robust_zoo.training.data.cifar10_sample import cifar10_sample

BLENDS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
IMAGES = cifar10_sample(2).images


def draws(n, seed=0):
    rng = np.random.default_rng(seed)
    return torch.stack([colour.draw(rng) for _ in range(n)])


def test_blends_are_torchvisions_of_uint8_images():
    """But for the last bit of a rounding: none further than a level, next to none apart."""
    how = draws(len(IMAGES))
    how[:, 6:] = 0  # the noise has a test of its own
    found = (colour.colour(IMAGES, how) * 255).round()
    for image, row, ours in zip(IMAGES, how, found, strict=True):
        for which, share in zip(row[:3].int().tolist(), row[3:6].tolist(), strict=True):
            image = BLENDS[which](image, share)
        apart = (ours - image.float()).abs()
        assert apart.max() <= 3 and (apart > 0).float().mean() < 0.002


def test_each_image_keeps_its_own_colours_in_any_batch():
    how = draws(len(IMAGES))
    whole, order = colour.colour(IMAGES, how), torch.randperm(len(IMAGES), generator=torch.Generator().manual_seed(0))
    assert torch.equal(colour.colour(IMAGES[order], how[order]), whole[order])
    assert torch.equal(colour.colour(IMAGES[3:4], how[3:4]), whole[3:4])
    assert whole.min() >= 0 and whole.max() <= 1


def test_draws_that_change_nothing_change_nothing():
    how = torch.stack([colour.unchanged()] * len(IMAGES))
    assert torch.equal(colour.colour(IMAGES, how), IMAGES.float() / 255)


def test_orders_and_shares_are_uniform():
    how = draws(6000)
    orders = (how[:, :3] @ torch.tensor([9.0, 3.0, 1.0])).unique(return_counts=True)[1]
    assert len(orders) == 6 and (orders - 1000).abs().max() < 120  # four standard deviations
    shares = how[:, 3:6]
    assert 0.9 <= shares.min() < 0.901 and 1.099 < shares.max() <= 1.1
    assert shares.mean().item() == pytest.approx(1, abs=0.002)
    assert shares.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.02)


def test_lighting_is_along_the_components_of_colour():
    """Covariance E diag((0.05 l)^2) E^T over many draws (Krizhevsky et al. 2012, section 4.1)."""
    found = draws(20_000)[:, 6:]
    spread_ = torch.diag((0.05 * colour._EIGENVALUES) ** 2)
    expected = colour._EIGENVECTORS @ spread_ @ colour._EIGENVECTORS.T
    assert found.mean(0).abs().max() < 3e-4
    assert torch.allclose(found.T.cov(), expected, atol=0.03 * expected.abs().max().item())
