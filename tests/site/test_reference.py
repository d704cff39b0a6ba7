"""The reference of the Python interface against `inspect`, which asks the imported objects themselves."""

import ast
import dataclasses
import html
import importlib
import inspect
import logging
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from robust_zoo.cli import main
from robust_zoo.site import api, reference
from robust_zoo.site.build import build
from robust_zoo.site.docstrings import Sources, read
from robust_zoo.site.pages import Contents, Section

HOME = Path(__file__).parents[2]
EXPORTS = api.exports()
NAMES = [f"{package}.{name}" for package, names in EXPORTS.items() for name in names]


@cache
def entries():
    groups = api.groups(Sources(HOME), EXPORTS)
    return {entry.name: entry for group in groups for entry in group.entries}


def named(name):
    """The object itself."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def default_of(thing, parameter):
    """A parameter's default; of a dataclass's field what its factory makes."""
    fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
    factory = {f.name: f.default_factory for f in fields}.get(parameter.name, dataclasses.MISSING)
    return parameter.default if factory is dataclasses.MISSING else factory()


class Ids(HTMLParser):
    """Ids, links to them, and the names in bold of each entry."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.bold, self.entry, self.is_bold = [], [], {}, "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.is_bold = tag == "b"
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "section":
            self.entry = found["id"]
        if tag == "a" and found["href"].startswith("#"):
            self.links.append(found["href"][1:])

    def handle_data(self, data):
        if self.is_bold:
            self.bold.setdefault(self.entry, []).append(data)
            self.is_bold = False


@pytest.fixture(scope="module")
def page():
    return build(Contents(()), [Section(api.PATH, "Reference", reference.build)], minify=False)[api.PATH].decode()


def test_all_exports_are_there():
    assert [*EXPORTS] == ["robust_zoo", "robust_zoo.training", "robust_zoo.visualization"]
    for package, names in EXPORTS.items():
        assert {*importlib.import_module(package).__all__} - {*names} <= {"visualize"}


@pytest.mark.parametrize("name", NAMES)
def test_every_export_is_there_with_every_parameter(page, name):
    found, thing = entries()[name], named(name)
    place = name.rpartition(".")[2]
    assert f'<section class="entry" id="{place}">' in page
    if not callable(thing):
        assert "".join(word.text for word in found.value) == repr(thing)
        return
    expected = inspect.signature(thing).parameters.values()
    assert [p.name.strip("*") for p in found.parameters] == [p.name for p in expected]
    where = vars(importlib.import_module(found.path.rpartition(".")[0]))
    for said, real in zip(found.parameters, expected, strict=True):
        assert said.kind.replace("-", " ") == real.kind.description.replace("-", " ")
        assert "".join(word.text for word in said.type).replace('"', "'") == real.annotation.replace('"', "'")
        if said.default is None:
            assert real.default is inspect.Parameter.empty
        else:
            assert eval(said.default, where) == default_of(thing, real)
    assert Ids(page).bold.get(place, [])[: len(found.parameters)] == [p.name for p in found.parameters]


def test_a_dataclass_says_its_defaults_beside_its_fields(page):
    """Once: it has no call that would say them again."""
    told = 0
    for entry in (entry for entry in entries().values() if entry.kind == "dataclass"):
        place = entry.short if f'id="{entry.short}"' in page else entry.name
        part = page.partition(f'<section class="entry" id="{place}">')[2].partition("<section")[0]
        terms = html.unescape(re.sub(r"<(?!/?d[td]>).*?>", "", part))
        for p in entry.parameters:
            default = "" if p.default is None else f" = {p.default}"
            assert f"<dt>{p.name}: {''.join(word.text for word in p.type)}{default}</dt>" in terms, (entry.name, p.name)
            told += bool(default)
        assert f"{entry.short}({p.name}" not in terms
    assert told > 60


def undescribed(entry):
    """What an entry leaves unsaid."""
    items = [*entry.parameters, *(a for a in entry.attributes if a.kind == "property")]
    unsaid = [item.name for item in items if not item.text] + [entry.name] * (not entry.text)
    if entry.kind == "function" and entry.returns and not entry.returns.text:
        unsaid.append("returns")
    return unsaid


@pytest.mark.parametrize("name", [*NAMES, *api.TOLD])
def test_everything_is_described(name):
    assert undescribed(entries()[name]) == []
    parts = inspect.getsource(named(name)).splitlines() if callable(named(name)) else []
    assert entries()[name].line == (inspect.getsourcelines(named(name))[1] if parts else entries()[name].line)


def test_types_are_described():
    """Whatever is shown says at least what it is."""
    assert [entry.name for entry in entries().values() if not entry.text] == []


@pytest.fixture
def planted(tmp_path):
    """A package whose second export has no docstring, and whose third is not defined."""
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "__init__.py").write_text("from zoo.inside import told, untold, absent\n")
    code = (
        'class Kind:\n    """A type."""\n\n'
        'def told(x: "Kind" = 3, *, y) -> int:\n    """Told.\n\n    Args:\n        x: X.\n        y: Y.\n\n'
        '    Returns:\n        Z.\n    """\n\n'
        "def untold(x): ...\n"
    )
    (tmp_path / "zoo" / "inside.py").write_text(code)
    return Sources(tmp_path, "zoo")


def test_a_name_without_a_docstring_is_seen(planted):
    told, untold, kind = read(planted, ["zoo.told", "zoo.untold"])
    assert undescribed(told) == [] and undescribed(untold) == ["x", "zoo.untold"]
    assert (told.file, told.line, kind.name) == ("zoo/inside.py", 4, "zoo.inside.Kind")  # a type comes by itself


def test_a_name_that_is_not_defined_is_an_error(planted):
    for name in ("absent", "other"):
        with pytest.raises(LookupError, match=f"zoo.{name} is defined nowhere"):
            read(planted, [f"zoo.{name}"])


def test_links_lead_somewhere(page):
    found = Ids(page)
    assert len(found.ids) == len(set(found.ids)) and len(found.links) > 300
    assert set(found.links) <= set(found.ids)
    assert '<a href="#Checkpoint">Checkpoint</a>' in page
    assert '<a href="#pixel_model"><code>robust_zoo.pixel_model(model)</code></a>' in page


def test_examples_can_be_pasted(page):
    found = re.findall(r'<pre class="code">(.*?)</pre>', page, re.DOTALL)
    for example in found:
        ast.parse(html.unescape(re.sub(r"</?[biu]>", "", example)))
    assert len(found) > 12 and any("\n<i># " in example for example in found)


def test_a_name_that_two_have_leads_to_neither():
    one, other = (api.Entry(f"a.{x}.run", f"a.{x}.run", "function", "", 1, "") for x in "xy")
    assert api.links([one, other]) == {
        "a.x.run": "#a.x.run", "x.run": "#a.x.run", "a.y.run": "#a.y.run", "y.run": "#a.y.run"
    }  # fmt: skip


def test_what_users_are_told_to_import_is_there():
    paths = {path for entry in entries().values() for path in (entry.name, entry.path)}
    readme = (HOME / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE))
    told = {f"robust_zoo.{name}" for name in re.findall(r"\brobust_zoo\.((?:training\.)?\w+)\(", blocks)}
    for file in (HOME / "tutorials").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robust_zoo"):
                told |= {f"{node.module}.{alias.name}" for alias in node.names}
    told -= {"robust_zoo.cli.main", "robust_zoo.visualization"}  # the command line has its own page; a package
    assert len(told) >= 4 and told - paths == set()  # what is missing is a row of api.TOLD


def test_griffe_understands_every_docstring(caplog):
    with caplog.at_level(logging.WARNING):
        api.groups(Sources(HOME), EXPORTS)
    assert caplog.messages == []


def test_each_reference_leads_to_the_other(page):
    both = reference.build(Contents((), commands=main))
    assert [each.values["tabs"] for each in both] == [
        [("api.html", "Python interface"), ("cli.html", "Command line")]
    ] * 2
    assert "cli.html" not in page  # made without commands


def test_nothing_heavy_is_imported():
    """Neither for this page nor for the one of the command line, whose verbs promise torch in their bodies only."""
    code = (
        "import sys; from robust_zoo.cli import main; from robust_zoo.site import reference\n"
        "from robust_zoo.site.pages import Contents\n"
        "assert len(reference.build(Contents((), commands=main))) == 2\n"
        "assert not {'torch', 'timm', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
