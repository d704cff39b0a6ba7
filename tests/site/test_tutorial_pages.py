"""Tutorials as pages and notebooks."""

import html
import io
import re
import zipfile
from pathlib import Path

import jupytext
import nbformat
import pytest

import robust_zoo
from robust_zoo.site import checkout, guides, tutorials
from robust_zoo.site.build import build
from robust_zoo.site.pages import Contents, Section
from robust_zoo.site.prose import python

HOME = Path(__file__).parents[2]
TEXT = """# %% [markdown]
# # Look & see
#
# What one gets: a `picture`. About 20 seconds.

# %%
import this  # <now>

print("a < b")

# %% [markdown]
# | a | b |
# |---|---|
# | 1 | <script>x</script> |

# %%
assert this is not None
"""


def made(texts):
    return build(Contents((), tutorials=texts), [Section(tutorials.PATH, "Tutorials", tutorials.build)], minify=False)


def test_a_page_a_notebook_and_a_line_of_the_list():
    files = made({"look": TEXT})
    page, listed = files["tutorials/look.html"].decode(), files[tutorials.PATH].decode()
    assert "<title>Look &amp; see · robust_zoo</title>" in page and "<h1>Look &amp; see</h1>" in page
    assert "<b>import</b> this  <i># &lt;now&gt;</i>" in page
    assert '<u>"a &lt; b"</u>' in page and "<td>1</td>" in page and "<script>x" not in page
    assert 'href="notebooks.zip"' in page and 'href="notebooks.zip"' in listed
    assert 'href="look.html">Look &amp; see</a>' in listed
    assert "<p>What one gets: a <code>picture</code>. About 20 seconds.</p>" in listed


def test_the_notebook_is_valid_and_says_the_same():
    content = tutorials.notebook(TEXT)
    found = nbformat.reads(content.decode(), as_version=4)
    nbformat.validate(found)
    source = jupytext.reads(TEXT, fmt="py:percent").cells
    assert [(c.cell_type, c.source) for c in found.cells] == [(c.cell_type, c.source) for c in source]
    assert [c.id for c in found.cells] == ["1", "2", "3", "4"]
    assert found.metadata.kernelspec.name == "python3"
    with zipfile.ZipFile(io.BytesIO(made({"look": TEXT, "other": TEXT})["tutorials/notebooks.zip"])) as archive:
        assert archive.namelist() == ["look.ipynb", "other.ipynb"] and archive.read("look.ipynb") == content


def test_same_text_same_bytes():
    """jupytext alone draws the cells' ids at random."""
    assert made({"look": TEXT}) == made({"look": TEXT})
    drawn = [cell.id for _ in range(2) for cell in jupytext.reads(TEXT, fmt="py:percent").cells]
    assert len(set(drawn)) == len(drawn)


def test_without_tutorials_the_page_says_where_they_are():
    (page,) = (content for path, content in made({}).items() if path == tutorials.PATH)
    assert b"not installed with the package" in page


GUIDE = """# What & why

See [faults](faults.md#here), [other](other.md), [a card](../model_cards/resnet50_l2_eps3.md),
[the rules](../CONTRIBUTING.md)
and [the paper](https://arxiv.org/abs/2007.08489). ![Two models](demo.png)

```python
import this  # <now>
```

| state | meaning |
|---|---|
| `pinned_here` | known |
<!-- end -->
"""


def test_a_guide_stays_in_the_site(monkeypatch):
    monkeypatch.setattr("robust_zoo.home.REPOSITORY", "")
    pages = {page.path: page for page in guides.build({"why": GUIDE, "other": "# Other\n"})}
    text = pages["docs/why.html"].values["text"]
    assert pages["docs/why.html"].title == "What & why" and "<h1>What &amp; why</h1>" in text
    assert re.findall('href="(.*?)"', text) == [
        "../faults.html#here", "../docs/other.html", "../model/resnet50_l2_eps3.html", "https://arxiv.org/abs/2007.08489"
    ]  # fmt: skip
    assert "\nthe rules\n" in text and "<em>Two models</em>" in text and "<img" not in text
    assert '<div class="scroll" tabindex="0" role="region" aria-label="Table 1"><table>' in text
    assert text.count("<tr>") == 2 and "<!--" not in text and "end" not in text
    assert "<code>pinned_<wbr>here</code>" in text
    assert '<pre class="code"><b>import</b> this  <i># &lt;now&gt;</i></pre>' in text
    monkeypatch.setattr("robust_zoo.home.REPOSITORY", "zoo/robust")
    (page,) = guides.build({"why": GUIDE})
    assert 'href="https://github.com/zoo/robust/blob/main/CONTRIBUTING.md"' in page.values["text"]
    assert 'href="https://github.com/zoo/robust/blob/main/docs/other.md"' in page.values["text"]


def test_guides_are_listed():
    files = build(
        Contents((), guides={"why": GUIDE}), [Section(tutorials.PATH, "Tutorials", tutorials.build)], minify=False
    )
    assert b'<a href="../docs/why.html">What &amp; why</a>' in files[tutorials.PATH] and "docs/why.html" in files


def test_tutorials_are_those_of_a_checkout(tmp_path, monkeypatch):
    (tmp_path / "tutorials").mkdir()
    (tmp_path / "tutorials" / "look.py").write_text(TEXT)
    monkeypatch.setattr(robust_zoo, "__file__", str(tmp_path / "robust_zoo" / "__init__.py"))
    assert checkout.texts("tutorials", ".py") == {}  # a folder of that name among installed packages is anyone's
    (tmp_path / "pyproject.toml").touch()
    assert checkout.texts("tutorials", ".py") == {"look": TEXT}


@pytest.mark.parametrize("text", ["", "x = 1\n", "# %% [markdown]\n# No heading.\n", "# %% [markdown]\n# # Only one\n"])
def test_one_that_does_not_begin_with_words_is_refused(text):
    with pytest.raises(ValueError, match="look does not begin with"):
        tutorials.read("look", text)


def test_our_own_are_shown():
    texts = checkout.texts("tutorials", ".py")
    files = made(texts)
    assert len(files[tutorials.PATH]) < 10_000
    for name in texts:
        assert files[f"tutorials/{name}.html"]
        assert 'href="' + name + '.html"' in files[tutorials.PATH].decode()


@pytest.mark.parametrize("file", ["robust_zoo/site/prose.py", "robust_zoo/factory.py", "training/attacks/apgd.py"])
def test_marked_code_is_the_same_code(file):
    code = (HOME / file).read_text(encoding="utf-8")
    shown = python(code)
    assert html.unescape(re.sub(r"</?[biu]>", "", shown)) == code
    assert shown.count("<b>def</b>") == len(re.findall(r"^ *def ", code, re.MULTILINE))


def test_of_a_console_only_what_was_typed_is_code():
    assert python(">>> get('x')\n... if x\n'if'\n") == ("get(<u>'x'</u>)\n<b>if</b> x\n<i># 'if'</i>")
