"""The reference of the command line against click itself: the tree of its options, the text of every `--help`."""

import html
import re

import click
import pytest
from verbs import ROOT, commands, run

from robust_zoo import errors
from robust_zoo.cli import main
from robust_zoo.site import api, reference
from robust_zoo.site.build import build
from robust_zoo.site.pages import Contents, Section

COMMANDS = dict((("-".join(["robust-zoo", *words])), (words, command)) for words, command in commands())


def page_of(group):
    made = build(Contents((), commands=group), [Section(api.PATH, "Reference", reference.build)])
    return made["cli.html"].decode()


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
    assert all(f'<a href="#robust-zoo-{name}">' in head for name in main.list_commands(ROOT))


def test_help_is_text():
    """Of anyone's: no HTML comes through."""
    inner = click.Command(
        "run", help="Of <b> `code`.\n\n\b\nkept  <i>\n  as it is", params=[click.Option(["--a"], help="<u>")]
    )
    made = page_of(click.Group("x", {"run": inner}))
    assert "<p>Of &lt;b&gt; <code>code</code>.</p>" in made and "<dd>&lt;u&gt;</dd>" in made
    assert "<code>kept  &lt;i&gt;\n  as it is</code></pre>" in made


def test_without_commands_there_is_no_page():
    made = build(Contents(()), [Section(api.PATH, "Reference", reference.build)])
    assert "cli.html" not in made and b"cli.html" not in made[api.PATH]
