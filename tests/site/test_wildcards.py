"""The search box finds what list_models finds: its function, run by Chromium on all rows and many patterns."""

import json
import random
import re
import shutil
import subprocess

import built_site
import pytest

from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.site.table import lines

CHROMIUM = shutil.which("chromium")
ODD = (
    "*", "?", "**", "", "[", "]", "[]", "[]]", "[!]", "[!]]*", "*[", "res[", "[a-", "[r-a]*", "[!r-a]*", "[a-c-e]*",
    "[--z]*", "*[_-]*", "[]-a]*", "[^r]*", "[\\]*", "\\*", "*.*", "*4.0", "resnet50_*", "RESNET50_*", "*_linf_eps4",
    "*_L2_EPS0.?", "[cs]*", "[!a-r]*", "*[0-9]", "*_eps0_[0-5]*", "resnet?8*", "wide_resnet50_[24]_l2_eps[!0]*", "$*",
    "(a|b)*", "+*", "*{2}*", "resnet50*\n", "*-*", "*[&&a]*", "*[a~~b]*", "[[]*", "[!!]*", "*[*?]*",
)  # fmt: skip


def patterns(names, many=120):
    """Names in which letters became wildcards, by a seed."""
    rng, made = random.Random(0), []
    for _ in range(many):
        letters = [*rng.choice(names)]
        for _ in range(rng.randint(1, 3)):
            at, low = rng.randrange(len(letters)), rng.choice("abcx0_")
            to = rng.choice(
                ["*", "*", "?", f"[{letters[at]}{low}]", f"[!{low}]", f"[{low}-z]", f"[{low}-{letters[at]}]"]
            )
            letters[at : at + rng.randint(1, 12) * (to == "*") + 1] = [to]
        made.append("".join(letters))
    return made


def spellings(names):
    """Other spellings of names, each of which `get` accepts."""
    made = [f"{name}.ckpt" for name in names[::9]] + [name.upper() for name in names[::7]]
    made += [re.sub(r"_(?=\d+$)", ".", name) for name in names if re.search(r"eps0_\d+$", name)]
    made += [f"{name}.0" for name in names if re.search(r"eps\d$", name)][::5]
    made += [f"{name}/255" for name in names if "_linf_eps" in name][::5]
    made += [row.robustbench for row in load_registry().checkpoints.values() if row.robustbench]
    made += ["densenet161_l2_eps3", "mobilenetv2_100_l2_eps0", "mobilenet_v2_l2_eps3", "shufflenet_v2_x1_0_l2_eps0"]
    return [*made, "swin_base_patch4_window7_224.liu2023_linf_eps4", "resnet50_l2_eps3.0.pt"]


@pytest.fixture(scope="module")
def matched(tmp_path_factory):
    """Each text -> the names that the page's function finds."""
    if not CHROMIUM:
        pytest.skip("no chromium (Debian's package chromium)")
    folder = tmp_path_factory.mktemp("wildcards")
    shutil.copy(built_site.ROOT / "robust_zoo" / "site" / "assets" / "site.js", folder)
    known = [
        {"name": line.row.name, "also": line.also.split()} for line in lines([get(name) for name in list_models()])
    ]
    names = [each["name"] for each in known]
    texts = [*ODD, *patterns(names), *spellings(names), "resnet50", "vit", "resnet18_* vgg16_bn_*", "no_such_name"]
    asked = json.dumps([known, texts]).replace("<", "\\u003c")
    script = f"""const [known, texts] = {asked};
const found = texts.map((text) => [...matching(known, text)].map(({{ name }}) => name));
document.body.textContent = JSON.stringify(found);"""
    page = folder / "asked.html"
    page.write_text(f'<!doctype html><script src="site.js"></script><body><script>{script}</script>', encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/user", "--dump-dom"]
    asked = subprocess.run([CHROMIUM, *flags, page.as_uri()], check=True, capture_output=True, text=True, timeout=120)
    dumped = asked.stdout
    return dict(zip(texts, json.loads(re.search(r"<body>(\[.*\])", dumped, re.DOTALL)[1]), strict=True))


def same(text, found):
    """Whether names are those of list_models, which takes no spaces as parts of a pattern."""
    return found == list_models(text.split() or "*") if text.strip() else len(found) == len(list_models())


def test_wildcards_find_what_list_models_finds(matched):
    with_wildcards = {text: found for text, found in matched.items() if set(text) & set("*?[")}
    assert len(with_wildcards) > 130
    assert [text for text, found in with_wildcards.items() if not same(text, found)] == []
    counts = [len(found) for found in with_wildcards.values()]
    assert counts.count(0) < len(counts) / 2 and len(set(counts)) > 15  # patterns that say something


def test_other_spellings_find_their_checkpoint(matched):
    names = list_models()
    for text in spellings(names):
        assert matched[text] == list_models(text) and len(matched[text]) == 1, text


def test_a_word_finds_names_that_begin_with_it(matched):
    """Where list_models finds no name that is called so."""
    for text in ("resnet50", "vit"):
        assert matched[text] == list_models(f"{text}*") and not list_models(text)
    assert not any(name.startswith("wide_") for name in matched["resnet50"])
    assert matched["no_such_name"] == [] and len(matched[""]) == len(list_models())
