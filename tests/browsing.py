"""A browser window that reads the site as a person does: what the tests of the pages share."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from demur.tests.page_boards import site_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SITE_SOURCE = Path(__file__).resolve().parent.parent / "leaderboard" / "pages" / "assets"
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective));
"""


@contextmanager
def opened_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield one
        one.close()


class Reader:
    """A browser window that fails the test on any message, error or breach of the page's policy."""

    def __init__(self, browser: Browser, *, width: int = 1400, scheme: str = "light") -> None:
        height = 844 if width < 600 else 900
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        self.context.add_init_script(WATCH)
        self.context.set_default_timeout(20_000)
        self.page: Page = self.context.new_page()
        self.heard: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.heard.append(message.text))
        self.page.on("pageerror", lambda error: self.heard.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def views(self) -> list[str]:
        """The views that the page's navigation names."""
        named: list[str] = self.page.eval_on_selector_all("nav a[data-view]", "(all) => all.map((a) => a.dataset.view)")
        return named

    def open(self, site: str, fragment: str = "ranking") -> Page:
        self.page.goto(f"{(site_of(site) / 'index.html').as_uri()}#{fragment}")
        self.page.wait_for_function("document.documentElement.dataset.ready")
        return self.page

    def go(self, fragment: str) -> None:
        self.page.evaluate("(fragment) => { location.hash = fragment; }", fragment)
        view = re.split("[/?]", fragment)[0]
        self.page.wait_for_selector(f"section#{view}:not([hidden])")

    def finish(self) -> None:
        assert self.heard == []
        assert self.page.evaluate("window.violations") == []
        assert [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))] == []
        self.context.close()


def names(page: Page, table: str = "rank-table") -> list[str]:
    """The models of a table's first body from top to bottom, without hidden ones."""
    lines: list[str] = page.eval_on_selector_all(
        f"#{table} tbody:first-of-type tr:not([hidden]) th",
        "(all) => all.map((th) => th.querySelector('bdi').textContent)",
    )
    return lines
