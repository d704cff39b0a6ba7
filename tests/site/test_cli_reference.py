"""The reference of the command line against click itself: the tree of its options, the text of every `--help`."""

import html
import re
from dataclasses import replace
from pathlib import Path

import click
import pytest
from verbs import commands, run

from robust_zoo import errors
from robust_zoo.cli import main
from robust_zoo.site import commands as commands_page
from robust_zoo.site.build import build
from robust_zoo.site.pages import Contents, Section
from robust_zoo.weights.asked import LEAST_RATE, READ_TIMEOUT
from robust_zoo.weights.variables import VARIABLES

HOME = Path(__file__).parents[2]

COMMANDS = dict((("-".join(["robust-zoo", *words])), (words, command)) for words, command in commands())


def page_of(group):
    section = Section(commands_page.PATH, "Reference", alone)
    return build(Contents((), commands=group), [section], minify=False)[commands_page.PATH].decode()


def alone(contents):
    """The page without its sibling, which takes longer than all of this file."""
    return [replace(page, values={**page.values, "tabs": []}) for page in commands_page.build(contents)]


def sections(page):
    """The HTML of each verb, by its id."""
    return dict(re.findall(r'<section class="entry" id="(.*?)">(.*?)</section>', page, re.DOTALL))


def drift(page):
    """Options that click has and the page lacks, and the other way round, by verb."""
    shown = {verb: set() for verb in sections(page)}
    for verb, text in sections(page).items():
        for term in re.findall("<dt>(.*?)</dt>", text):
            shown[verb] |= set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", term))
    real = {}
    for verb, (_, command) in COMMANDS.items():
        taken = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        real[verb] = {word for p in taken for word in (*p.opts, *p.secondary_opts)} - {"-h", "--help"}
    assert shown.keys() == real.keys()
    return {verb: shown[verb] ^ real[verb] for verb in real if shown[verb] != real[verb]}


@pytest.fixture(scope="module")
def page():
    return page_of(main)


def test_options_are_those_of_click(page):
    assert drift(page) == {} and len(COMMANDS) > 25
    shown = sections(page)
    assert "--attack TEXT" in shown["robust-zoo-evaluate"] and "--ema / --raw" in shown["robust-zoo-convert"]
    assert "--data " not in shown["robust-zoo-transfer-run"]  # hidden: what --dataset was called


@pytest.mark.parametrize("where", ["click", "page"])
def test_a_planted_option_is_seen(page, where, monkeypatch):
    _, command = COMMANDS["robust-zoo-info"]
    planted = [*command.params, click.Option(["--planted"], help="Of no use.")]
    monkeypatch.setattr(command, "params", planted)
    if where == "page":
        page = page_of(main)
        monkeypatch.undo()
    assert drift(page) == {"robust-zoo-info": {"--planted"}}


def letters(text):
    """Without spaces, which are the terminal's, and without the marks of code."""
    return re.sub(r"[\s`]", "", text)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_help_is_there_word_for_word(page, verb):
    """Usage, text and options, as `--help` prints them."""
    said = run(*COMMANDS[verb][0], "--help").stdout.removeprefix("Usage: ").partition("\nCommands:\n")[0]
    said = re.sub(r"\n +-h, --help +Show this message and exit\.\n", "\n", said).replace("\nOptions:\n", "\n")
    shown = re.sub(r"<h2>.*?</h2>|<ul>.*?</ul>|<.*?>", "", sections(page)[verb], flags=re.DOTALL)
    assert letters(html.unescape(shown)) == letters(said)


def test_what_holds_for_all_verbs_is_said_once(page):
    head = page.partition('<section class="entry"')[0]
    assert "<dt>--debug</dt>" in head and "<dt>--version</dt>" in head and "Exit codes: 0 ok" in head
    codes = {int(code) for code in re.findall(r"(\d+) [a-z]", main.help.partition("Exit codes:")[2])}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ZooError)]
    assert codes == {kind.exit_code for kind in kinds} | {0, 70, 130}
    listed = dict(re.findall(r'<dt><a href="#robust-zoo-.*?">(.*?)</a></dt>\n<dd>(.*?)</dd>', head))
    printed = run("--help").stdout.partition("\nCommands:\n")[2].partition("\n\n")[0]
    assert listed == {name: html.escape(line) for name, line in re.findall(r"^  (\w+) +(.+)$", printed, re.MULTILINE)}


def test_every_variable_that_is_read_has_its_row():
    files = {file for wing in ("robust_zoo", "training") for file in (HOME / wing).rglob("*.py")}
    texts = [file.read_text(encoding="utf-8") for file in files - {HOME / "robust_zoo" / "weights" / "variables.py"}]
    ours = {name for text in texts for name in re.findall('"(ROBUST_ZOO_[A-Z_]+)"', text)}
    assert len(ours) == 8 and {name for name in VARIABLES if name.startswith("ROBUST_ZOO")} == ours
    assert f"; {READ_TIMEOUT:g} when" in VARIABLES["ROBUST_ZOO_TIMEOUT"]
    assert f"; {LEAST_RATE:g} when" in VARIABLES["ROBUST_ZOO_MIN_RATE"]


def test_variables_are_those_of_the_help(page):
    said = run("--help").stdout.partition("Variables of the environment:\n")[2]
    shown = re.search(r'<h2 id="variables">.*?</h2>(.*?)</dl>', page, re.DOTALL)[1]
    assert letters(html.unescape(re.sub("<.*?>", "", shown))) == letters(said) != ""


def test_help_is_text():
    """Of anyone's: no HTML comes through."""
    inner = click.Command(
        "run", help="Of <b> `code`.\n\n\b\nkept  <i>\n  as it is", params=[click.Option(["--a"], help="<u>")]
    )
    made = page_of(click.Group("x", {"run": inner}))
    assert "<p>Of &lt;b&gt; <code>code</code>.</p>" in made and "<dd>&lt;u&gt;</dd>" in made
    assert "kept  &lt;i&gt;\n  as it is</pre>" in made
