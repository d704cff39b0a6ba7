"""Model cards: valid for the hub's own library, true to their rows, and the ones on disk are the ones generated."""

import ast
import json
import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from markdown_it import MarkdownIt
from pages import tables

from robust_zoo.cards.card import card as make_card
from robust_zoo.cards.card import card_files
from robust_zoo.cards.index import index
from robust_zoo.cli.card import _recipe as recipe
from robust_zoo.cli.card import card_of as card
from robust_zoo.home import torch_hub
from robust_zoo.registry import load
from robust_zoo.registry.lookup import get
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.published import Published
from robust_zoo.threat import parse_eps
from robust_zoo.weights.exported import checkpoint_of
from robust_zoo.weights.safetensors_file import write_safetensors

CARDS = Path(__file__).parents[1] / "model_cards"
TOML = tomllib.loads((Path(load.__file__).parent / "checkpoints.toml").read_text(encoding="utf-8"))
NAMES = [row["name"] for row in TOML["checkpoint"]]
FIGURES = {
    name: [figure for figure in figures if "table" not in figure]
    for name, figures in json.loads(load.MEASURED.read_text(encoding="utf-8")).items()
}
MEASURED = Measurement(
    attack="apgd-ce", correct=31, n=64, data="imagenet validation", weights_sha256="ab" * 32, code="robust_zoo 9.9",
    norm="linf", eps=4 / 255, settings="100 iterations",
)  # fmt: skip


def front_matter(text):
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def test_cards_on_disk_are_the_generated_ones():
    """And their pictures, and the index; nothing else lies there."""
    on_disk = {path.name: path.read_bytes().decode() for path in CARDS.iterdir()}
    made = {"README.md": index()}
    for name in NAMES:
        made |= card_files(get(name), recipe(get(name)), name, results="../results")
    assert sorted(n for n in made.keys() | on_disk.keys() if made.get(n) != on_disk.get(n)) == [], "run: make cards"
    pictures = {name for name, figures in FIGURES.items() if len({f.get("eps") for f in figures}) > 2}
    assert {name.removesuffix(".svg") for name in on_disk if name.endswith(".svg")} == pictures and len(pictures) == 8


def claims(row):
    """What a card may claim to the hub: (value, norm, eps, attack) of clean accuracy, and for each threat of the figure
    with the strongest evidence; AutoAttack's first, ours first, more images first, else the lowest."""
    found = [(f, round(100 * f["correct"] / f["n"], 2), f["n"], 0) for f in FIGURES.get(row["name"], [])]
    found += [(f, f["value"], f.get("n") or TOML["reporter"][f["by"]].get("n", 0), 1) for f in row.get("reported", [])]
    clean = [(value, row["norm"], row["eps"], "none") for f, value, *_ in found if f.get("attack", "none") == "none"]
    threats = dict.fromkeys((f["norm"], f["eps"]) for f, *_ in found if "norm" in f)

    def strongest(norm, eps):
        at = [(f, value, n, other) for f, value, n, other in found if (f.get("norm"), f.get("eps")) == (norm, eps)]
        best = [x for x in at if x[0]["attack"] == "autoattack"]
        if best:
            f, value, *_ = min(best, key=lambda x: ("size" in x[0], x[3], -x[2], x[1]))
        else:
            f, value, *_ = min(at, key=lambda x: ("size" in x[0], x[1]))
        return value, norm, eps, f["attack"]

    return clean[:1] + [strongest(*threat) for threat in threats]


@pytest.mark.parametrize("row", TOML["checkpoint"], ids=lambda row: row["name"])
def test_card_says_what_its_row_says(row):
    found = get(row["name"])
    text, collection, p = card(found), TOML["collection"][row["collection"]], found.preprocessing
    head = front_matter(text)
    cifar = collection["dataset"] == "cifar10"
    plain = TOML["architecture"][row["architecture"]].get("plain_timm", "timm's own") != ""
    assert head["license"] == row.get("licence", collection["licence"])
    assert head["library_name"] == ("timm" if plain else "robust-zoo")
    task = "image-feature-extraction" if row["collection"] == "schlarmann2024" else "image-classification"
    assert (head["pipeline_tag"], head["datasets"]) == (task, ["cifar10" if cifar else "imagenet-1k"])
    assert set(head["tags"]) >= {"adversarial-robustness", "robust_zoo", row["norm"]}
    libraries = {"timm", "transformers"} & {*head["tags"]}
    assert libraries == ({"timm"} if plain else set()) | (
        {"transformers"} if plain and task == "image-classification" else set()
    )
    assert [tag for tag in head["tags"] if "arxiv" in tag] == list(filter(None, [collection["paper"].lower()]))
    assert ("bibtex" in text) == (not cifar)

    name, results = model_index_to_eval_results(head["model-index"]) if "model-index" in head else (row["name"], [])
    expected = [(value, norm, parse_eps(eps, None), attack) for value, norm, eps, attack in claims(row)]
    assert (name, [(r.metric_value, *r.dataset_args.values()) for r in results]) == (row["name"], expected)
    assert [[*r.dataset_args] for r in results] == [["norm", "eps", "attack"]] * len(results)
    assert len({r.metric_name for r in results}) == len(results) and bool(results) == (task == "image-classification")
    assert not results or results[0].metric_value == found.clean_accuracy
    assert all(r.verified is False and r.metric_type == "accuracy" for r in results)
    for result in results:
        reported, measured = "(reported by" in result.metric_name, "(measured by robust_zoo" in result.metric_name
        assert (reported, measured) == ("reported" in row, "reported" not in row)
        word = {"none": "clean", "autoattack": "AutoAttack"}.get(*[result.dataset_args["attack"]] * 2)
        assert result.metric_name.startswith(f"{word if word[0] in 'cA' else word.upper()} accuracy")

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
    assert snippet.count(row["name"]) == 3 and "pixel_model" in snippet
    assert torch_hub(row["name"]) in snippet and "register_with_timm()\nmodel = timm.create_model(" in snippet
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


def figure_tables(text):
    return {table.section: [[cell.text for cell in row] for row in table.rows] for table in tables(text)}


def test_a_reported_and_a_measured_figure_stand_side_by_side_and_never_look_alike():
    row = get("resnet50_linf_eps4")
    clean = replace(MEASURED, attack="none", norm=None, eps=None, settings="", correct=41)
    text = card(replace(row, measured=(clean, MEASURED)))
    found = figure_tables(text)
    assert [line[3].split(" RobustBench")[0].split(" Salman")[0] for line in found["Reported by others"]] == [
        "reported by"
    ] * 3
    assert found["Measured here"] == [["APGD-CE", "64", "64.06 % 51.8-74.7", "48.44 % 36.6-60.4"]]
    below = text.split("### Measured here")[1].split("###")[0]
    for evidence in ("64 of imagenet validation", "APGD-CE: 100 iterations", "Measured by robust_zoo 9.9"):
        assert evidence in below
    results = model_index_to_eval_results(front_matter(text)["model-index"])[1]
    assert [(r.metric_value, r.metric_name.split(" (")[1].split()[0]) for r in results] == [
        (64.06, "measured"), (34.96, "reported"),  # AutoAttack's before APGD-CE's, whoever measured
    ]  # fmt: skip
    assert results[1].dataset_args == {"norm": "linf", "eps": 4 / 255, "attack": "autoattack"}


@pytest.mark.parametrize("results", ["", "../results", "https://a.example/results"])
def test_evidence_is_twelve_digits_and_a_link_where_results_are(results):
    entry = "imagenet-validation__apgd-ce_linf_eps4__0123456789ab"
    row = replace(get("resnet50_linf_eps4"), measured=(replace(MEASURED, entry=entry),))
    text = make_card(row, None, results=results)
    (cell,) = [row[2] for table in tables(text) if table.section == "Measured here" for row in table.rows]
    assert cell.text == "48.44 % 36.6-60.4 0123456789ab"
    assert cell.links == ([f"{results}/resnet50_linf_eps4/{entry}.json"] if results else [])
    assert ("lead to an entry" in text, "name an entry" in text) == (bool(results), not results)


def line(attack, correct, n, norm="l2", eps=0.5, data="cifar10 test"):
    threat = {} if attack == "none" else {"norm": norm, "eps": eps}
    return Measurement(attack=attack, correct=correct, n=n, data=data, weights_sha256="0" * 64, code="", **threat)


def test_attacks_stand_by_radius_and_the_strongest_below():
    """A table for each norm, the checkpoint's own first; most images first; a clean accuracy beside its images."""
    shuffled = [
        line("autoattack", 60, 250), line("pgd-20", 62, 250), line("apgd-ce", 60, 250), line("fgsm", 70, 250),
        line("pgd-20", 500, 1000, eps=1.0), line("pgd-20x5", 600, 1000), line("pgd-20", 610, 1000),
        line("square", 9, 250, "linf", 8 / 255), line("none", 90, 100), line("none", 800, 1000),
    ]  # fmt: skip
    row = replace(get("resnet18_x0_25_cifar10_l2_eps0_5"), measured=tuple(shuffled))
    first, second = [table for table in tables(card(row)) if table.section == "Measured here"]
    assert first.head == ["attack", "images", "clean", "L2 0.5", "L2 1"]
    short = [[cell.text.split(" %")[0] for cell in cells] for cells in first.rows]
    assert short == [
        ["PGD-20x5", "1,000", "80.00", "60.00", ""],
        ["PGD-20", "1,000", "", "61.00", "50.00"],
        ["FGSM", "250", "", "28.00", ""],
        ["PGD-20", "250", "", "24.80", ""],
        ["APGD-CE", "250", "", "24.00", ""],
        ["AutoAttack", "250", "", "24.00", ""],
        ["none", "100", "90.00", "", ""],
    ]
    assert second.head == ["attack", "images", "Linf 8/255"]
    assert [cell.text.split(" %")[0] for cell in second.rows[0]] == ["Square", "250", "3.60"]


def test_images_are_named_in_their_line_where_a_number_does_not_tell_them():
    images = [line("pgd-20", 9, 10, data="cifar10 test"), line("pgd-20", 5, 10, data="cifar10.1 v6")]
    text = card(replace(get("resnet18_x0_25_cifar10_l2_eps0_5"), measured=tuple(images)))
    rows = figure_tables(text)["Measured here"]
    assert [row[1] for row in rows] == ["10 cifar10 test", "10 cifar10.1 v6"]


def test_intervals_are_wilsons():
    """The ends are the p that lie 1.96 of their own standard deviations from the observed share (Wilson 1927)."""
    text = card(replace(get("resnet50_linf_eps4"), measured=(MEASURED,)))
    ((*_, cell),) = figure_tables(text)["Measured here"]
    low, high = (float(p) / 100 for p in re.search(r"% ([\d.]+)-([\d.]+)$", cell).groups())
    for p in (low, high):
        assert abs(31 / 64 - p) / math.sqrt(p * (1 - p) / 64) == pytest.approx(1.96, abs=2e-2)
    assert low < 31 / 64 < high


def test_the_hubs_library_keeps_every_figures_arguments():
    """It merges results that differ in the dataset's arguments only; the metric's own arguments must survive that."""
    text = card(replace(get("resnet50_linf_eps4"), measured=(replace(MEASURED, eps=8 / 255),)))
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.model_name) == ("mit", "timm", "resnet50_linf_eps4")
    saved = eval_results_to_model_index(data.model_name, data.eval_results)
    metrics = [metric for result in saved[0]["results"] for metric in result["metrics"]]
    assert [(m["value"], m["args"]["attack"]) for m in metrics] == [
        (63.86, "none"), (48.44, "apgd-ce"), (34.96, "autoattack"),
    ]  # fmt: skip


def snippet_of(checkpoint, repo=""):
    return re.search(r"```python\n(.*?)```", make_card(checkpoint, None, repo=repo), re.DOTALL)[1]


@pytest.mark.parametrize(("name", "alone"), [("wide_resnet50_4_l2_eps3", True), ("shufflenet_l2_eps3", False)])
def test_a_published_model_is_loaded_from_where_it_is(name, alone):
    """By plain timm where that builds it, else once our architectures are registered."""
    there = f"org/{name}"
    text = snippet_of(get(name), there)
    register = "" if alone else "robust_zoo.register_with_timm()\n"
    assert (
        f'# the same by timm\n{register}model = timm.create_model("hf-hub:{there}", pretrained=True).eval()\n' in text
    )
    published = replace(get(name), published=Published(there, "0" * 40, "0" * 64, 1, "0" * 64))
    assert snippet_of(published) == text  # the card in model_cards/, once the row says where


def test_what_a_user_trained_and_published_has_no_row_here():
    row = get("resnet50_l2_eps3")
    home = replace(row.collection, name="custom")
    own = replace(row, name="mine", collection=home, file="model.safetensors", sources=(), sha256="0" * 64)
    text = snippet_of(own, "org/mine")
    assert 'timm.create_model("hf-hub:org/mine", pretrained=True).eval()' in text
    assert "pixel_model(model)(images)" in text and "hub.load" not in text and 'create_model("mine' not in text


def test_a_picture_is_of_what_was_measured_and_only_then_shown():
    bundled = card_files(get("resnet18_x0_25_cifar10_l2_eps0_5"), None, "mine")
    assert [*bundled] == ["mine.md", "mine.svg"] and "](mine.svg)\n" in bundled["mine.md"]
    told = bundled["mine.svg"]
    ElementTree.fromstring(told)
    for m in get("resnet18_x0_25_cifar10_l2_eps0_5").measured:
        if (m.attack, m.n) == ("pgd-20", 1000):
            assert f"{m.accuracy:.1f} % at {m.threat.radius}" in told
    assert [*card_files(get("resnet50_linf_eps4"), None, "mine")] == ["mine.md"]  # reported figures alone


MARKUP = "x | y\n\n# a\n---\n```\n<img src=x> [l](http://h) ![i](j) `c` **b** \\ \x1b[2J \u202e \U0001f600 {0} \"'"


def own(folder, words):
    """A file of one's own that says `words` wherever a text may stand."""
    prepared = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32], "crop_pct": 1.0, "num_classes": 10}
    prepared |= {"crop_mode": "center", "interpolation": "bilinear"}
    figure = {"correct": 1, "n": 2, "norm": "l2", "eps": 0.5, "data": f"cifar10 {words}"}
    header = {
        "name": "mine", "architecture": "resnet18", "dataset": "cifar10", "norm": "l2", "eps": "0.5",
        "licence": words, "training": words,
        "metrics": json.dumps([figure | dict.fromkeys(("attack", "code", "settings"), words)]),
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
    assert str(found).count("code_inline") == str(plain).count("code_inline") - 1
    assert str(found).count("html_inline") == str(plain).count("html_inline")
    called = re.search(r"create_model\((.*)\)\.eval", text)[1]
    assert ast.literal_eval(called) == str(folder / "mine.safetensors")
