"""What plain timm builds each network with, as [architecture.X] says: against timm itself and the table of networks."""

import tomllib

import pytest
import timm
import torch
from timm.models import model_entrypoint

from robust_zoo.architectures.build import NETWORKS, build
from robust_zoo.errors import Refused
from robust_zoo.registry.load import TOML, load_registry, parse

ARCHITECTURES = load_registry().architectures
TRANSLATED = [  # other words of plain timm than our own
    name for name, row in ARCHITECTURES.items() if row.plain_timm and row.plain_timm != row.timm
]


def timms_own(name):
    """Whether timm itself has this name, whatever was registered with it since."""
    return timm.is_model(name) and model_entrypoint(name).__module__.startswith("timm.models.")


def both(row, device="meta"):
    """The network as we build it, and as a published file says it to timm."""
    builder, arguments = row.published
    with torch.device(device):
        return build(row.timm, **row.arguments), timm.create_model(builder, num_classes=1000, **arguments)


@pytest.mark.parametrize("row", ARCHITECTURES.values(), ids=lambda row: row.name)
def test_plain_timm_builds_what_the_row_says_or_nothing(row):
    """One that it does not build is one of ours; one of ours that it builds has other words there."""
    assert timms_own(row.timm) != (row.timm in NETWORKS)
    if row.plain_timm:
        assert timms_own(row.plain_timm)
        same = (row.plain_timm, row.plain_arguments) == (row.timm, row.arguments)
        assert same == (row.timm not in NETWORKS)
    else:
        assert row.timm in NETWORKS and not row.plain_arguments
    builder, arguments = row.published
    assert builder == (row.plain_timm or row.timm) and "num_classes" not in arguments


def test_the_networks_that_timm_lacks_and_can_build():
    assert TRANSLATED == ["wide_resnet50_4", "xcit_large_12_p16_224", "xcit_medium_12_p16_224"]
    assert sum(not row.plain_timm for row in ARCHITECTURES.values()) == 13


@pytest.mark.parametrize("name", TRANSLATED)
def test_the_same_network_in_other_words(name):
    """The same modules with the same settings, and tensors of the same names and shapes."""
    ours, theirs = both(ARCHITECTURES[name])
    assert repr(ours) == repr(theirs)
    assert [(key, t.shape) for key, t in ours.state_dict().items()] == [
        (key, t.shape) for key, t in theirs.state_dict().items()
    ]


@pytest.mark.peers
@pytest.mark.parametrize("name", TRANSLATED)
def test_the_same_logits_in_other_words(name):
    """With about 1 GB for the largest: not in every run."""
    ours, theirs = (model.eval() for model in both(ARCHITECTURES[name], "cpu"))
    theirs.load_state_dict(ours.state_dict())
    size = 224 if hasattr(ours, "patch_embed") else 64
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ours(images)
        assert expected.std() > 1e-3 and torch.equal(theirs(images), expected)


def test_arguments_without_a_builder_are_refused():
    tables = tomllib.loads(TOML.read_text(encoding="utf-8"))
    tables["architecture"]["shufflenet"]["plain_arguments"] = {"depth": 12}
    with pytest.raises(Refused, match=r"architecture\.shufflenet: plain_arguments of no plain_timm"):
        parse(tables)
