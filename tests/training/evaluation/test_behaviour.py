"""Fingerprints: what no hash shows (activation, epsilon, which weights, classes, preprocessing) shows in the logits."""

import json
import math
import tomllib
from dataclasses import replace
from functools import partial

import pytest
import torch
from fault_table import command_here, refused
from torch import nn

from robust_zoo.architectures.build import build
from robust_zoo.cards.card import card
from robust_zoo.cli import verify as cli
from robust_zoo.errors import Refused
from robust_zoo.files import read_hashed
from robust_zoo.registry.fingerprint import TOP, Fingerprint, Response
from robust_zoo.registry.formats import Architecture
from robust_zoo.registry.load import TOML, parse
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.training.evaluation.behaviour import fingerprint_of
from robust_zoo.weights.ensure import Weights, ensure
from robust_zoo.weights.safetensors_file import write_safetensors
from robust_zoo.weights.verify import provenance

BUNDLED = get("resnet18_x0_25_cifar10_l2_eps0")
RESNET = ("resnet18_x0_25", {"act_layer": "relu"})
VIT = (
    "vit_tiny_patch16_224",
    {"img_size": 40, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "norm_layer": "1e-6"},
)


def arguments_of(said):
    """timm takes the epsilon of LayerNorm as a layer."""
    if "norm_layer" in said:
        return said | {"norm_layer": partial(nn.LayerNorm, eps=float(said["norm_layer"]))}
    return said


def row_of(built, said, classes=1000, **preprocessing):
    network = Architecture("toy", built, "", "same", 5_000_000, "toy", arguments_of(said))
    usual = replace(BUNDLED.preprocessing, input_size=(3, 40, 40), crop_pct=0.875, num_classes=classes)
    return replace(BUNDLED, network=network, preprocessing=replace(usual, **preprocessing), fingerprint=None)


def state_of(built, said, seed=0):
    torch.manual_seed(seed)
    return build(built, num_classes=1000, **arguments_of(said)).state_dict()


def written(path, row, state):
    """The row of a file, and its weights."""
    sha256 = write_safetensors(path, dict(state), provenance(row, "5a" * 32))
    content, _ = read_hashed(path)
    return replace(row, file=str(path), sha256=sha256), Weights(path, sha256, "pinned", "here", content)


def swapped(state, *, head, classes):
    for name in (f"{head}.weight", f"{head}.bias"):
        value = state[name].clone()
        value[list(classes)] = value[list(reversed(classes))]
        state[name] = value
    return state


def averaged(state, other):
    return {k: v if not v.is_floating_point() else 0.999 * v + 0.001 * other[k] for k, v in state.items()}


FAULTS = {
    "none": lambda built, said, state: (row_of(built, said), state),
    "activation": lambda built, said, state: (row_of(built, said | {"act_layer": "gelu"}), state),
    "epsilon": lambda built, said, state: (row_of(built, said | {"norm_layer": "1e-5"}), state),
    "average": lambda built, said, state: (row_of(built, said), averaged(state, state_of(built, said, 1))),
    "classes": lambda built, said, state: (row_of(built, said), swapped(state, head="head", classes=(700, 701))),
    "resizing": lambda built, said, state: (row_of(built, said, interpolation="bicubic"), state),
    "crop": lambda built, said, state: (row_of(built, said, crop_pct=1.0), state),
    "mean": lambda built, said, state: (row_of(built, said, mean=(0.5, 0.5, 0.5)), state),
}


@pytest.mark.parametrize(
    ("network", "fault"),
    [(RESNET, "none"), (RESNET, "activation"), (VIT, "none")]
    + [(VIT, fault) for fault in FAULTS if fault not in ("none", "activation")],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_no_hash_shows_fails_deep_verification(network, fault, tmp_path, monkeypatch):
    state = state_of(*network)
    right, weights = written(tmp_path / "right.safetensors", row_of(*network), state)
    recorded = fingerprint_of(right, weights, images=2)
    assert not any({700, 701} & {k for k, _ in response.top} for response in recorded.responses)
    row, _ = written(tmp_path / "wrong.safetensors", *FAULTS[fault](*network, state))
    monkeypatch.setattr(cli, "select", lambda _: [replace(row, fingerprint=recorded)])
    if fault == "none":
        assert "behaves as recorded" in command_here("verify", "toy", "--deep").stdout
        return
    result = command_here("verify", "toy", "--deep", "--json")
    text = refused(1, run=lambda: result)
    assert "image 1 of 2 (airplane)" in text and "activation (GELU, ReLU)" in text
    [result] = json.loads(result.stdout)
    assert (result["status"], result["behaviour"], result["state"]) == ("otherwise", "behaves otherwise", "pinned")


@pytest.mark.parametrize("threads", [1, 2])
def test_the_recorded_ones_come_out_again(threads):
    """They were computed by another process, another day."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = fingerprint_of(BUNDLED, ensure(BUNDLED))
    finally:
        torch.set_num_threads(before)
    assert BUNDLED.fingerprint.first_other(found) is None and found.first_other(BUNDLED.fingerprint) is None
    assert [response.top[0][0] for response in found.responses] == [*range(8)]  # it knows the eight images


def test_each_network_has_its_own():
    rows = [get(name) for name in list_models(bundled=True)]
    others = [(a, b) for a in rows for b in rows if a is not b]
    assert others and all(a.fingerprint.first_other(b.fingerprint) == 0 for a, b in others)


def test_a_response_is_what_it_says():
    logits = [0.0, 3.0, -4.0, 1.0, 2.0, 0.5, 0.25]
    response = Response.of(logits)
    assert response.top == ((1, 3.0), (4, 2.0), (3, 1.0), (5, 0.5), (6, 0.25)) and len(response.top) == TOP
    assert response.norm == pytest.approx(math.sqrt(30.3125 / 7), rel=1e-15)
    digest = sum(value * math.cos(k) for k, value in enumerate(logits)) / math.sqrt(7)
    assert response.digest == pytest.approx(digest, rel=1e-12)
    assert Response.parse(str(response)).is_like(response)


@pytest.mark.parametrize("shift", [1e-9, 1e-7, 3e-6, 1e-3])
@pytest.mark.parametrize("k", [1, 2, 6])
def test_responses_are_compared_to_a_millionth_of_their_size(shift, k):
    logits = [0.0, 3.0, -4.0, 1.0, 2.0, 0.5, 0.25]
    other = list(logits)
    other[k] += 4 * shift
    assert Response.of(logits).is_like(Response.of(other)) == (shift < 1e-6)


def test_equal_logits_may_change_places():
    logits = [9.0, 7.0, 5.0, 3.0, 1.0, 1.0 + 1e-9, 0.0]
    other = [9.0, 7.0, 5.0, 3.0, 1.0 + 1e-9, 1.0, 0.0]
    assert [Response.of(one).top[-1][0] for one in (logits, other)] == [5, 4]
    assert Response.of(logits).is_like(Response.of(other))


def test_nan_is_like_nothing():
    broken = Response.of([math.nan] * 7)
    assert not broken.is_like(Response.of([1.0] * 7)) and not broken.is_like(broken)


@pytest.mark.parametrize(
    "line",
    ["", "0:1 norm 1", "0:1 norm 1 digest nan", "a:1 norm 1 digest 1", "0:1 norm x digest 1", "0: norm 1 digest 1"],
)
def test_a_line_that_is_no_response(line):
    data = tomllib.loads(TOML.read_text(encoding="utf-8"))
    next(row for row in data["checkpoint"] if row["name"] == BUNDLED.name)["fingerprint"] = [line]
    with pytest.raises(Refused):
        parse(data)


def test_pin_prints_what_a_row_takes(tmp_path, monkeypatch):
    from robust_zoo.cli import pin

    monkeypatch.setattr(pin, "select", lambda _: [replace(BUNDLED, fingerprint=None)])
    text = command_here("pin", BUNDLED.name, "--deep", "--offline").stdout
    lines = tomllib.loads(text)["fingerprint"]
    assert Fingerprint.parse(lines).first_other(BUNDLED.fingerprint) is None


def test_where_it_is_not_known_it_says_so(monkeypatch):
    unknown = replace(BUNDLED, fingerprint=None)
    monkeypatch.setattr(cli, "select", lambda _: [unknown])
    result = command_here("verify", BUNDLED.name, "--deep")
    assert result.returncode == 0 and "behaviour not verified" in result.stdout
    assert "| behaviour | not verified: " in card(unknown, None) and "| behaviour | recorded; " in card(BUNDLED, None)
