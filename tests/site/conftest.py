"""What the site's tests share: all rows and all results, read once."""

from dataclasses import replace
from pathlib import Path

import chromium
import pytest

from robust_zoo.cli import main
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.site.build import build
from robust_zoo.site.ledger import evidence
from robust_zoo.site.pages import Contents

_RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="session")
def results():
    return _RESULTS


@pytest.fixture(scope="session")
def contents():
    return Contents(tuple(get(name) for name in list_models()), evidence(_RESULTS))


@pytest.fixture(scope="session")
def folder(contents, tmp_path_factory):
    """The whole site, as `robust-zoo site` writes it."""
    folder = tmp_path_factory.mktemp("site")
    for path, content in build(replace(contents, commands=main)).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def _chromium(folder, tmp_path_factory):
    chromium.require()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        browser = chromium.Browser(folder, tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(_chromium):
    """A browser that remembers nothing. Whatever it does, it says nothing on the console and asks nobody."""
    _chromium.open("index.html")
    _chromium.js("localStorage.clear()")
    _chromium.complaints()
    yield _chromium
    assert _chromium.complaints() == []
