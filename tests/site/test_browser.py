"""The site in a real browser, from file://. Every test also fails on a console message, and on a request for more."""

import random
import re

import built_site
import pytest
from chromium import PHONE, WIDE

from robust_zoo.registry.comparison import ALONE, UNKNOWN, compare
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.robustness import best_robust, by_robustness
from robust_zoo.training.evaluation.paired import paired

A, B = "resnet18_x0_25_cifar10_l2_eps0_25", "resnet18_x0_25_cifar10_l2_eps0_5"
PAIR = f"compare.html#compare={A},{B}"
NAMES = list_models()


def shown(browser):
    """Names of the table's visible lines, from the top."""
    return browser.js(
        "[...document.querySelectorAll('#checkpoints tbody tr')].filter(r => r.offsetHeight).map(r => r.id)"
    )


def address(browser):
    return browser.js("location.hash")


def choose(browser, field, value):
    """As a user does: a value of a form's field."""
    browser.js(
        "const f = document.querySelector('#filters').elements[arguments[0]]; f.value = arguments[1];"
        "f.dispatchEvent(new Event('input', {bubbles: true})); return 0",
        field, value,
    )  # fmt: skip


def by_clean(name):
    value = get(name).clean_accuracy
    return value is None, -(value or 0), NAMES.index(name)


def test_sort_by_mouse_and_keyboard(browser):
    from selenium.webdriver.common.keys import Keys

    browser.open("index.html")
    assert shown(browser) == NAMES
    head = browser.one("th[data-sort=clean]")
    head.find_element("tag name", "button").click()
    assert shown(browser) == sorted(NAMES, key=by_clean)
    assert (head.get_attribute("aria-sort"), address(browser)) == ("descending", "#sort=clean")
    head.find_element("tag name", "button").click()
    assert shown(browser) == sorted(NAMES, key=lambda n: (by_clean(n)[0], -by_clean(n)[1], NAMES.index(n)))
    assert head.get_attribute("aria-sort") == "ascending"

    head = browser.one("th[data-sort=robust]")
    head.find_element("tag name", "button").send_keys(Keys.ENTER)
    known = [n for n in NAMES if best_robust(get(n))]
    order = sorted(known, key=lambda n: by_robustness(get(n)))
    assert shown(browser)[: len(known)] == order and head.get_attribute("aria-sort") == "descending"
    browser.driver.switch_to.active_element.send_keys(Keys.SPACE)
    assert shown(browser)[: len(known)] == order[::-1] and head.get_attribute("aria-sort") == "ascending"
    sorts = browser.js("[...document.querySelectorAll('th[aria-sort]')].map(h => h.ariaSort)")
    assert len(sorts) - sorts.count("none") == 1


SEARCHES = [
    "resnet50_*", "*_linf_eps4", "resnet50_l2_eps[13]", "resnet50_l2_eps[!13]", "wide?resnet50*", "[d-m]*", "*eps0.5",
    "resnet50_l2_eps3.0", "resnet50_linf_eps4.0.ckpt", "resnet18_linf_eps4/255", "resnet50_*  densenet*", "no_such",
]  # fmt: skip


def test_search_has_the_wildcards_of_list_models(browser):
    browser.open("index.html")
    browser.one("#q").send_keys("resnet50_*")
    assert shown(browser) == list_models("resnet50_*") and address(browser) == "#q=resnet50_*"
    for text in SEARCHES:
        choose(browser, "q", text)
        patterns = text.split()
        expected = {name for pattern in patterns if "no_" not in pattern for name in found(pattern)}
        assert set(shown(browser)) == expected, text
    assert browser.one("#none").is_displayed() and "0 of" in browser.one("#count").text


def found(pattern):
    return list_models(pattern) if set(pattern) & set("*?[") else [get(pattern).name]


def test_filters_and_their_address(browser):
    browser.open("index.html")
    choose(browser, "norm", "linf")
    assert shown(browser) == list_models(norm="linf")
    choose(browser, "eps", "4/255")
    choose(browser, "architecture", "resnet50")
    expected = list_models(norm="linf", eps="4/255", architecture="resnet50")
    assert shown(browser) == expected and f"{len(expected)} of {len(NAMES)}" in browser.one("#count").text
    link = address(browser)
    assert "norm=linf" in link and "eps=4/255" in link
    browser.one("#filters button[type=reset]").click()
    assert shown(browser) == NAMES and address(browser) == ""

    browser.open(f"index.html{link}&sort=-clean&compare={A}")  # as someone else opens it
    assert sorted(shown(browser)) == sorted(expected)
    values = [get(name).clean_accuracy for name in shown(browser)]
    assert values == sorted(values) and len(set(values)) > 1
    assert [browser.one(f"#f-{key}").get_attribute("value") for key in ("norm", "eps")] == ["linf", "4/255"]
    assert browser.one("#picked").is_displayed()


def test_ticks_lead_to_the_comparison(browser):
    browser.open("index.html#q=resnet18_x0_25*")
    assert not browser.one("#picked").is_displayed()
    for name in (A, B):
        browser.one(f"tr[id={name}] .pick input").click()
    browser.one("#picked a").click()
    assert browser.js("location.pathname.split('/').pop() + location.hash") == PAIR
    assert [item.text for item in browser.all("#chosen a")] == [A, B]


def test_lines_of_a_comparison_are_those_of_the_command(browser, results):
    """Any twos and threes, against registry/comparison.py: kinds, figures, words, pairs."""
    rng = random.Random(0)
    asked = [[A, B], [n for n in NAMES if "cifar10" in n], *(rng.sample(NAMES, rng.choice((2, 3))) for _ in range(80))]
    asked = [sorted(names, key=NAMES.index) for names in asked]
    browser.open("compare.html")
    said = browser.js("arguments[0].map(comparison)", asked)
    words = {"Alone": ALONE, "How ": UNKNOWN, "": ""}
    seen = 0
    for names, lines in zip(asked, said, strict=True):
        checkpoints = [get(name) for name in names]
        expected = compare(checkpoints, paired(results, checkpoints))
        assert len(lines) == len(expected), names
        for line, right in zip(lines, expected, strict=True):
            assert [f and f[0] for f in line["figures"]] == [f and f.value for f in right.figures]
            assert next(words[key] for key in words if line["word"].startswith(key)) == right.word
            pairs = [(p["i"], p["j"], p["apart"]) for p in line["pairs"]]
            assert pairs == [(i, j, apart) for (i, j, _), apart in zip(right.pairs, right.apart, strict=True)]
            assert [bool(p["p"]) for p in line["pairs"]] == [bool(counted) for *_, counted in right.pairs]
            for told, (*_, counted) in zip(line["pairs"], right.pairs, strict=True):
                only = counted and f"only A gets {counted.wins:,} right and only B {counted.losses:,}; p "
                assert not only or only in told["words"]
            seen += len(pairs)
    assert seen > 60


def test_compare_by_the_address_and_by_hand(browser):
    browser.open(PAIR)
    first = browser.one("section.kind")
    assert "Clean, 10,000 images" in first.text and "83.32" in first.text and "77.65" in first.text
    verdicts = [p.text for p in browser.all(".verdict") if p.is_displayed()]
    assert verdicts[0].startswith("Apart. A less B is +5.7 points") and any(
        v.startswith("Not apart.") for v in verdicts
    )
    browser.one("#names").send_keys("*cifar10_linf_eps8\n")
    assert address(browser) == f"#compare={A},{B},resnet18_x0_25_cifar10_linf_eps8"
    assert [item.text for item in browser.all("#chosen b")] == ["A", "B", "C"]
    browser.one(f"button[aria-label='Remove {A}']").click()
    assert address(browser) == f"#compare={B},resnet18_x0_25_cifar10_linf_eps8" and len(browser.all("#chosen li")) == 2
    browser.driver.back()
    assert len(browser.all("#chosen li")) == 3
    browser.one("#names").send_keys("no_such resnet50_*\n")
    assert "no checkpoint no_such" in browser.one("#said").text and len(browser.all("#chosen li")) == 6
    assert f"6 of {3 + len(list_models('resnet50_*'))}" in browser.one("#said").text


def test_copy_button(browser):
    browser.open("index.html")
    button = browser.one(".copy > button")
    code = browser.one(".copy > pre").text
    button.click()
    copied = browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0], arguments[0])")
    assert copied == code and "create_model" in copied and browser.one(".copy > button").text == "Copied"


def test_csv_and_json_are_handed_out(browser, folder):
    browser.open("data.html")
    links = [link.get_attribute("href").removeprefix(f"{browser.root}/") for link in browser.all("main a[download]")]
    assert len(links) == 5 and all((folder / link).is_file() for link in links)
    browser.one("a[href='data/models.csv.gz']").click()
    file = browser.downloads / "models.csv.gz"
    browser.wait(file.is_file)
    assert file.read_bytes() == (folder / "data/models.csv.gz").read_bytes()


def paper(browser):
    """How light the page's ground is, 0 to 255."""
    colour = browser.js("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_theme_is_the_systems_until_another_is_asked_for(browser):
    browser.open("data.html")
    assert paper(browser) > 240
    browser.open("data.html", dark=True)
    assert paper(browser) < 40
    browser.one("#theme").click()
    assert paper(browser) > 240
    browser.open("about.html", dark=True)
    assert paper(browser) > 240 and browser.one("#theme").text == "Dark theme"
    browser.one("#theme").click()
    browser.open("data.html")
    assert paper(browser) < 40
    browser.js("localStorage.clear()")


@pytest.mark.parametrize("path", ["index.html", PAIR])
def test_print_is_the_content_on_white(browser, path):
    browser.open(path, dark=True, media="print")
    assert paper(browser) > 240
    done = "#theme, nav, form, .copy > button, .skip, .pick, #chosen button, #picked"
    assert [each.get_attribute("outerHTML")[:80] for each in browser.all(done) if each.is_displayed()] == []
    assert browser.one("main table").is_displayed() and browser.one("main svg").is_displayed()


def test_without_scripts_tables_and_curves_are_there(browser, folder):
    """Of copies that have none: with scripting turned off WebDriver cannot look at a page."""
    for path, drawn in (("index.html", True), (f"model/{B}.html", True), ("compare.html", False)):
        text = (folder / path).read_text("utf-8")
        copy = (folder / path).with_name("without-scripts.html")
        copy.write_text(re.sub(r"<script.*?</script>|</?noscript>", "", text, flags=re.DOTALL), encoding="utf-8")
        browser.open(copy.relative_to(folder).as_posix())
        assert browser.one("main table").is_displayed() and (not drawn or browser.one("main svg").is_displayed())
        assert not any(each.is_displayed() for each in browser.all("form, button"))
    assert len(browser.all(".pairs tbody tr")) > 8 and "With JavaScript" in browser.one("main").text


SAME = r"""
const words = (text) => text.replace(/\s+/g, " ").trim();
function shape(node) {
  if (node.nodeType === 3) return words(node.data);
  const attributes = [...node.attributes].map(({ name, value }) => `${name}=${words(value).replaceAll(", ", ",")}`);
  const inside = [...node.childNodes].filter(({ nodeType }) => nodeType !== 8).map(shape).filter((each) => each !== "");
  return [node.tagName, attributes.sort(), inside];
}
const tree = (text) => JSON.stringify(shape(new DOMParser().parseFromString(text, "text/html").documentElement));
return arguments[0].filter(([path, one, other]) => tree(one) !== tree(other)).map(([path]) => path);
"""


def test_minified_pages_are_the_same_pages(browser, folder):
    """Chromium reads of both the same elements, attributes and words."""
    browser.open("about.html")
    pages = {path: text.decode() for path, text in built_site.written().items() if path.endswith(".html")}
    both = [[path, (folder / path).read_text("utf-8"), text] for path, text in pages.items()]
    assert browser.js(SAME, both) == [] and len(both) > 150
    path, small, text = both[0]
    assert browser.js(SAME, [[path, small, text.replace("</h1>", "</h1><p>", 1)]]) == [path]


CUT = """
const wrong = [], say = (element) => wrong.push(element.outerHTML.slice(0, 150)), root = document.documentElement;
if (root.scrollWidth > root.clientWidth) wrong.push(`a page of ${root.scrollWidth} pixels on ${root.clientWidth}`);
const told = ".n, :is(.numbers, #checkpoints) :is(td, th), :is(.facts, .of) :is(b, i), svg";
for (const cell of document.querySelectorAll(told)) {
  const box = cell.getBoundingClientRect();
  if (box.left < 0 || box.right > root.clientWidth + 1) if (arguments[0] || !cell.closest(".scroll")) say(cell);
}
for (const region of document.querySelectorAll(".scroll")) {
  if (region.tabIndex < 0 || !(region.ariaLabel || region.getAttribute("aria-labelledby"))) say(region);
}
for (const gone of document.querySelectorAll(`[hidden], ${arguments[1]}`)) if (gone.getClientRects().length) say(gone);
return wrong;
"""


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_nothing_is_cut_off_and_what_is_hidden_is(browser, kinds, width):
    """On a phone a table may scroll in a region of its own; the one of all checkpoints and that of pairs do not."""
    wrong = {}
    for path in [*kinds, PAIR]:
        browser.open(path, width=width)
        whole = width == WIDE or path in ("compare.html", "data.html", "about.html")
        cells = "#checkpoints :is(td, th)"
        gone = f".desk, {cells}:nth-last-child(-n+4), #checkpoints td small" if width == PHONE else ".phone"
        wrong[path] = browser.js(CUT, whole, gone)
    assert {path: what for path, what in wrong.items() if what} == {}


# Of what is made alike all but a few: axe takes its time.
ALIKE = (
    "tr:nth-child(n+4):nth-last-child(n+3), li:nth-child(n+4):nth-last-child(n+3), tbody:nth-of-type(n+4),"
    "option:nth-child(n+4), dt:nth-of-type(n+5), dd:nth-of-type(n+5), .entry ~ .entry ~ .entry, .pair ~ .pair,"
    ".ladder ~ .ladder, .kind ~ .kind ~ .kind"
)


@pytest.mark.parametrize("look", [{}, {"dark": True, "width": PHONE}], ids=["light", "dark-phone"])
def test_axe_finds_nothing(browser, kinds, look):
    """Dark and on a phone: of the pages with parts of their own; the others are text and tables as these are."""
    found, others = {}, [path for path in kinds if path != "compare.html"]
    for path in [
        PAIR,
        *(others if not look else [path for path in others if path.startswith(("index", "model", "cli"))]),
    ]:
        browser.open(path, **look)
        browser.js(f"document.querySelectorAll('{ALIKE}').forEach(each => each.remove()); return 0")
        found[path] = browser.violations()
    assert {path: what for path, what in found.items() if what} == {}
