"""Every block of Python in README, docs/ and the cards of bundled models, run as a reader would paste it.

Checkpoints that would be fetched become a bundled one, torch.hub's repository this checkout, files a small one of
their kind. Nothing else is changed, and a block that raises fails.
"""

import re
import sys
import textwrap
from pathlib import Path

import checkpoints
import pytest
import timm
import torch
from photos import write_photos
from PIL import Image
from searches import shorten

from robust_zoo import ZooError, get, list_models

HOME = Path(__file__).parents[2]
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]
BUNDLED = list_models(bundled=True)
CARDS = [HOME / "model_cards" / f"{name}.md" for name in BUNDLED]
STAND_IN = "resnet18_x0_25_cifar10_l2_eps0_5"
FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})([^\n]*)\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
OTHER_LANGUAGES = {"", "bash", "bibtex", "console", "json", "sh", "text", "toml", "yaml"}


def blocks(text):
    """The blocks of Python. One whose language is not known could hide some."""
    found = [(language.strip(), block) for _, language, block in FENCE.findall(text)]
    assert {language for language, _ in found} <= OTHER_LANGUAGES | {"python"}
    return [textwrap.dedent(block) for language, block in found if language == "python"]


def is_fetched(name):
    try:
        return get(name).name not in BUNDLED
    except ZooError:
        return False


def smaller(block):
    """The block with what is here in place of what would be fetched."""
    block = re.sub(r'"([\w.\-]+)"', lambda m: f'"{STAND_IN}"' if is_fetched(m[1]) else m[0], block)
    block = re.sub(r'create_model\("\w+", checkpoint_path=', 'create_model("shufflenet", checkpoint_path=', block)
    local = rf'hub.load({str(HOME)!r}, \1, source="local"'
    return re.sub(r'hub\.load\("[^"]+", ("\w+")(?:, source="local")?', local, block)


def execute(text, namespace):
    for block in blocks(text):
        for file in re.findall(r'"([\w/\-]+\.(?:png|jpe?g))"', block):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (50, 40), "teal").save(file)
        exec(compile(smaller(block), "a page's block", "exec"), namespace)
    return namespace


@pytest.fixture
def given(tmp_path, monkeypatch):
    """What blocks may take as given; in a directory of their own, and offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # torch.hub adds to it
    monkeypatch.setenv("ROBUST_ZOO_OFFLINE", "1")
    shorten(monkeypatch)
    checkpoints.save(tmp_path / "mine.ckpt", "shufflenet")
    write_photos(tmp_path / "photos", 5, classes=2)
    images = torch.rand(2, 3, 32, 32)
    return {"images": images, "photo": Image.new("RGB", (50, 40)), "timm": timm, "torch": torch}


def test_readme_runs_as_it_stands(given, capsys):
    """Nothing is supplied but the photo; what is printed is of it, and the adversarial image is within the radius."""
    text = PAGES[0].read_text("utf-8")
    (lines,) = blocks(text)
    assert len([line for line in lines.splitlines() if line.strip()]) <= 12 and smaller(lines) == lines
    found = execute(text, {})
    images, adv_images, row = (found[name] for name in ("images", "adv_images", "row"))
    assert images.shape == (1, 3, 32, 32) and images.min() >= 0 and images.max() <= 1
    assert 0.9 * row.eps < (adv_images - images).norm() <= row.eps + 1e-5
    before, after = (found["pixels"](x).softmax(1)[0, found["labels"]] for x in (images, adv_images))
    assert after < before
    names = "|".join(row.collection.dataset.class_names)
    assert re.fullmatch(rf"({names}) -> ({names}) within l2 eps 0.5\n", capsys.readouterr().out)


@pytest.mark.parametrize("page", [p for p in PAGES[1:] if blocks(p.read_text("utf-8"))], ids=lambda page: page.stem)
def test_page_of_docs_runs(page, given):
    before = set(given)
    execute(page.read_text("utf-8"), given)
    assert set(given) > before
    if page.stem == "use":
        assert given["seen"].shape == (3, 32, 32)
        assert given["logits"].shape == (2, 10) and given["head"].num_classes == 37
        assert torch.equal(given["robust"].conv1.weight, given["model"].conv1.weight)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_use_of_card_runs(card, given):
    execute(card.read_text("utf-8"), given)
    assert given["logits"].shape == (2, 10) and torch.isfinite(given["logits"]).all()


def test_a_block_that_fails_is_not_passed_over(given):
    wrong = "text\n\n1. in a list:\n   ```python\n   robust_zoo.create_model('resnet51_l2_eps3')\n   ```\n"
    with pytest.raises(ZooError, match="resnet51"):
        execute(f"```python\nimport robust_zoo\n```\n{wrong}", given)
    with pytest.raises(AssertionError):
        blocks("```py\nrobust_zoo.typo()\n```\n")


def test_only_names_are_replaced():
    assert smaller('create_model("resnet50_l2_eps3", num_classes=37)') == f'create_model("{STAND_IN}", num_classes=37)'
    assert smaller('list_models("resnet50_*", norm="l2")') == 'list_models("resnet50_*", norm="l2")'
    assert smaller(f'get("{BUNDLED[0]}")') == f'get("{BUNDLED[0]}")'
    expected = f'torch.hub.load({str(HOME)!r}, "{STAND_IN}", source="local")'
    assert smaller('torch.hub.load("someone/zoo", "resnet50_l2_eps3")') == expected
    assert smaller('torch.hub.load("a/copy", "resnet50_l2_eps3", source="local")') == expected
