"""Model cards: valid for the hub's own library, true to their rows, and the ones on disk are the ones generated."""

import ast
import json
import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from markdown_it import MarkdownIt

from robust_zoo.cli.card import card_of as card
from robust_zoo.registry import load
from robust_zoo.registry.lookup import get
from robust_zoo.registry.measurement import Measurement
from robust_zoo.weights.exported import checkpoint_of
from robust_zoo.weights.safetensors_file import write_safetensors

CARDS = Path(__file__).parents[1] / "model_cards"
TOML = tomllib.loads((Path(load.__file__).parent / "checkpoints.toml").read_text(encoding="utf-8"))
NAMES = [row["name"] for row in TOML["checkpoint"]]
FIGURES = json.loads(load.MEASURED.read_text(encoding="utf-8"))
MEASURED = Measurement(
    attack="apgd-ce", correct=31, n=64, data="imagenet validation", weights_sha256="ab" * 32, code="robust_zoo 9.9",
    norm="linf", eps=4 / 255, settings="100 iterations",
)  # fmt: skip


def front_matter(text):
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def test_cards_on_disk_are_the_generated_ones():
    on_disk = {path.name: path.read_bytes().decode() for path in CARDS.iterdir()}
    drifted = [name for name in NAMES if on_disk.pop(f"{name}.md", None) != card(get(name))]
    assert not drifted and not on_disk, "run: make cards"


@pytest.mark.parametrize("row", TOML["checkpoint"], ids=lambda row: row["name"])
def test_card_says_what_its_row_says(row):
    found = get(row["name"])
    text, collection, p = card(found), TOML["collection"][row["collection"]], found.preprocessing
    head = front_matter(text)
    cifar = collection["dataset"] == "cifar10"
    assert (head["license"], head["library_name"]) == (row.get("licence", collection["licence"]), "timm")
    task = "image-feature-extraction" if row["collection"] == "schlarmann2024" else "image-classification"
    assert (head["pipeline_tag"], head["datasets"]) == (task, ["cifar10" if cifar else "imagenet-1k"])
    assert set(head["tags"]) >= {"adversarial-robustness", "robust_zoo", "timm", row["norm"]}
    assert [tag for tag in head["tags"] if "arxiv" in tag] == list(filter(None, [collection["paper"].lower()]))
    assert ("bibtex" in text) == (not cifar)

    name, results = model_index_to_eval_results(head["model-index"]) if "model-index" in head else (row["name"], [])
    figures = [figure["value"] for figure in row.get("reported", [])]
    figures += [round(100 * m["correct"] / m["n"], 2) for m in FIGURES.get(row["name"], [])]
    assert (name, [r.metric_value for r in results]) == (row["name"], figures)
    assert bool(results) == (task == "image-classification")
    for result in results[:1]:
        assert result.metric_value == found.clean_accuracy
        assert result.dataset_args == {"norm": row["norm"], "eps": found.eps, "attack": "none"}
    assert all(r.verified is False and r.metric_type == "accuracy" for r in results)
    for result in results:
        reported, measured = "(reported by" in result.metric_name, "(measured by robust_zoo" in result.metric_name
        assert (reported, measured) == ("reported" in row, "reported" not in row)

    unknown = "declared by the hub" if found.hub else "not known"
    assert all(fact in text for fact in (row["file"], row.get("sha256", unknown), row.get("note", "")))
    assert (
        f"mean | {', '.join(map(str, row.get('preprocessing', {}).get('mean', collection['preprocessing']['mean'])))}"
        in text
    )
    size, how, crop = re.search(r"\| (\d+), (\w+) \|\n\| center crop \| (\d+) \|", text).groups()
    assert (int(size), how, int(crop)) == (int(p.input_size[1] / p.crop_pct), p.interpolation, p.input_size[1])
    assert ("\nembeddings = robust_zoo" in text) == (task == "image-feature-extraction")
    places = [place.at for place in found.sources]
    assert found.hub or (
        all(f"`{place}`" in text for place in places) and ("| this package |" in text) == found.bundled
    )
    assert ("--allow-unverified" in text) == (not found.has_public_hash and not found.bundled)
    assert ("plain http" in text) == ("--allow-unverified" in text and all(place[:5] == "http:" for place in places))
    assert ("PGD with" in text) == (row["eps"] != 0 and bool(collection["recipe"]))
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    compile(snippet, row["name"], "exec")
    assert snippet.count(row["name"]) == 2 and "pixel_model" in snippet and "torch.hub.load" in snippet
    assert text == card(get(row["name"])) and text.isascii() and "\n\n\n" not in text and text.endswith("\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet50_l2_eps0_5", "Euclidean distance of at most 0.5 (L2,"),
        ("resnet50_linf_eps4", "each pixel value by at most 4/255 = 0.015686 (L-infinity)"),
        ("resnet50_l2_eps0", "None (eps 0): standard training"),
    ],
)
def test_threat_model_in_words(name, words):
    assert words in card(get(name))


def test_a_reported_and_a_measured_figure_stand_side_by_side_and_never_look_alike():
    row = get("resnet50_linf_eps4")
    clean = replace(MEASURED, attack="none", norm=None, eps=None, settings="", correct=41)
    text = card(replace(row, measured=(clean, MEASURED)))
    table = re.findall(r"^\| .* \*(reported by|measured here)\*.*", text, re.MULTILINE)
    assert table == 3 * ["reported by"] + 2 * ["measured here"]
    table = [line for line in text.splitlines() if "*measured here*" in line]
    assert table[1].startswith("| accuracy under APGD-CE, linf eps 4/255 | 48.44 % |")
    for evidence in ("31 of 64", "imagenet validation", "100 iterations", "ab" * 32, "robust_zoo 9.9"):
        assert evidence in table[1]
    results = model_index_to_eval_results(front_matter(text)["model-index"])[1]
    assert [r.metric_value for r in results] == [63.86, 64.02, 34.96, 64.06, 48.44]
    assert results[4].dataset_args == {"norm": "linf", "eps": 4 / 255, "attack": "apgd-ce"}


def test_intervals_are_wilsons():
    """The ends are the p that lie 1.96 of their own standard deviations from the observed share (Wilson 1927)."""
    text = card(replace(get("resnet50_linf_eps4"), measured=(MEASURED,)))
    low, high = (float(p) / 100 for p in re.search(r"Wilson interval ([\d.]+)-([\d.]+);", text).groups())
    for p in (low, high):
        assert abs(31 / 64 - p) / math.sqrt(p * (1 - p) / 64) == pytest.approx(1.96, abs=2e-3)
    assert low < 31 / 64 < high


def test_the_hubs_library_keeps_every_figures_arguments():
    """It merges results that differ in the dataset's arguments only; the metric's own arguments must survive that."""
    text = card(replace(get("resnet50_linf_eps4"), measured=(MEASURED,)))
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.model_name) == ("mit", "timm", "resnet50_linf_eps4")
    saved = eval_results_to_model_index(data.model_name, data.eval_results)
    metrics = [metric for result in saved[0]["results"] for metric in result["metrics"]]
    assert [(m["value"], m["args"]["attack"]) for m in metrics] == [
        (63.86, "none"), (64.02, "none"), (34.96, "autoattack"), (48.44, "apgd-ce"),
    ]  # fmt: skip


MARKUP = "x | y\n\n# a\n---\n```\n<img src=x> [l](http://h) ![i](j) `c` **b** \\ \x1b[2J \u202e \U0001f600 {0} \"'"


def own(folder, words):
    """A file of one's own that says `words` wherever a text may stand."""
    prepared = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32], "crop_pct": 1.0, "num_classes": 10}
    prepared |= {"crop_mode": "center", "interpolation": "bilinear"}
    figure = {"correct": 1, "n": 2, "norm": "l2", "eps": 0.5}
    header = {
        "name": "mine", "architecture": "resnet18", "dataset": "cifar10", "norm": "l2", "eps": "0.5",
        "licence": words, "training": words,
        "metrics": json.dumps([figure | dict.fromkeys(("attack", "data", "code", "settings"), words)]),
        "preprocessing": json.dumps(prepared),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "mine.safetensors", {}, header)
    return card(checkpoint_of(folder / "mine.safetensors"))


def structure(text):
    """What a reader of Markdown makes of a card without its front matter: its blocks, and what is within lines."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text.split("---\n", 2)[2])
    return [(token.type, [child.type for child in token.children or []]) for token in tokens]


def test_nothing_that_a_file_says_is_markup(tmp_path):
    plain, text = own(tmp_path, "words"), own(tmp_path, MARKUP)
    assert structure(text) == structure(plain)
    assert "\x1b" not in text and "\u202e" not in text
    head = front_matter(text)
    (result,) = model_index_to_eval_results(head["model-index"])[1]
    assert (head["license"], result.dataset_args["attack"]) == (MARKUP, MARKUP)


def test_a_path_with_markup_is_shown_and_can_be_copied(tmp_path):
    folder = tmp_path / "a`|<b>\"'\\"
    text = own(folder, "words")
    found, plain = structure(text), structure(own(tmp_path, "words"))
    assert [block for block, _ in found] == [block for block, _ in plain]
    assert ("html_inline" in str(found), str(found).count("code_inline")) == (
        False,
        str(plain).count("code_inline") - 1,
    )
    called = re.search(r"create_model\((.*)\)\.eval", text)[1]
    assert ast.literal_eval(called) == str(folder / "mine.safetensors")
