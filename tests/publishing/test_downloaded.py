"""Published, its lines committed, downloaded: robust_zoo's own way back from the hub."""

import tomllib
from dataclasses import replace

import pytest
import torch
from publications import WIDE, folder_for, logits_of, random_weights

from robust_zoo.factory import create_model
from robust_zoo.files import read_hashed
from robust_zoo.publishing import remote
from robust_zoo.publishing.folder import write
from robust_zoo.publishing.publication import publish
from robust_zoo.registry.lookup import get
from robust_zoo.registry.published import Published
from robust_zoo.weights.convert import convert
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.published import header_digest
from robust_zoo.weights.verify import provenance

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # httpx2, of huggingface_hub
SECOND = pytest.param(get("efficientnet_b0_mao2022_linf_eps4"), id="second generation", marks=pytest.mark.peers)


def converted(row, folder):
    """Random weights of a row as its file would convert."""
    random, target = random_weights(row, folder), folder / "converted.safetensors"
    p = row.preprocessing
    said = {"mean": p.mean, "std": p.std, "num_classes": p.num_classes, "format": row.format, "model": row.name}
    convert(random.path, target, row.network, provenance(row, row.sha256 or "0" * 64), **said)
    content, sha256 = read_hashed(target)
    return replace(random, path=target, sha256=sha256, content=content)


@pytest.mark.parametrize("row", [pytest.param(WIDE, id="wide_resnet50_4"), SECOND])
def test_what_was_published_comes_back_through_robust_zoo(hub, own_machine, tmp_path, row):
    weights = converted(row, tmp_path)
    folder = folder_for(row, weights)
    write(folder, tmp_path / "out")
    repository = remote.Repository(f"ORG/{row.name}", hub.endpoint, row.name)
    done = publish(folder, tmp_path / "out", repository, private=True, propose=False)
    size = len(weights.content)
    lines = Published(repository.id, done.commit.revision, weights.sha256, size, header_digest(row)).lines(row.name)
    back = row.as_published(Published.parse(row.name, tomllib.loads("\n".join(lines))[row.name]))

    found = ensure(back, progress=False)
    assert (found.state, bytes(found.content)) == ("pinned", bytes(weights.content))
    assert row.file not in {request.file for request in hub.requests}
    ours, theirs = (logits_of(create_model(row, weights=which), row) for which in (weights, found))
    assert torch.equal(ours, theirs) and ours.std() > 1e-2
