"""Every number of README, docs, cards and their index is found again in the rows' TOML or in an entry of results/, and
what was reported never looks like what was measured here. Pages are read as HTML would show them."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from pages import ROOT, anchors, links, tables

import robust_zoo
from robust_zoo import home
from robust_zoo.cards import blocks
from robust_zoo.cards.card import card
from robust_zoo.errors import UsageError
from robust_zoo.registry.load import TOML
from robust_zoo.registry.lookup import get

ROWS = tomllib.loads(TOML.read_text(encoding="utf-8"))
PUBLISHED = tomllib.loads(TOML.with_name("published.toml").read_text(encoding="utf-8"))
BY_NAME = {row["name"]: row for row in ROWS["checkpoint"]}
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 8: "eight", 10: "ten", 13: "thirteen"}
TITLES = {"none": "clean", "autoattack": "AutoAttack"}
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("model_cards/*.md"), ROOT / "results/README.md"]
)


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def results(name):
    """The entries of results/ of a checkpoint, as they lie there: path from model_cards/ -> entry."""
    return {
        f"../results/{name}/{path.name}": json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "results" / name).glob("*.json"))
    }


def radius(norm, eps):
    """As pages write it: "L2 0.5", "Linf 8/255"."""
    value = float(eps.split("/")[0]) / 255 if isinstance(eps, str) else float(eps)
    return f"Linf {round(value * 255, 4):g}/255" if norm == "linf" else f"{norm.upper()} {value:g}"


def said(row):
    """What was reported of a row: (figure, value, images, by whom)."""
    for f in row.get("reported", []):
        by = ROWS["reporter"][f["by"]]
        words = f"{TITLES.get(f.get('attack', 'none'), f.get('attack', '').upper())} accuracy"
        n = f.get("n", by.get("n"))
        size = f" of {f['size']} px" if "size" in f else ""
        yield (
            words + (f", {radius(f['norm'], f['eps'])}" if "norm" in f else ""),
            f"{f['value']:.2f} %",
            (f"{n:,}" if n else "not said") + size,
            f"reported by {by['title']}",
        )


@pytest.mark.parametrize("name", BY_NAME)
def test_a_cards_figures_are_those_of_rows_and_results(name):
    """All of them, none twice; a measured one stands under its own heading with interval and evidence."""
    found = {"Measured here": [], "Reported by others": []}
    for table in tables(read(f"model_cards/{name}.md")):
        if table.section not in found:
            continue
        for cells in table.rows:
            if table.section == "Reported by others":
                found[table.section].append(tuple(cell.text for cell in cells))
                assert cells[3].emphasised == ["reported by"]
                continue
            attack, images = cells[0].text, cells[1].text
            for column, cell in zip(table.head[2:], cells[2:], strict=True):
                for link, text in zip(cell.links, re.findall(r"\S+ % \S+ \S+", cell.text), strict=True):
                    value, _, interval, digits = text.split()
                    found[table.section].append((attack, images, column, value, interval, digits, link))
    reported = list(said(BY_NAME[name]))
    assert sorted(found["Reported by others"]) == sorted(reported)
    measured = []
    for link, e in results(name).items():
        low, high = e["robust_interval_95"]
        attack = TITLES.get(e["attack"], e["attack"].upper())
        column = radius(e["norm"], e["eps"]) if e["norm"] else "clean"
        numbers = f"{100 * e['robust_correct'] / e['n']:.2f}", f"{low:.1f}-{high:.1f}", link[-17:-5]
        measured.append((attack, f"{e['n']:,}", column, *numbers, link))
    clean = [line for line in found["Measured here"] if line[2] == "clean"]  # beside an attack on the same images
    attacked = [line for line in found["Measured here"] if line[2] != "clean"]
    assert sorted(attacked) == sorted(line for line in measured if line[2] != "clean")
    assert [line[1:] for line in clean] == [line[1:] for line in measured if line[2] == "clean"]
    assert all((ROOT / "model_cards" / line[-1]).is_file() for line in measured)


@cache
def corrupted(name):
    """Tables of results/ of a checkpoint, as they lie there: path from model_cards/ -> entry."""
    return {
        f"../results/{name}/tables/{path.name}": json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "results" / name / "tables").glob("*.json"))
    }


def mean(entry, kind, severities=(1, 2, 3, 4, 5)):
    counts = [entry["correct"][f"{kind.replace(' ', '_')} {severity}"] for severity in severities]
    return f"{100 * sum(counts) / (entry['n'] * len(counts)):.1f}"


CORRUPTED = [name for name, row in BY_NAME.items() if row.get("bundled") and corrupted(name)]


@pytest.mark.parametrize("name", CORRUPTED)
def test_a_cards_figures_under_corruptions_are_those_of_results(name):
    page, ((link, entry),) = read(f"model_cards/{name}.md"), corrupted(name).items()
    (table,) = [table for table in tables(page) if table.section == "Measured under corruptions"]
    assert len(table.rows) == (len(entry["correct"]) - 1) / 5
    for kind, *cells in table.rows:
        single = [mean(entry, kind.text, [severity]) for severity in range(1, 6)]
        assert [cell.text for cell in cells] == [*single, mean(entry, kind.text)]
    (low, high), clean = entry["mean_interval_95"], 100 * entry["correct"]["clean"] / entry["n"]
    said = f"severities {entry['mean_accuracy']:.1f} % ({low:.1f}-{high:.1f}), without any {clean:.1f} %"
    assert f"{said} ([{link[-17:-5]}]({link}))" in page and (ROOT / "model_cards" / link).is_file()


def test_the_bundled_models_under_corruptions_are_those_of_results():
    (table,) = [table for table in tables(read("docs/measured.md")) if "our corruptions" in table.head[0]]
    found = [entry for name in CORRUPTED for entry in corrupted(name).values()]
    assert len(table.head) == 1 + len(CORRUPTED) >= 5 and table.head[0].startswith(
        f"{found[0]['n']:,} of {found[0]['dataset']}"
    )
    assert table.head[1:] == [
        radius(BY_NAME[name]["norm"], BY_NAME[name]["eps"]) if BY_NAME[name]["eps"] else "standard"
        for name in CORRUPTED
    ]
    for kind, *cells in table.rows:
        values = [
            f"{100 * entry['correct']['clean'] / entry['n']:.1f}" if kind.text == "none"
            else f"{entry['mean_accuracy']:.1f}" if kind.text == "mean" else mean(entry, kind.text)
            for entry in found
        ]  # fmt: skip
        assert [cell.text for cell in cells] == values
    assert len(table.rows) == 2 + 14


def strongest(name, threat):
    """(value, attack, by) of the figure with the strongest evidence, worked out anew."""
    row, found = BY_NAME[name], []
    for e in results(name).values():
        if e["norm"] and radius(e["norm"], e["eps"]) == threat:
            found.append((100 * e["robust_correct"] / e["n"], e["attack"], None, e["n"], False))
    for f in row.get("reported", []):
        if "norm" in f and radius(f["norm"], f["eps"]) == threat:
            by = ROWS["reporter"][f["by"]]
            found.append((f["value"], f["attack"], by["title"], f.get("n", by.get("n")) or 0, "size" in f))
    best = sorted(f for f in found if f[1] == "autoattack")
    if best:
        return min(best, key=lambda f: (f[4], f[2] is not None, -f[3], f[0]))
    return min(found, key=lambda f: (f[4], f[0]), default=None)


def clean(name):
    """(value, None or who reported it), measured before reported."""
    for e in results(name).values():
        if e["norm"] is None:
            return 100 * e["robust_correct"] / e["n"], None
    for f in BY_NAME[name].get("reported", []):
        if "attack" not in f:
            return f["value"], ROWS["reporter"][f["by"]]["title"]
    return None, None


def lettered(page):
    """The legends of a page, a dict of letters each; a table's is the first below it."""
    found = re.findall(r"(?:^\([a-z]\) .*\n)+", page, re.MULTILINE)
    return [dict(re.findall(r"^\(([a-z])\) (.*?)(?:<br>)?$", text, re.MULTILINE)) for text in found]


def compare(cell, value, by, legend, attack=""):
    """A cell "34.96 (b)" or "measured 58.82 (c)" with what it must say."""
    word, number, letter = re.fullmatch(r"(measured )?(\S+) \(([a-z])\)", cell.text).groups()
    assert (number, bool(word)) == (f"{value:.2f}", by is None)
    assert cell.emphasised == (["measured"] if word else [])
    about = legend[letter].replace("\\", "")
    assert about.startswith("*measured here*: " if by is None else f"reported by {by}, ")


@pytest.mark.parametrize("path", ["README.md", "model_cards/README.md"])
def test_tables_of_best_figures_are_worked_out_anew(path):
    page = read(path)
    legends = [legend for legend in lettered(page)]
    tabled = [table for table in tables(page) if "robust, %" in table.head]
    assert len(legends) == len(tabled) == (1 if path == "README.md" else len(ROWS["collection"]))
    seen = []
    for table, legend in zip(tabled, legends, strict=True):
        for cells in table.rows:
            at = dict(zip(table.head, cells, strict=True))
            name, (link,) = at["checkpoint"].text, at["checkpoint"].links
            assert link.endswith(f"{name}.md") and (ROOT / path).parent.joinpath(link).is_file()
            seen.append(name)
            own = radius(BY_NAME[name]["norm"], BY_NAME[name]["eps"])
            said = re.fullmatch(r".+ at (\S+ \S+?)(, an upper bound)?", at["attack"].text)
            threat = own if path == "model_cards/README.md" else said[1]
            if "trained for" in at:
                assert at["trained for"].text == (own if BY_NAME[name]["eps"] else "no attack")
            value, by = clean(name)
            if value is None:
                assert at["clean, %"].text.startswith("- (") and not at["robust, %"].text
                continue
            compare(at["clean, %"], value, by, legend)
            best = strongest(name, threat) if BY_NAME[name]["eps"] else None
            if best is None:
                assert (at["robust, %"].text, at["attack"].text) == ("", "")
                continue
            compare(at["robust, %"], best[0], best[2], legend)
            bound = "" if best[1] == "autoattack" else ", an upper bound"
            where = "" if path == "model_cards/README.md" else f" at {threat}"
            assert at["attack"].text == TITLES.get(best[1], best[1].upper()) + where + bound
    assert len(seen) == len(set(seen)) and (path == "README.md" or set(seen) == set(BY_NAME))


def test_the_first_67_are_all_in_the_ladders_with_their_reported_accuracies():
    rows = {name: row for name, row in BY_NAME.items() if row["collection"] == "salman2020"}
    seen = set()
    for table in tables(read("README.md")):
        if not (norm := re.fullmatch("(L2|Linf) eps", table.head[0])):
            continue
        for architecture, *cells in table.rows:
            for eps, cell in zip(table.head[1:], cells, strict=True):
                if not cell.links:
                    continue
                name = Path(cell.links[0]).stem
                row = rows[name]
                assert (row["architecture"], radius(row["norm"], row["eps"])) == (architecture.text, f"{norm[1]} {eps}")
                assert cell.text == f"{clean(name)[0]:.1f}" and clean(name)[1]
                seen.add(name)
    assert seen == set(rows) and len(seen) == 67
    assert f"Clean accuracy in %, reported by {clean('resnet50_l2_eps3')[1]}." in read("README.md")


def hashes(row):
    """Whether its file's sha256, or that of what it converts to, stands in the row, at the hub, or nowhere."""
    if row["name"] in PUBLISHED or "sha256" in row:
        return "pinned"
    sources = row.get("sources", ROWS["collection"][row["collection"]]["sources"])
    return "hub" if any("huggingface.co" in str(s) or str(s).startswith("hf:") for s in sources) else "nowhere"


def test_counts_in_prose_are_counted():
    imagenet = [row for row in BY_NAME.values() if ROWS["collection"][row["collection"]]["dataset"] == "imagenet"]
    collections = {row["collection"] for row in imagenet}
    first = [row for row in imagenet if row["collection"] == "salman2020"]
    states = [hashes(row) for row in imagenet]
    bundled = [row for row in BY_NAME.values() if row.get("bundled")]
    readme, trust, measured = read("README.md"), read("docs/trust.md"), read("docs/measured.md")
    assert f"{len(imagenet)} public checkpoints of {NUMBERS[len(collections)]} papers and toolkits" in readme
    assert f"from the {len(first)} of" in readme
    assert f"{NUMBERS[len({row['architecture'] for row in first})]}\narchitectures" in readme
    assert f"{NUMBERS[len(bundled)].capitalize()} small CIFAR-10 models are bundled" in readme
    assert f"[{NUMBERS[len(list(ROOT.glob('tutorials/*.py')))].capitalize()} tutorials]" in readme
    assert f"| {states.count('pinned')} of the {len(imagenet)}, and all bundled ones |" in trust
    assert f"| {states.count('hub')} more |" in trust and f"| the other {states.count('nowhere')}, " in trust
    assert f"Accuracies of the {len(imagenet)} ImageNet rows are *reported by*" in measured
    assert f"Salman et al.'s {len(first)} and the bundled rows" in read("docs/training.md")
    parameters = {row["architecture"] for row in bundled}
    assert [f"{ROWS['architecture'][name]['parameters'] / 1e6:.1f} M" for name in parameters] == ["0.7 M"]
    assert f"{NUMBERS[len(bundled)].capitalize()} ResNets of 0.7 M parameters" in measured
    ends = {
        n: [e["robust_interval_95"] for row in bundled for e in results(row["name"]).values() if e["n"] == n]
        for n in (1000, 250)
    }
    half = {n: max(round((high - low) / 2) for low, high in found) for n, found in ends.items() if found}
    assert half == {1000: 3, 250: 6} and "up to ± 3 points on 1,000, ± 6\non 250" in measured


def test_the_index_counts_cards():
    text = read("model_cards/README.md")
    assert f"{len(BY_NAME)} checkpoints of {len(ROWS['collection'])} collections" in text
    assert len(list((ROOT / "model_cards").glob("*.md"))) == len(BY_NAME) + 1


@pytest.mark.parametrize("path", blocks.PAGES)
def test_pages_are_as_the_rows_have_them(path):
    assert blocks.renewed(read(path), blocks.PAGES[path]) == read(path), "run: make cards"


def test_a_page_without_a_place_is_refused_and_what_stood_there_is_replaced():
    mark = "<!-- Here, by `make cards`; never edited by hand. -->\n"
    page = f"a\n{mark}old\nolder\n<!-- end -->\nb\n<!-- end -->\n"
    made = blocks.renewed(page, {"Here": lambda: "new\n"})
    assert made == f"a\n{mark}new\n<!-- end -->\nb\n<!-- end -->\n"
    for broken in ("a\n", mark, f"<!-- end -->\n{mark}", page + page):
        with pytest.raises(UsageError, match="no place for here"):
            blocks.renewed(broken, {"Here": lambda: "new\n"})


def test_the_front_page_is_short():
    assert len(read("README.md").splitlines()) <= 110


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_local_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for link in links(text):
        target, _, fragment = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = path.parent / target if target else path
        assert file.exists(), link
        assert not fragment or fragment in anchors(file.read_text(encoding="utf-8")), link


def test_every_page_of_docs_is_reached_from_the_front():
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        for link in links(page.read_text(encoding="utf-8")):
            file = (page.parent / link.partition("#")[0]).resolve()
            if file.suffix == ".md" and file.is_file() and file not in reached:
                todo.append(file)
    assert {*ROOT.glob("docs/*.md")} <= reached


def test_the_citation_is_that_of_the_package_and_of_the_paper_it_is_the_home_of():
    """Fields as the citation file format 1.2.0 has them (it was validated against the format's own schema once)."""
    said = yaml.safe_load(read("CITATION.cff"))
    assert said.keys() - {"repository-code", "keywords", "type", "license"} == {
        "cff-version", "message", "title", "authors", "version", "references",
    }  # fmt: skip
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert (said["cff-version"], said["type"], said["version"]) == ("1.2.0", "software", robust_zoo.__version__)
    assert (said["authors"], said["license"]) == (project["authors"], project["license"])
    assert project["description"].lower() in said["title"].lower()
    assert said.get("repository-code", "") == (f"https://github.com/{home.REPOSITORY}" if home.REPOSITORY else "")
    (paper,) = said["references"]
    assert (paper["type"], paper["year"], paper["url"]) == (
        "conference-paper",
        2020,
        "https://arxiv.org/abs/2007.08489",
    )
    bibtex = ROWS["collection"]["salman2020"]["citation"]
    people = " and ".join(f"{p['family-names']}, {p['given-names']}" for p in paper["authors"])
    assert all(f"{{{words}}}" in bibtex for words in (paper["title"], paper["collection-title"], people))


# --- where the project lives ---------------------------------------------------------------------------------


def examples():
    """Everything that says where the project is, as the constants have it now."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    return {
        "card": card(get("resnet50_l2_eps3"), None),
        "hubconf": hubconf.__doc__,
        "install": blocks.where(),
        "use": blocks.elsewhere(),
    }


def test_without_a_repository_everything_says_so_and_loads_a_copy_on_disk():
    assert home.REPOSITORY == ""  # else this test has had its day
    for name, text in examples().items():
        local = "pip install ." if name == "install" else 'source="local"'
        assert local in text and "no public" in text and "github" not in text, name


def test_with_a_repository_every_example_names_it(monkeypatch):
    monkeypatch.setattr(home, "REPOSITORY", "someone/zoo")
    for name, text in examples().items():
        assert "someone/zoo" in text and "no public" not in text and 'source="local"' not in text, name
    assert 'torch.hub.load("someone/zoo", "resnet50_l2_eps3")' in examples()["card"]
    assert home.page("results") == "https://github.com/someone/zoo/blob/main/results"


def test_nothing_names_an_owner_of_its_own():
    word = "OWNER" + "/robust_zoo"
    folders = ("robust_zoo", "training", "tests", "docs", "model_cards", "studies", "benchmarks", "tutorials")
    files = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".toml")
    ]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    assert len(files) > 300
    assert [path for path in files if word in path.read_text(encoding="utf-8", errors="replace")] == []
