"""The site as files: links lead somewhere, ids are one, the same bytes come again, budgets hold, all or nothing."""

import gzip
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import built_site
import pytest
from colours import contrast
from verbs import run

from robust_zoo import get, home, list_models
from robust_zoo.errors import StorageError, UsageError
from robust_zoo.site import folder
from robust_zoo.site.build import build
from robust_zoo.site.pages import Contents, Page, Raw, Section
from robust_zoo.site.sections import SECTIONS
from robust_zoo.visualization.beside import standard_of

FIRST = SECTIONS[:1]


@pytest.fixture(scope="module")
def pages():
    return {path: built_site.Page(text) for path, text in built_site.files().items() if path.endswith(".html")}


def broken(pages, files):
    """Links of pages that lead nowhere: no such file, or no such place in it."""
    ids = {path: {e["id"] for e in page.elements if "id" in e} for path, page in pages.items()}
    found = []
    for path, page in pages.items():
        for link in (e[key] for e in page.elements for key in ("href", "src") if key in e):
            to = urlsplit(link)
            if to.scheme or link.startswith("//"):
                continue
            parts = []
            for part in [*PurePosixPath(path).parts[:-1], *to.path.split("/")] if to.path else path.split("/"):
                parts = parts[:-1] if part == ".." else [*parts, part]
            target = "/".join(parts)
            state = "=" in to.fragment  # of a page that reads its address
            if target not in files or (to.fragment and not state and unquote(to.fragment) not in ids[target]):
                found.append((path, link))
    return found


def test_every_link_leads_somewhere(pages):
    assert len(pages) > 141
    assert broken(pages, built_site.files()) == []


def test_a_broken_link_is_seen():
    page = built_site.Page(b'<a href="../gone.html">a</a><a href="#here">b</a><p id="there"><a href="#there">c</a>')
    assert broken({"a/b.html": page}, {"a/b.html": b""}) == [("a/b.html", "../gone.html"), ("a/b.html", "#here")]


def test_ids_are_one(pages):
    for path, page in pages.items():
        ids = [e["id"] for e in page.elements if "id" in e]
        assert len(ids) == len(set(ids)), path
        named = [e[key] for e in page.elements for key in ("for", "aria-labelledby", "aria-describedby") if key in e]
        assert set(named) <= set(ids), path


def test_nothing_is_asked_of_anyone(pages):
    """What a browser fetches by itself lies in the site; links that a reader may follow lead where they want."""
    for path, page in pages.items():
        for e in page.elements:
            links = [e.get("src")] + [e.get("href")] * (e["tag"] in ("link", "image") and e.get("rel") != "canonical")
            assert all(not urlsplit(link).scheme for link in links if link), path
    for path, content in built_site.files().items():
        if path.startswith("assets/") and path.endswith((".css", ".js")):
            assert not re.search(rb"https?://(?!www\.w3\.org)|@import|url\(|fetch\(|XMLHttpRequest", content), path


def test_every_page_names_itself_and_its_place(pages):
    titles = [page.all("title")[0]["text"] for page in pages.values()]
    assert len(titles) == len(set(titles))
    for path, page in pages.items():
        assert len(page.all("h1")) == len(page.all("main")) == 1, path
        here = [e for e in page.all("a") if e.get("aria-current") and e["path"][-1].get("aria-label") == "Main"]
        assert len(here) == 1, path
        levels = [int(e["tag"][1]) for e in page.elements if re.fullmatch("h[1-6]", e["tag"])]
        assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels)), path


def test_the_same_rows_give_the_same_bytes_in_another_process_without_torch():
    """Whatever the order of its sets; and with results that were read from the disk."""
    code = (
        "import hashlib, sys; from robust_zoo.registry.lookup import get, list_models\n"
        "from robust_zoo.site.pages import Contents; from robust_zoo.site.build import build\n"
        "from robust_zoo.site.sections import SECTIONS; from robust_zoo.site.ledger import evidence; import pathlib\n"
        f"assert evidence(pathlib.Path({str(built_site.ROOT / 'results')!r}))\n"
        "files = build(Contents(tuple(get(n) for n in list_models()[::6])), SECTIONS[:1])\n"
        "assert 'torch' not in sys.modules\n"
        "print(hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    here = build(Contents(built_site.contents().checkpoints[::6]), FIRST)
    assert there.stdout.strip() == hashlib.sha256(repr(sorted(here.items())).encode()).hexdigest()
    whole, again = built_site.files(), build(built_site.contents(), FIRST)
    about = {path for path in again if path.startswith("model/")}
    assert len(about) == len(built_site.contents().checkpoints)
    assert {path: _without_navigation(again[path]) for path in about} == {
        path: _without_navigation(whole[path]) for path in about
    }


def _without_navigation(page):
    return re.sub(rb"<nav aria-label=Main>.*?</nav>", b"", page, flags=re.DOTALL)


def test_pages_of_bundled_models_show_what_they_see():
    """A picture of 15 kB at most, and the command that drew it; the robust ones lead to the standard one beside it."""
    files, names = built_site.files(), list_models(bundled=True)
    assert {path for path in files if path.endswith(".webp")} == {f"seen/{name}.webp" for name in names}
    for name in names:
        assert files[f"seen/{name}.webp"][8:12] == b"WEBP" and len(files[f"seen/{name}.webp"]) <= 15_000
        (figure,) = built_site.Page(files[f"model/{name}.html"]).all("figure", "seen")
        image, command = (next(e for e in figure["inside"] if e["tag"] == tag) for tag in ("img", "code"))
        assert image["src"] == f"../seen/{name}.webp" and f"robust-zoo visualize {name} --bare" in command["text"]
        beside = [e["href"] for e in figure["inside"] if e["tag"] == "a"]
        assert beside == ([f"{standard_of(get(name)).name}.html"] if get(name).eps else [])


def test_pages_of_models_say_their_threat_model_in_words(pages):
    for checkpoint in built_site.contents().checkpoints:
        page = pages[f"model/{checkpoint.name}.html"]
        (lead,) = (e["text"] for e in page.all("p", "lead"))
        said = f"may {checkpoint.threat.adversary}; pixels stay in [0, 1]" if checkpoint.eps else "the standard way"
        assert said in lead and page.all("main")[0]["text"].count("adversary") == bool(checkpoint.eps)


def test_budgets():
    """A megabyte without pictures: all rows, data, references, guides, tutorials and notebooks."""
    files = build(built_site.checkout())
    assert {"tutorials/notebooks.zip", "docs/use.html", "cli.html", "faults.html"} <= files.keys()
    texts = {path: re.sub(rb"<svg.*?</svg>", b"", content, flags=re.DOTALL) for path, content in files.items()}
    assert (
        sum(len(content) for path, content in texts.items() if not path.endswith((".svg", ".png", ".webp"))) < 1_000_000
    )
    lines = sum(content.count(b"\n") for path, content in files.items() if path.endswith(".js"))
    assert lines <= 300


class Unclosed(HTMLParser):
    """Elements that a page leaves open, or closes out of their order."""

    def __init__(self, content):
        super().__init__()
        self.open, self.wrong = [], []
        self.feed(content.decode())
        self.wrong += self.open

    def handle_starttag(self, tag, attributes):
        if tag not in built_site.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass  # of pictures

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong.append(tag)


def test_every_element_is_closed_where_it_is_written():
    """minify-html drops what follows one that is not, though HTML allows to leave ends out."""
    pages = {path: content for path, content in built_site.written().items() if path.endswith(".html")}
    assert {path: Unclosed(content).wrong for path, content in pages.items() if Unclosed(content).wrong} == {}
    assert Unclosed(b"<p>a</p><ul><li>b</ul>").wrong and Unclosed(b"<p>a<ul></ul>").wrong


def test_an_address_is_told_where_there_is_one(monkeypatch):
    assert "sitemap.xml" not in built_site.files()
    monkeypatch.setattr(home, "REPOSITORY", "someone/zoo")
    few = replace(built_site.contents(), base_url="https://zoo.example.org/")
    files = build(replace(few, checkpoints=few.checkpoints[-1:]), FIRST, minify=False)
    (name,) = (c.name for c in few.checkpoints[-1:])
    page = f"https://zoo.example.org/model/{name}.html"
    assert f"<loc>{page}</loc>" in files["sitemap.xml"].decode()
    assert f'<link rel="canonical" href="{page}">' in files[f"model/{name}.html"].decode()
    assert "https://github.com/someone/zoo" in files["index.html"].decode()


def test_a_space_of_the_hub():
    readme = built_site.files()["README.md"].decode()
    assert readme.startswith("---\n")
    fields = dict(line.split(": ", 1) for line in readme.split("---\n")[1].splitlines())
    assert (fields["sdk"], fields["app_file"]) == ("static", "index.html")
    assert len(fields["short_description"]) <= 60  # the hub's limit


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark by the system", "dark by the button"])
def test_letters_stand_out_in_every_theme(theme):
    """WCAG 2.1 AA on the page's ground and on the tinted one; marks and the focus 3 to 1."""
    css = built_site.files()["assets/site.css"].decode()
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]+)", re.findall(r"\{\s*(--paper:[^}]*)", css)[theme]))
    for ground in ("paper", "tint"):
        for letters in ("ink", "quiet", "link"):
            assert contrast(colours[letters], colours[ground]) >= 4.5, (letters, ground)
        assert contrast(colours["mark"], colours[ground]) >= 3


def test_sections_that_cannot_be():
    page = Page("a.html", "A", "base.html")
    with pytest.raises(ValueError, match=r"two pages .* a\.html"):
        build(Contents(()), [Section("a.html", "A", lambda _: [page, Raw("a.html", b"")])])
    with pytest.raises(ValueError, match=r"no b\.html"):
        build(Contents(()), [Section("b.html", "B", lambda _: [page])])


# --- On a disk -----------------------------------------------------------------------------------------------

SMALL = {"index.html": b"one", "model/a.html": b"two"}


def held(where):
    return {p.relative_to(where).as_posix(): p.read_bytes() for p in where.rglob("*") if p.is_file()}


def test_written_anew_over_an_earlier_site(tmp_path):
    where = tmp_path / "not" / "there"
    folder.write(where, SMALL)
    assert {k: v for k, v in held(where).items() if k != folder.LIST} == SMALL
    assert gzip.decompress((where / folder.LIST).read_bytes()).decode().splitlines() == [*SMALL]
    (where / ".git").mkdir()
    (where / ".git" / "config").write_bytes(b"theirs")
    folder.write(where, {"index.html": b"new"})
    assert held(where).keys() == {"index.html", folder.LIST, ".git/config"}
    assert (where / "index.html").read_bytes() == b"new"
    assert [p.name for p in where.parent.iterdir()] == ["there"]


@pytest.mark.parametrize("what", ["file", "link", "notes"])
def test_what_is_no_site_is_left_alone(tmp_path, what):
    where = tmp_path / "site"
    if what == "file":
        where.write_bytes(b"mine")
    elif what == "link":
        (tmp_path / "other").mkdir()
        where.symlink_to(tmp_path / "other")
    else:
        folder.write(where, SMALL)
        (where / "notes.txt").write_bytes(b"mine")
    before = held(tmp_path)
    with pytest.raises(UsageError) as error:
        folder.write(where, {"index.html": b"new"})
    assert all(error.value.fields[name] for name in ("source", "expected", "actual", "next"))
    assert held(tmp_path) == before


def test_a_full_disk_leaves_the_earlier_site(tmp_path, monkeypatch):
    where = tmp_path / "site"
    folder.write(where, SMALL)
    before = held(where)
    monkeypatch.setattr(folder.Path, "write_bytes", _full)
    with pytest.raises(StorageError) as error:
        folder.write(where, {"index.html": b"new"})
    monkeypatch.undo()
    assert "-o" in error.value.next
    assert held(where) == before and [p.name for p in tmp_path.iterdir()] == ["site"]


def _full(*_):
    raise OSError(28, "No space left on device")


def test_the_verb(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = run("site", "-o", "site", "--base-url", "zoo.example.org")
    assert wrong.exit_code == 2 and "--base-url https://zoo.example.org" in wrong.stderr
    missing = run("site", "-o", "site", "--ledger", "nowhere")
    assert missing.exit_code == 2 and "nowhere" in missing.stderr
    assert not (tmp_path / "site").exists()
    monkeypatch.setattr("robust_zoo.site.build.find_spec", lambda name: None if name == "griffe" else name)
    lacking = run("site", "-o", "site")
    assert lacking.exit_code == 2 and "pip install 'robust-zoo[site]'" in lacking.stderr
    assert not (tmp_path / "site").exists()
