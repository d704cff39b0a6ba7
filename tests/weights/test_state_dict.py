"""State dicts -> timm's keys: nothing guessed, nothing dropped in silence."""

import random

import checkpoints
import pytest
import torch
from checkpoints import MEAN, ROBUSTNESS, STD, rule_of

from robust_zoo.architectures.build import build
from robust_zoo.errors import Refused, UsageError, VerificationFailed
from robust_zoo.registry.lookup import get_architecture
from robust_zoo.weights import state_dict
from robust_zoo.weights.formats import unwrap
from robust_zoo.weights.key_rules import to_timm


def small():
    """A network's worth of tensors: a weight, a bias, an integer without dimensions."""
    weight = torch.arange(12.0).view(4, 3)
    return {"fc.weight": weight, "fc.bias": torch.arange(4.0), "bn.num_batches_tracked": torch.tensor(7)}


def robust(**changes):
    state = checkpoints.robustness_state(small())
    return {k: v for k, v in (state | changes).items() if v is not None}


def on_meta(build):
    with torch.device("meta"):
        return build().state_dict()


@pytest.mark.parametrize("name", checkpoints.TORCHVISION)
def test_every_architecture_maps_onto_its_timm_model(name):
    """Names and shapes of all ten, without storage; test_convert.py and tests/peers compare the logits."""
    arch = get_architecture(name)
    reference = on_meta(lambda: build(arch.timm))
    mapped = to_timm(on_meta(checkpoints.TORCHVISION[name]), rule_of(arch), reference)
    assert {k: v.shape for k, v in mapped.items()} == {k: v.shape for k, v in reference.items()}
    assert to_timm(reference, rule_of(arch), reference) is reference


@pytest.mark.parametrize("name", ["mobilenet", "mnasnet", "vgg16_bn"])
def test_the_mapping_follows_names_not_the_order_of_the_file(name):
    arch = get_architecture(name)
    reference = on_meta(lambda: build(arch.timm))
    state = on_meta(checkpoints.TORCHVISION[name])
    keys = list(state)
    random.Random(0).shuffle(keys)
    mapped = to_timm({k: state[k] for k in keys}, rule_of(arch), reference)
    in_file_order = to_timm(state, rule_of(arch), reference)
    assert mapped.keys() == reference.keys()
    assert all(mapped[k].shape == in_file_order[k].shape for k in reference)
    if arch.keys == "in_order":
        assert all(mapped[k] is in_file_order[k] for k in reference)


def test_in_order_does_not_bend_a_state_dict_that_does_not_fit():
    arch = get_architecture("mobilenet")
    reference = on_meta(lambda: build(arch.timm))
    state = dict(on_meta(checkpoints.TORCHVISION["mobilenet"]))
    for change in ({"features.0.0.weight": torch.empty(1)}, {"features.0.0.bias": torch.empty(32)}):
        with pytest.raises(VerificationFailed, match="not those of this architecture"):
            state_dict.check(to_timm(state | change, rule_of(arch), reference), reference)


def test_an_unknown_rule_is_an_error():
    with pytest.raises(UsageError, match="sideways"):
        to_timm(small(), "sideways", {})


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_unwrap_gives_the_network_and_its_normaliser(key):
    found = unwrap({key: robust(), "optimizer": {"state": {}}, "epoch": 3}, ROBUSTNESS)
    assert found.state.keys() == small().keys()
    assert all(torch.equal(found.state[k], v) for k, v in small().items())
    assert (found.mean, found.std) == (pytest.approx(MEAN), pytest.approx(STD))
    state_dict.check_normalizer(found, MEAN, STD)


def test_a_checkpoint_without_the_attackers_copy_or_without_data_parallel():
    bare = {k.removeprefix("module."): v for k, v in robust().items() if "attacker" not in k}
    found = unwrap({"model": bare}, ROBUSTNESS)
    assert found.state.keys() == small().keys() and found.mean == pytest.approx(MEAN)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (None, "NoneType"),
        ([], "list"),
        ({}, "keys []"),
        ({"net": {"a": torch.zeros(1)}, "epoch": 3}, "epoch"),
        ({"model": {}}, "keys []"),
        ({"model": {"a": torch.zeros(1), "b": "text"}}, "b"),
        ({"model": {3: torch.zeros(1)}}, "3"),
        ({"a": torch.zeros(1).expand(10**6, 10**6)}, "a"),
        ({"a": torch.eye(3).to_sparse()}, "a"),
        ({"a": torch.zeros(3, device="meta")}, "a"),
    ],
)
def test_what_is_not_a_state_dict_of_stored_tensors_is_refused(raw, word):
    with pytest.raises(Refused) as error:
        unwrap(raw, ROBUSTNESS)
    assert word in error.value.actual and error.value.expected


def test_the_attackers_copy_is_compared_bit_by_bit():
    weight = small()["fc.weight"]
    apart = {"module.attacker.model.fc.weight": weight.clone()}
    assert unwrap(robust(**apart), ROBUSTNESS).state["fc.weight"] is not None
    for other in (
        weight + torch.finfo(torch.float32).eps,  # the first entry is 0
        torch.where(weight == 0, -0.0, weight),
        weight.T.contiguous().view(4, 3),
        weight.double(),
        weight.flatten(),
        None,
    ):
        with pytest.raises(VerificationFailed, match=r"copy of the network differs") as error:
            unwrap(robust(**{"module.attacker.model.fc.weight": other}), ROBUSTNESS)
        assert "fc.weight" in error.value.actual


def test_nan_is_equal_to_its_copy_and_refused_by_name():
    weight = torch.full((4, 3), float("nan"))
    keys = ("module.model.fc.weight", "module.attacker.model.fc.weight")
    found = unwrap(robust(**{key: weight.clone() for key in keys}), ROBUSTNESS)
    with pytest.raises(VerificationFailed, match=r"NaN or infinity"):
        state_dict.check(found.state, small())


NORMALISERS = {
    "no mean": dict.fromkeys(("module.normalizer.new_mean", "module.attacker.normalize.new_mean")),
    "no std": dict.fromkeys(("module.normalizer.new_std", "module.attacker.normalize.new_std")),
    "the attacker's differs": {"module.attacker.normalize.new_std": torch.full((3, 1, 1), 0.5)},
    "NaN": {"module.normalizer.new_mean": torch.full((3, 1, 1), float("nan"))},
    "integers": {"module.normalizer.new_mean": torch.ones(3, 1, 1, dtype=torch.int64)},
    "an image": {"module.normalizer.new_mean": torch.rand(3, 224, 224)},
    "empty": {"module.normalizer.new_mean": torch.rand(0)},
    "zero std": dict.fromkeys(("module.normalizer.new_std", "module.attacker.normalize.new_std"), torch.zeros(3, 1, 1)),
}


@pytest.mark.parametrize("fault", NORMALISERS)
def test_a_normaliser_that_is_none_is_refused(fault):
    with pytest.raises(VerificationFailed, match="normalis"):
        unwrap({"model": robust(**NORMALISERS[fault])}, ROBUSTNESS)


@pytest.mark.parametrize("statistic", [(0.5, 0.5, 0.5), (0.485,), (0.485, 0.456), (0.485, 0.456, 0.406 + 2e-6)])
def test_another_normaliser_than_promised_is_refused(statistic):
    found = unwrap(robust(), ROBUSTNESS)
    with pytest.raises(VerificationFailed, match="another mean"):
        state_dict.check_normalizer(found, statistic, STD)


def test_a_file_without_a_normaliser_promises_nothing():
    state_dict.check_normalizer(unwrap(small(), ROBUSTNESS), MEAN, STD)


def test_check_counts_and_names_the_first_three():
    reference = {f"layer{i}.weight": torch.empty(2, i + 1) for i in range(5)}
    state = {k: torch.zeros_like(v) for k, v in reference.items()}
    state_dict.check(state, reference)
    with pytest.raises(VerificationFailed) as error:
        state_dict.check({"other.weight": torch.zeros(2)}, reference)
    assert error.value.expected == "5 tensors; missing 5: layer0.weight, layer1.weight, layer2.weight"
    assert error.value.actual == "1 tensors; not expected 1: other.weight"
    with pytest.raises(VerificationFailed) as error:
        state_dict.check(state | {"layer3.weight": torch.zeros(2, 9)}, reference)
    assert error.value.expected == "layer3.weight (2, 4) torch.float32"
    assert error.value.actual == "layer3.weight (2, 9) torch.float32"
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(VerificationFailed, match="NaN or infinity") as error:
            state_dict.check(state | {"layer0.weight": torch.full((2, 1), value)}, reference)
        assert error.value.actual == "1 tensors: layer0.weight"


@pytest.mark.parametrize("name", checkpoints.TORCHVISION)
def test_the_number_of_classes_is_read_from_either_librarys_names(name):
    arch = get_architecture(name)
    for state in (on_meta(checkpoints.TORCHVISION[name]), on_meta(lambda: build(arch.timm))):
        assert state_dict.classes(state) == 1000


def test_no_classifier_no_classes():
    for state in ({"conv.weight": torch.zeros(3)}, {"fc.bias": torch.tensor(1.0)}):
        with pytest.raises(Refused, match="no classifier"):
            state_dict.classes(state)
