"""Debian's Chromium without a window, for tests of the site: pages from file://, and what it has to say of them."""

import json
import shutil
import time
from functools import cached_property
from importlib.resources import files

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WIDE, PHONE = 1200, 390  # pixels
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


def require():
    """Skips where there is nothing to test with."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver (Debian's packages chromium and chromium-driver)")
    for module in ("selenium", "axe_core_python"):
        pytest.importorskip(module, reason=f"no {module} (pip install 'robust-zoo[browser]')")


class Browser:
    """One Chromium and one site.

    Args:
        site: The site's folder.
        downloads: Where files go that a page hands out.
    """

    def __init__(self, site, downloads):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in _FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        options.add_experimental_option("perfLoggingPrefs", {"enableNetwork": True, "enablePage": False})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.root, self.downloads, self.opened = site.as_uri(), downloads, 0
        self.do("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        self.do("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])

    def do(self, command, **arguments):
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def look(self, *, width=WIDE, dark=False, media=""):
        """How the page is looked at from now on."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def open(self, path, **look):
        """A page as new, with "#..." at its end where it has a state."""
        self.look(**look)
        self.opened += 1  # a page that differs in its "#..." alone is not loaded again
        file, hash_, state = path.partition("#")
        self.driver.get(f"{self.root}/{file}?{self.opened}{hash_}{state}")

    def js(self, code, *arguments):
        """What an expression or a function body gives."""
        return self.driver.execute_script(code if "return" in code else f"return {code}", *arguments)

    def all(self, css):
        return self.driver.find_elements("css selector", css)

    def one(self, css):
        return self.driver.find_element("css selector", css)

    def complaints(self):
        """Messages on the console, and requests for anything but files, since it was asked last."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return said + [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))]

    def wait(self, done, seconds=10):
        """Until something is true."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end
            time.sleep(0.02)

    def violations(self, **options):
        """What axe-core says of the page: a rule and the elements that break it, each on a line."""
        self.driver.execute_script(self._axe)
        found = self.driver.execute_async_script(
            "axe.run(document, arguments[0]).then(r => arguments[1](r.violations), e => arguments[1](String(e)))",
            {"preload": False, "resultTypes": ["violations"], **options},
        )
        assert isinstance(found, list), found
        return [f"{rule['id']}: {' | '.join(node['html'][:120] for node in rule['nodes'][:3])}" for rule in found]

    @cached_property
    def _axe(self):
        return files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
