"""Pictures of models whose best picture is known: linear ones, in float64; and what depends on what."""

import math

import pytest
import torch
from torch import nn

from robust_zoo import visualization
from robust_zoo.errors import UsageError
from robust_zoo.pixels import pixel_model
from robust_zoo.visualization import Search
from robust_zoo.visualization.engine import noise
from robust_zoo.visualization.saliency import as_pictures

SHAPE = (3, 8, 8)
N = math.prod(SHAPE)
RNG = torch.Generator().manual_seed(0)


class Linear(nn.Module):
    """Features A x, logits B A x, as a timm model gives them."""

    def __init__(self, weight, head):
        super().__init__()
        self.weight, self.head = nn.Parameter(weight), nn.Parameter(head)

    def forward_features(self, images):
        return images.flatten(1) @ self.weight.T

    def forward_head(self, features, pre_logits=False):
        return features if pre_logits else features @ self.head.T

    def forward(self, images):
        return self.forward_head(self.forward_features(images))


def linear(rows=5, classes=2):
    """Orthonormal rows as features: the way to other features is a straight line."""
    weight = torch.linalg.qr(torch.randn(N, rows, generator=RNG, dtype=torch.float64))[0].T.contiguous()
    model = Linear(weight, torch.randn(classes, rows, generator=RNG, dtype=torch.float64))
    return pixel_model(model.eval(), mean=(0, 0, 0), std=(1, 1, 1)), weight, model.head.detach()


def grey(count):
    """In the middle of the cube, where no side of it is in the way."""
    return 0.45 + 0.1 * torch.rand(count, *SHAPE, generator=RNG, dtype=torch.float64)


def sizes(images):
    return images.flatten(1).norm(dim=1)


def test_a_class_of_a_linear_model_is_its_weight_on_the_balls_edge():
    """Of two classes the cross-entropy's gradient is along the difference of their weights, wherever it is taken."""
    model, weight, head = linear()
    starts, labels = grey(6), torch.arange(6) % 2
    found = visualization.synthesise(model, labels, images=starts, search=Search(0.3, 0.05, 20))
    towards = (head[1] - head[0]) @ weight
    sign = torch.where(labels == 1, 1.0, -1.0).double()
    expected = starts + (0.3 * sign[:, None] * towards / towards.norm()).view(-1, *SHAPE)
    assert torch.allclose(found, expected, atol=1e-9)
    short = visualization.synthesise(model, labels, images=starts, search=Search(0.3, 0.05, 3))
    assert torch.allclose(sizes(short - starts), torch.full((6,), 0.15, dtype=torch.float64), atol=1e-9)
    assert torch.equal(visualization.more_like(model, starts, labels, search=Search(0.3, 0.05, 20)), found)


def test_the_features_of_a_linear_map_are_reached_on_the_shortest_way():
    """min |x - x0| with A x = A t, for A of orthonormal rows: x0 + A'A (t - x0); what A does not see stays."""
    model, weight, _ = linear()
    images, starts = grey(4), grey(4)
    way = ((images - starts).flatten(1) @ weight.T @ weight).view(-1, *SHAPE)
    step = 1e-3
    steps = int(sizes(way).max() / step) + 1
    found = visualization.invert(model, images, starts=starts, search=Search(1000.0, step, steps))
    assert (sizes(found - (starts + way)) <= step).all() and (sizes(way) > 10 * step).all()
    near = sizes(way).min().item() / 2
    held = visualization.invert(model, images, starts=starts, search=Search(near, near / 10, 20))
    assert torch.allclose(held, starts + near * way / sizes(way).view(-1, 1, 1, 1), atol=1e-9)  # the ball's edge


def test_one_feature_goes_up_along_its_row():
    model, weight, _ = linear()
    starts, wanted = grey(3), [4, 0, 2]
    found = visualization.maximise(model, wanted, images=starts, search=Search(0.2, 0.05, 10))
    assert torch.allclose(found, starts + 0.2 * weight[wanted].view(-1, *SHAPE), atol=1e-9)


def test_between_two_images_lie_images_whose_features_do():
    model, weight, _ = linear()
    images, others = grey(2), grey(2)
    found = visualization.interpolate(model, images, others, count=3, search=Search(1000.0, 4e-3, 400))
    assert found.shape == (2, 3, *SHAPE)
    for k, way in enumerate(found.unbind(1), start=1):
        between = ((1 - k / 4) * images + k / 4 * others).flatten(1) @ weight.T
        assert ((way.flatten(1) @ weight.T - between).norm(dim=1) <= 4e-3).all()


def test_the_gradient_of_a_linear_model_is_its_weight():
    model, weight, head = linear()
    images, labels = grey(4), torch.tensor([0, 1, 0, 1])
    found = visualization.gradients(model, images, labels)
    towards = ((head[1] - head[0]) @ weight).view(SHAPE)
    wrong = model(images).softmax(1).gather(1, 1 - labels[:, None]).view(-1, 1, 1, 1)
    sign = torch.where(labels == 0, 1.0, -1.0).view(-1, 1, 1, 1)
    assert torch.allclose(found, sign * wrong * towards, atol=1e-12)
    own = visualization.gradients(model, images)
    assert torch.equal(own, visualization.gradients(model, images, model(images).argmax(1)))
    shown = as_pictures(found)
    assert torch.allclose(shown[0], (towards / (3 * towards.std())).clamp(-1, 1) / 2 + 0.5, atol=1e-6)
    assert as_pictures(torch.zeros(1, *SHAPE)).unique().tolist() == [0.5]


def test_a_model_keeps_its_mode_and_gets_no_gradients():
    model, _, _ = linear()
    model.train()
    visualization.synthesise(model, [0], images=grey(1), search=Search(0.1, 0.1, 1))
    visualization.gradients(model, grey(1))
    assert model.training and all(p.grad is None for p in model.parameters())


def test_noise_is_of_seed_and_place_alone():
    ten = noise(10, SHAPE, seed=3)
    assert torch.equal(ten[:4], noise(4, SHAPE, seed=3)) and not torch.equal(ten, noise(10, SHAPE, seed=4))
    assert ten.mean().item() == pytest.approx(0.5, abs=0.01) and ten.std().item() == pytest.approx(0.05, rel=0.1)
    assert len({tuple(image.flatten()[:3].tolist()) for image in ten}) == 10


ROBUST = "resnet18_x0_25_cifar10_l2_eps0_5"


def test_neither_batches_nor_neighbours_change_a_picture():
    few = Search(2.0, 0.5, 4)
    together = visualization.synthesise(ROBUST, ["cat", "dog", 5, "5"], search=few)
    apart = visualization.synthesise(ROBUST, ["cat", "dog", 5, "5"], search=few, batch_size=1)
    assert torch.equal(together, visualization.synthesise(ROBUST, [3, 5, 5, 5], search=few))
    assert (together - apart).abs().max() < 1e-3 < (together[1] - together[2]).abs().max()
    assert torch.allclose(together[:2], visualization.synthesise(ROBUST, ["cat", "dog"], search=few), atol=1e-3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: visualization.synthesise(m, [2], images=grey(1)), "0 to 1"),
        (lambda m: visualization.synthesise(m, ["cat"], images=grey(1)), "name the checkpoint"),
        (lambda m: visualization.synthesise(m, [0.5], images=grey(1)), "a whole number, 0 to 1"),
        (lambda m: visualization.synthesise(m, [], images=grey(0)), "a class for each image"),
        (lambda m: visualization.synthesise(m, [0, 1], images=grey(1)), "2 images"),
        (lambda m: visualization.synthesise(m, [0], images=2 + grey(1)), "not yet normalised"),
        (lambda m: visualization.synthesise(m, [0]), "images to begin at"),
        (lambda m: visualization.maximise(m, [5], images=grey(1)), "0 to 4"),
        (lambda m: visualization.interpolate(m, grey(2), grey(1)), "2 images"),
        (lambda m: visualization.invert(m.model.requires_grad_(), grey(1)), "how does Linear want"),
        (lambda m: visualization.maximise(pixel_model(nn.Sequential(m)), [0], images=grey(1)), "forward_features"),
        (lambda m: visualization.synthesise(ROBUST, ["emu"]), "closest: "),
        (lambda m: Search(0.0, 1.0, 1), "above 0"),
    ],
)
def test_bad_calls_say_what_to_do(call, words):
    model, _, _ = linear()
    model.pretrained_cfg = {"num_classes": 2, "mean": (0,) * 3, "std": (1,) * 3}
    with pytest.raises(UsageError) as error:
        call(model)
    assert words in str(error.value) and error.value.expected and error.value.actual and error.value.next
