"""What was published, loaded by transformers; and the largest network of the first generation, whole, all the way."""

import pytest
import timm
import torch
from PIL import Image
from publications import SECOND, WIDE, folder_for, logits_of, random_weights

import robust_zoo
from robust_zoo.factory import create_model
from robust_zoo.publishing.folder import write
from robust_zoo.publishing.publication import publish
from robust_zoo.publishing.rehearsal import rehearse
from robust_zoo.publishing.remote import Repository
from robust_zoo.registry.lookup import get
from robust_zoo.weights.ensure import ensure

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning", "ignore::DeprecationWarning:transformers"),
]
BUNDLED = get("resnet18_x0_25_cifar10_l2_eps0_5")


def published(hub, row, tmp_path):
    """(the repository, the row's own model) after a publication with a rehearsal in a process of its own."""
    weights = ensure(row) if row.bundled else random_weights(row, tmp_path)
    folder, out = folder_for(row, weights), tmp_path / "out"
    write(folder, out)
    rehearse(folder, out)
    repository = Repository(f"ORG/{row.name}", hub.endpoint, row.name)
    publish(folder, out, repository, private=False, propose=False)
    return repository.id, create_model(row, weights=weights).eval()


@pytest.mark.parametrize("row", [BUNDLED, WIDE, SECOND], ids=lambda row: row.name)
def test_transformers_loads_it(hub, tmp_path, row):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    repo, ours = published(hub, row, tmp_path)
    if not row.network.plain_timm:
        with pytest.raises(ImportError):  # which says that timm should be updated: hence no tag `transformers`
            AutoModelForImageClassification.from_pretrained(repo)
        robust_zoo.register_with_timm()
    theirs = AutoModelForImageClassification.from_pretrained(repo).eval()
    assert torch.equal(logits_of(theirs.timm_model, row), logits_of(ours, row))
    labels = theirs.config.id2label
    assert labels[6] == ("frog" if row is BUNDLED else "stingray")
    assert len(labels) == row.preprocessing.num_classes
    image = Image.effect_noise((100, 80), 60).convert("RGB")
    pixels = AutoImageProcessor.from_pretrained(repo)(image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(pixels[0], robust_zoo.transform(ours)(image), atol=1e-6)
    other = AutoModelForImageClassification.from_pretrained(repo, num_labels=7, ignore_mismatched_sizes=True)
    assert other.timm_model.get_classifier().weight.shape[0] == 7


def test_a_pipeline_says_the_names_of_classes(hub, tmp_path):
    from transformers import pipeline

    robust_zoo.register_with_timm()
    repo, ours = published(hub, BUNDLED, tmp_path)
    image = Image.effect_noise((32, 32), 60).convert("RGB")
    names = BUNDLED.collection.dataset.class_names
    with torch.no_grad():
        best = names[ours(robust_zoo.transform(ours)(image)[None]).argmax()]
    assert pipeline("image-classification", model=repo)(image)[0]["label"] == best


def test_a_wide_resnet50_4_of_its_own_width(hub, tmp_path):
    """0.9 GB, which the hub keeps in memory."""
    row = get("wide_resnet50_4_l2_eps3")
    repo, ours = published(hub, row, tmp_path)
    expected = logits_of(ours, row)
    del ours
    assert expected.std() > 1e-2
    assert torch.equal(logits_of(timm.create_model(f"hf-hub:{repo}", pretrained=True), row), expected)
