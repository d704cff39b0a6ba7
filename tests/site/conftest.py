"""What the site's tests share: all rows and all results, read once."""

from dataclasses import replace

import built_site
import chromium
import pytest

from robust_zoo.registry.lookup import get, list_models
from robust_zoo.site.build import build
from robust_zoo.site.pages import Page
from robust_zoo.site.sections import SECTIONS

MEASURED = "resnet18_x0_25_cifar10_l2_eps0_5"
ENCODER = next(name for name in list_models() if get(name).is_encoder)


@pytest.fixture(scope="session")
def results():
    return built_site.ROOT / "results"


@pytest.fixture(scope="session")
def contents():
    return built_site.contents()


@pytest.fixture(scope="session")
def _built(tmp_path_factory):
    """The whole site as `robust-zoo site` writes it, and the first page of each template."""
    folder, first = tmp_path_factory.mktemp("site"), {}

    def noted(section):
        def made(contents):
            for item in section.build(contents):
                if isinstance(item, Page):
                    first.setdefault(item.template, item.path)
                yield item

        return replace(section, build=made)

    for path, content in build(built_site.checkout(), [noted(section) for section in SECTIONS]).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder, first


@pytest.fixture(scope="session")
def folder(_built):
    return _built[0]


@pytest.fixture(scope="session")
def kinds(_built):
    """A page of each kind: of models one that was measured here, and an encoder."""
    return [*(_built[1] | {"model.html": f"model/{MEASURED}.html"}).values(), f"model/{ENCODER}.html"]


@pytest.fixture(scope="session")
def _chromium(request, tmp_path_factory):
    chromium.require()
    folder = request.getfixturevalue("folder")  # not built where nobody looks at it
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        browser = chromium.Browser(folder, tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(_chromium):
    """Whatever a test does with it, it says nothing on the console and asks nobody."""
    _chromium.complaints()
    yield _chromium
    assert _chromium.complaints() == []
