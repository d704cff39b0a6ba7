"""Every number of a page is found again, in rows and results read here by other means: TOML, JSON and NumPy."""

import json
import re
import tomllib
from fnmatch import fnmatchcase
from math import sqrt

import built_site
import numpy as np
import pytest
import shown_figures

ROOT = built_site.ROOT
TOML = tomllib.loads((ROOT / "robust_zoo" / "registry" / "checkpoints.toml").read_text("utf-8"))
ROWS = {row["name"]: row for row in TOML["checkpoint"]}
ENTRIES = {}  # the twelve digits of an entry's name -> the entry
for path in sorted((ROOT / "results").glob("*/*.json")):
    ENTRIES[path.stem[-12:]] = {"path": path, **json.loads(path.read_text("utf-8"))}
UNIT = {"linf": 255, "l2": 1, "l1": 1}


@pytest.fixture(scope="module")
def pages():
    files = built_site.checkpoints()
    wanted = [path for path in files if path == "index.html" or path.startswith("model/")]
    return {path: built_site.Page(files[path]) for path in wanted}


def under(norm, eps):
    """As pages write a threat model: ("linf", "4/255") -> "linf 4/255"."""
    if not norm:
        return ""
    count, _, unit = str(eps).partition("/")
    count = f"{float(count) if unit else eps * UNIT[norm]:.6g}"
    return f"{norm} {count}/255" if UNIT[norm] > 1 else f"{norm} {count}"


def reported(name):
    """(value, attack|threat model|images) of all that others reported of a checkpoint."""
    found = set()
    for f in ROWS[name].get("reported", ()):
        n = f.get("n", TOML["reporter"][f["by"]].get("n", ""))
        found.add((f"{f['value']:.2f}", f"{f.get('attack', 'none')}|{under(f.get('norm'), f.get('eps'))}|{n}"))
    return found


def measured(name):
    """The same of all that results/ holds of it."""
    found = set()
    for e in ENTRIES.values():
        if e["model"] == name:
            key = f"{e['attack']}|{under(e['norm'], e['eps'])}|{e['n']}"
            found.add((f"{100 * e['robust_correct'] / e['n']:.2f}", key))
    return found


KNOWN = {name: {"reported": reported(name), "measured": measured(name)} for name in ROWS}


def figures(path, page):
    """The accuracies of a page, each with its checkpoint: (name, kind, value, of what, element)."""
    if path.startswith("model/"):
        name = path[len("model/") : -len(".html")]
        own = under(ROWS[name]["norm"], ROWS[name]["eps"])
        return [(name, *figure) for figure in shown_figures.figures(page, own)]
    return [(built_site.links(line_of(figure[-1]))[0], *figure) for figure in shown_figures.figures(page)]


def line_of(element):
    return next(outer for outer in reversed(element["path"]) if outer["tag"] == "tr")


def wrong(path, page):
    """Figures of a page that neither rows nor results have, or that look like the other kind."""
    return [
        (name, kind, value, of)
        for name, kind, value, of, _ in figures(path, page)
        if not any(value == known and fnmatchcase(what, of) for known, what in KNOWN[name][kind])
    ]


def test_every_figure_is_known(pages):
    assert sum(len(figures(path, page)) for path, page in pages.items()) > 450
    assert [fault for path, page in pages.items() for fault in wrong(path, page)] == []


LINE = "<tr><th>AutoAttack, L2 0.5<small><code>29ef4fc246e8</code></small><td><b>54.40</b><td>48.2–60.5<td>250"
FACT = "<dt>Robust accuracy<dd><b>54.40</b> %<small>AutoAttack, measured here</small>"


@pytest.mark.parametrize("change", [("54.40", "55.40"), ("b>", "i>"), (">250", ">1,000"), ("L2 0.5", "L2 0.25")])
def test_a_wrong_figure_is_seen(change):
    path = "model/resnet18_x0_25_cifar10_l2_eps0_5.html"
    assert LINE in built_site.checkpoints()[path].decode() and FACT in built_site.checkpoints()[path].decode()
    for text in (f"<table><caption>Of it</caption>{LINE}", FACT):
        assert len(figures(path, built_site.Page(text.encode()))) == 1
        assert wrong(path, built_site.Page(text.encode())) == []
        assert (text.replace(*change) != text) == bool(wrong(path, built_site.Page(text.replace(*change).encode())))


def test_no_figure_is_left_out(pages):
    """A model's page has all that is known of it, but what was measured on other images than its dataset's."""
    for name, known in KNOWN.items():
        page = pages[f"model/{name}.html"]
        shown = {(kind, value, of) for _, kind, value, of, _ in figures(f"model/{name}.html", page) if "*" not in of}
        assert shown == {(kind, *figure) for kind in known for figure in known[kind]}, name


def test_an_upper_bound_is_marked(pages):
    for path, page in pages.items():
        for *_, of, element in figures(path, page):
            weaker = of.split("|")[0] not in ("none", "autoattack")
            assert element["text"].startswith("≤ ") == weaker, path


def in_line(page, line):
    """The accuracies that a line of the table of checkpoints shows: {"clean" or "robust": (kind, text, of what)}."""
    (name,), cells = built_site.links(line), [e for e in page.all("td") if e["path"][-1] is line]
    found = {}
    for which, cell in (("clean", cells[-6]), ("robust", cells[-5])):
        for mark in (e for e in cell["inside"] if e["tag"] in ("b", "i")):
            said = next(e["text"] for e in cell["inside"] if e["tag"] == "small").split(" · ")
            attack = "none" if which == "clean" else said.pop(0).lower()
            n = said[0].removesuffix(" images").replace(",", "").replace("n not said", "")
            threat = under(ROWS[name]["norm"], ROWS[name]["eps"]) if attack != "none" else ""
            found[which] = ({"b": "measured", "i": "reported"}[mark["tag"]], mark["text"], f"{attack}|{threat}|{n}")
    return name, found, cells


def test_the_table_of_checkpoints(pages):
    """Each of its accuracies is known, upper bounds are marked; what is not known is a dash."""
    page = pages["index.html"]
    lines = [e for e in page.all("tr") if "data-is" in e]
    assert len(lines) == len(ROWS)
    for line in lines:
        name, found, cells = in_line(page, line)
        for kind, text, of in found.values():
            value = text.removeprefix("≤ ").strip()
            assert (value, of) in KNOWN[name][kind] and (of.split("|")[0] in ("none", "autoattack")) == (value == text)
        dashes = [cell["text"].strip() for cell in cells[-6:-4]].count("–")
        assert dashes == 2 - len(found), name
    assert sum(len(in_line(page, line)[1]) for line in lines) > 200


def test_ladders(pages):
    """Numbers that lead to a checkpoint are its clean accuracy; the radius above them is its own."""
    ladder = [e for e in pages["index.html"].all("a") if e.get("class") in ("reported", "measured")]
    assert len(ladder) > 80
    for e in ladder:
        name = re.fullmatch(r"model/(.+)\.html", e["href"])[1]
        assert (e["class"], e["text"]) in clean_of(name), name
    steps = 0
    for path, page in pages.items():
        rungs = [e for e in page.all("a") if "rungs" in (e["path"][-1].get("class") or "")]
        for e in rungs:
            name, kind = e["href"].removesuffix(".html"), built_site.inside(e, "class").split()[-1]
            radius = next(b["text"] for b in page.all("b") if b["path"][-1] is e)
            assert radius == under(ROWS[name]["norm"], ROWS[name]["eps"]).split()[1].replace("0/255", "0"), name
            accuracy = e["text"][len(radius) :].strip()
            assert (not accuracy and name in ENCODERS) or (kind, accuracy) in clean_of(name), name
            steps += 1
        for ladder in {id(e["path"][-1]): e["path"][-1] for e in rungs}.values():
            names = [e["href"].removesuffix(".html") for e in rungs if e["path"][-1] is ladder]
            radii = [under(ROWS[n]["norm"], ROWS[n]["eps"]).split()[1].removesuffix("/255") for n in names]
            assert radii == sorted(radii, key=float) and len({ROWS[n]["architecture"] for n in names}) == 1
            here = names.index(path[len("model/") : -len(".html")])
            related = {e.get("rel") or e.get("aria-current"): e["href"] for e in rungs if e["path"][-1] is ladder}
            around = {"prev": here - 1, "page": here, "next": here + 1}
            expected = {word: f"{names[at]}.html" for word, at in around.items() if 0 <= at < len(names)}
            assert {word: href for word, href in related.items() if word} == expected
    assert steps > 500


ENCODERS = {name for name, row in ROWS.items() if TOML["collection"][row["collection"]].get("kind") == "encoder"}


def clean_of(name):
    return {(kind, value) for kind, found in KNOWN[name].items() for value, of in found if of.startswith("none|")}


def test_fates_of_images(pages):
    """What each attack broke, and each class: recounted from the arrays beside the entries."""
    recounted = 0
    classes = TOML["dataset"]["cifar10"]["class_names"]
    for page in pages.values():
        for e, row in counts(page):
            entry = entry_of(page, e, row)
            with np.load(entry["path"].with_suffix(".npz"), allow_pickle=False) as arrays:
                fell, labels = arrays["fell" if "fell" in arrays else "broken_by"], arrays["labels"]
            (what,) = (head["text"] for head in page.all("th") if head["path"][-1] is row)
            if what in classes:
                of = labels == classes.index(what)
                clean = next(other for other, of_row in counts(page) if of_row is row) is e  # the first of its line
                hits = int((of & ((fell != -2) if clean else (fell == -1))).sum())
                assert e["text"] == f"{100 * hits / of.sum():.1f}"
            else:
                stages = [stage["attack"] for stage in entry["settings"]["stages"]]
                codes = {"wrong without an attack": -2, "robust to all of them": -1}
                code = codes.get(what)
                if code is None:
                    code = [stage.lower() for stage in stages].index(what.removeprefix("broken by ").lower())
                hits = int((fell == code).sum())
                assert e["text"] == f"{hits:,}"
            recounted += 1
    assert recounted > 100


def counts(page):
    """Numbers of images, or their shares, each with the row that it is in: cells that are filled so far."""
    return [(e, line_of(e)) for e in page.all("td") if "--w" in (e.get("style") or "")]


def entry_of(page, e, row):
    """A table of classes is of one entry, which its caption names; of suites each column is of its own."""
    table = next(o for o in reversed(row["path"]) if o["tag"] == "table")
    named = [c["text"] for c in table["inside"] if c["tag"] == "code"]
    column = [cell for cell, of in counts(page) if of is row].index(e)
    return ENTRIES[named[min(column, len(named) - 1)]]


def wilson(correct, n, z=1.959964):
    p, w = correct / n, 1 + z * z / n
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return f"{100 * (middle - half) / w:.1f}–{100 * (middle + half) / w:.1f}".replace("-0.0", "0.0")


def test_every_other_decimal_of_a_measured_page():
    """Of pages with results, whatever is written with a point is a value, an interval, a share, or of the row."""
    for name in (n for n, known in KNOWN.items() if known["measured"]):
        page = built_site.Page(built_site.written()[f"model/{name}.html"])
        own = [e for e in ENTRIES.values() if e["model"] == name]
        allowed = {f"{100 * e['robust_correct'] / e['n']:.2f}" for e in own}
        allowed |= {end for e in own for end in wilson(e["robust_correct"], e["n"]).split("–")}
        allowed |= {e["text"] for e, _ in counts(page)}  # recounted above
        kind = TOML["collection"][ROWS[name]["collection"]]
        allowed |= {str(v) for key in ("mean", "std") for v in kind["preprocessing"][key]}
        allowed |= {f"{TOML['architecture'][ROWS[name]['architecture']]['parameters'] / 1e6:.1f}", "0.1.0"}
        allowed |= {f"{ROWS[name]['size'] / 1e6:.1f}"}
        said = json.dumps([ROWS[name], TOML["recipe"][kind["recipe"]]])
        allowed |= set(re.findall(r"\d+\.\d+(?:\.\d+)?", said))
        allowed |= {under(e["norm"], e["eps"]).split()[1] for e in own if e["norm"]}
        allowed |= {f"{e['eps']:.6f}" for e in own if e["norm"]}
        for other in (n for n in KNOWN if KNOWN[n]["measured"]):  # the ladder's, and its radii
            allowed |= {value for _, value in clean_of(other)} | {str(ROWS[other]["eps"])}
        tables = (ROOT / "results" / name / "tables").glob("*.json")
        allowed |= {f"{json.loads(path.read_text())['mean_accuracy']:.1f}" for path in tables}
        main = page.all("main")[0]
        said = [(text, around) for text, around in page.pieces if main in around]
        text = " ".join(text for text, around in said if not {"code", "pre", "svg"} & {e["tag"] for e in around})
        assert set(re.findall(r"\d+\.\d+(?:\.\d+)?", text)) <= allowed, name
