"""The site in a real browser, opened from a folder: what a reader does, sees and hears."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from demur.leaderboard.pages.text import decimals, parameters, plain
from demur.tests.page_boards import HOSTILE, board_of, site_of

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
VIEWS = ("ranking", "charts", "architectures", "hazards", "compare", "methods", "downloads")
SITE_SOURCE = Path(__file__).resolve().parent.parent / "leaderboard" / "pages" / "assets"
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective));
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the pages with")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
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


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    one = Reader(browser)
    yield one
    one.finish()


def names(page: Page, table: str = "rank-table") -> list[str]:
    """The models of a table's first body from top to bottom, without hidden ones."""
    lines: list[str] = page.eval_on_selector_all(
        f"#{table} tbody:first-of-type tr:not([hidden]) th",
        "(all) => all.map((th) => th.querySelector('bdi').textContent)",
    )
    return lines


def head(page: Page, key: str, table: str = "rank-table") -> Any:
    return page.locator(f"#{table} th[data-key={key}]")


def test_the_table_sorts_by_pointer_and_by_keyboard(reader):
    page = reader.open("many")
    rows = {row.model.id: row for row in board_of("many").rows}
    by_rank = names(page)
    assert len(by_rank) == 200
    assert [rows[name].rank for name in by_rank] == list(range(1, 201))
    assert head(page, "rank").get_attribute("aria-sort") == "ascending"
    head(page, "o").locator("button").click()
    assert head(page, "o").get_attribute("aria-sort") == "ascending"
    assert head(page, "rank").get_attribute("aria-sort") is None
    values = [rows[name].refused.over_refusal_rate.value for name in names(page)]
    assert values == sorted(values)
    assert page.evaluate("location.hash") == "#ranking?sort=o"
    button = head(page, "c").locator("button")
    button.focus()
    page.keyboard.press("Enter")
    assert head(page, "c").get_attribute("aria-sort") == "descending"
    page.keyboard.press("Space")
    assert head(page, "c").get_attribute("aria-sort") == "ascending"
    values = [rows[name].headline.value for name in names(page)]
    assert values == sorted(values)
    head(page, "active").locator("button").click()
    sizes = [rows[name].model.active_parameters for name in names(page)]
    known = [size for size in sizes if size is not None]
    assert known == sorted(known)
    assert sizes[len(known) :] == [None] * (200 - len(known)), "what is not known comes last"
    assert page.locator("#rank-table .nulls tr").count() == 3


def test_search_and_filter_and_their_address(reader):
    page = reader.open("many")
    page.fill("#q", "maker-3 model-0")
    page.keyboard.press("Enter")
    expected = [r for r in board_of("many").rows if r.model.maker == "maker-3" and "model-0" in r.model.id]
    assert names(page) == [row.model.id for row in expected]
    page.select_option("#arch", "moe")
    expected = [row for row in expected if row.model.architecture == "moe"]
    assert expected
    assert names(page) == [row.model.id for row in expected]
    assert page.inner_text("#count") == f"{len(expected)} of 200 ranked"
    address = page.evaluate("location.href")
    assert address.endswith("#ranking?q=maker-3+model-0&arch=moe")
    page.click("nav a[data-view=hazards]")
    page.wait_for_selector("#hazards:not([hidden])")
    assert names(page, "heat-table") == [row.model.id for row in expected]
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function("document.documentElement.dataset.ready")
    assert names(page) == [row.model.id for row in expected]
    assert page.input_value("#q") == "maker-3 model-0"
    page.fill("#q", "nothing is called this")
    assert names(page) == []
    assert page.inner_text("#count") == "0 of 200 ranked"


def test_the_reading_changes_the_figures_and_back(reader):
    page = reader.open("everything")
    row = board_of("everything").rows[0]
    cell = page.locator("#rank-table tbody tr").first.locator("[data-f=c] b")
    strict = next(point for point in row.strict.curve if point.k == 4).value
    assert strict != row.headline.value
    assert cell.inner_text() == decimals(row.headline.value)
    before = page.inner_html("#rank-table tbody")
    page.select_option("#reading", "strict")
    assert cell.inner_text() == decimals(strict)
    assert page.locator(".strict-note").is_visible()
    assert "reading=strict" in page.evaluate("location.hash")
    page.select_option("#reading", "refused")
    assert page.inner_html("#rank-table tbody").replace(" ", "") == before.replace(" ", "")


def test_a_models_page_and_the_way_back(reader):
    page = reader.open("everything")
    row = board_of("everything").rows[0]
    page.click(f"#rank-table a:has-text('{row.model.id}') >> nth=0")
    page.wait_for_selector("#model:not([hidden])")
    assert page.inner_text("#model-title") == row.model.id
    assert page.evaluate("document.activeElement.id") == "model-title"
    assert page.title() == f"{row.model.id} · Demur"
    text = page.inner_text("#model-body")
    for words in (
        decimals(row.headline.value),
        row.prompts.hash,
        row.scorer.hash,
        row.model.revision,
        "S1: dense direction",
        "dose at which refusal has fallen by half",
        "Figures are held back: control failed: random expert",
        "631 of 640 verdicts are those that lexicon 0.9.0 gave the submitter (98.6 %)",
        "200 responses labelled by people",
        f"demur run {row.model.id} --split public --samples 2 --temperature 0.7",
        "Run twice.\nSame figures.",
        "Cybercrime",
    ):
        assert words in text, words
    assert page.locator("#model-body tbody tr:has-text('Violent crime')").count() == 1
    page.go_back()
    page.wait_for_selector("#ranking:not([hidden])")
    assert page.locator("#model").is_hidden()
    reader.go("model/older")
    assert "Superseded" in page.inner_text("#model-body")
    reader.go("model/no-such")
    assert page.inner_text("#model-title") == "No such model"


def test_two_models_side_by_side(reader, tmp_path):
    page = reader.open("everything", "compare")
    ranked = [row for row in board_of("everything").rows if row.state == "ranked"]
    best, last, twin = ranked[0], ranked[-1], ranked[1]
    page.select_option("#a", best.id)
    assert "Choose two models" in page.inner_text("#comparison")
    page.select_option("#b", last.id)
    text = page.inner_text("#comparison")
    assert f"{best.model.id} is more consistent than {last.model.id}" in text
    assert decimals(best.headline.value - last.headline.value, signed=True) in text
    address = page.evaluate("location.href")
    page.click("#swap")
    assert page.input_value("#a") == last.id
    assert decimals(last.headline.value - best.headline.value, signed=True) in page.inner_text("#comparison")
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function("document.documentElement.dataset.ready")
    assert page.inner_text("#comparison") == text
    reader.go(f"compare?a={best.id}&b={twin.id}")
    page.wait_for_function("document.querySelector('#comparison').innerText.includes('does not order')")
    with page.expect_download() as download:
        page.click("#comparison button:has-text('Save as SVG')")
    download.value.save_as(tmp_path / "curves.svg")
    picture = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert "var(" not in picture
    assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    with page.expect_download() as download:
        page.click("#comparison button:has-text('Save as PDF')")
    download.value.save_as(tmp_path / "curves.pdf")
    drawn = read_pdf((tmp_path / "curves.pdf").read_bytes())
    assert drawn.count("Tj ET") == len(re.findall("<text", picture))
    assert drawn.count(" l S") + drawn.count(" f Q") == len(re.findall("<(?:line|path)", picture))
    assert "(k: how many times in a row) Tj" in drawn


def read_pdf(content: bytes) -> str:
    """The drawing of a one-page PDF, its table of objects and lengths proved."""
    assert content.startswith(b"%PDF-1.4\n")
    assert content.endswith(b"%%EOF\n")
    table = int(content.split(b"startxref\n")[1].split()[0])
    assert content[table:].startswith(b"xref\n0 6\n")
    for number, line in enumerate(content[table:].split(b"\n")[3:8], 1):
        assert len(line) == 19, "20 bytes with the line's end"
        assert content[int(line[:10]) :].startswith(b"%d 0 obj\n" % number)
    length, rest = content.split(b"/Length ")[1].split(b" >>\nstream\n", 1)
    assert rest[int(length) :].startswith(b"\nendstream")
    return rest[: int(length)].decode("latin-1")


def test_downloads_are_the_files(reader, tmp_path):
    page = reader.open("everything", "downloads")
    for name in ("board.csv", "board.parquet"):
        with page.expect_download() as download:
            page.click(f"#downloads a:has-text('{name}')")
        download.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_bytes() == (site_of("everything") / "downloads" / name).read_bytes()
    assert page.locator("#downloads a").count() == 5 + 2 * 5


def test_a_mark_of_a_chart_names_its_model_and_leads_to_it(reader):
    page = reader.open("everything", "charts")
    row = board_of("everything").rows[2]
    mark = page.locator("#chart-plane [data-at='2']")
    mark.hover()
    assert mark.locator("title").text_content().startswith(f"{row.model.id}: C@4 {decimals(row.headline.value)} [")
    mark.click()
    page.wait_for_selector("#model:not([hidden])")
    assert page.inner_text("#model-title") == row.model.id


def test_the_keyboard_reaches_everything_and_shows_where_it_is(reader):
    page = reader.open("everything", "")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        where = page.evaluate(
            "() => { const e = document.activeElement; const s = getComputedStyle(e);"
            " return [e.tagName, e.textContent.trim().slice(0, 40), s.outlineStyle !== 'none']; }"
        )
        if where[0] == "BODY":
            break
        assert where[2], f"no focus mark on {where[:2]}"
        reached.append(where[1])
    assert reached[0] == "Skip to the content"
    assert "Methods" in reached
    assert "C@4" in reached
    assert board_of("everything").rows[0].model.id in reached
    page.goto("about:blank")
    page = reader.open("everything", "")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.locator("#ranking").is_visible()


def test_methods_open_at_the_place_that_a_link_names(reader):
    page = reader.open("everything", "methods/tie-group")
    page.wait_for_function("Math.abs(document.getElementById('methods/tie-group').getBoundingClientRect().top) < 60")
    page.click("nav a[data-view=ranking]")
    page.click("#ranking a[href='#methods/null-models']")
    page.wait_for_selector("#methods:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "methods/null-models"


def faults(page: Page) -> list[str]:
    """What axe-core finds, apart from what it calls minor."""
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] != "minor"]


def test_the_accessibility_check_finds_faults(browser):
    page = browser.new_page()
    page.set_content("<title>x</title><p style='color:#aaa;background:#fff'>pale</p><img src='data:,'><input>")
    page.evaluate(AXE_SCRIPT)
    assert {"color-contrast", "image-alt", "label", "html-has-lang"} <= {one.split(":")[0] for one in faults(page)}
    page.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        (1400, "light"),
        pytest.param(390, "light", marks=pytest.mark.slow),
        pytest.param(1400, "dark", marks=pytest.mark.slow),
    ],
)
def test_every_view_fits_and_is_accessible(browser, width, scheme):
    reader = Reader(browser, width=width, scheme=scheme)
    page = reader.open("everything")
    page.evaluate(AXE_SCRIPT)
    first, second = (row.id for row in board_of("everything").rows[:2])
    for view in (*VIEWS, "stress", f"model/{first}", f"compare?a={first}&b={second}"):
        reader.go(view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert faults(page) == [], view
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(22, 22, 20)") is (scheme == "dark")
    reader.finish()


@pytest.mark.parametrize("name", ["everything", "many"])
def test_every_column_shows_on_a_small_laptop_and_scrolls_in_its_box_on_a_phone(browser, name):
    wide, narrow = Reader(browser, width=1280), Reader(browser, width=390)
    over = "(all) => all.filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth).length"
    for view in ("ranking", "architectures", "hazards", "stress"):
        assert wide.open(name, view).eval_on_selector_all(".scroll", over) == 0, view
        assert narrow.open(name, view).eval_on_selector_all(".scroll", over) > 0, view
    wide.finish()
    narrow.finish()


@pytest.mark.parametrize("name", ["none", "one", "two"])
def test_boards_of_few_models_open(browser, name):
    reader = Reader(browser)
    page = reader.open(name)
    models = {"none": 0, "one": 1, "two": 2}[name]
    assert len(names(page)) == models
    for view in VIEWS:
        reader.go(view)
        assert page.locator(f"#{view} h2").is_visible()
    assert page.locator(".plot").count() == (4 if models else 0)
    reader.finish()


def test_hostile_texts_are_shown_and_do_nothing(browser):
    reader = Reader(browser)
    page = reader.open("hostile")
    shown = set(names(page))
    assert {plain(text).strip() for text in HOSTILE} == shown
    for row in board_of("hostile").rows:
        reader.go(f"model/{row.id}")
        assert page.inner_text("#model-title").strip() == plain(row.model.id).strip()
    quoted = plain(HOSTILE[8]).replace("'", "'\\''")
    target = next(row for row in board_of("hostile").rows if row.model.id == HOSTILE[8])
    reader.go(f"model/{target.id}")
    assert f"demur run '{quoted}' --split" in page.text_content("#model-body")
    for fragment in (
        "compare?a=<img src=x>&b=%00",
        "model/%3Cscript%3E",
        "ranking?arch=x&sort=y&reading=z",
        "%E0%A4%A",
    ):
        page.evaluate("(fragment) => { location.hash = fragment; }", fragment)
        page.wait_for_timeout(20)
    assert page.evaluate("window.owned") is None
    assert page.locator("img, iframe, object, embed").count() == 0
    reader.finish()


def test_ready_within_a_second_at_200_models(browser):
    reader = Reader(browser)
    session = reader.context.new_cdp_session(reader.page)
    # The processor's time, not the clock's: other work on the machine must not decide.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page = reader.open("many")
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    assert metrics["TaskDuration"] < 1.0
    assert metrics["ScriptDuration"] < 0.3
    assert page.locator("#rank-table tbody:first-of-type tr").count() == 200
    reader.finish()


def test_without_scripts_every_table_and_chart_is_there(browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site_of("everything") / "index.html").as_uri())
    for view in ("ranking", "charts", "architectures", "hazards", "methods", "downloads"):
        assert page.locator(f"#{view} h2").is_visible(), view
    assert page.locator("#filters").is_hidden()
    assert page.locator("#compare").is_hidden()
    context.close()


def test_script_and_page_write_numbers_the_same(browser):
    source = (SITE_SOURCE / "base.js").read_text(encoding="utf-8")
    functions = re.findall(r"^function (?:num|size)\(.*?^\}", source, re.MULTILINE | re.DOTALL)
    assert len(functions) == 2
    constants = "const DASH = '\\u2013', MINUS = '\\u2212';"
    values = [n / 1280 for n in range(-200, 1281, 7)] + [n / 64 for n in range(-64, 65)] + [0.0005, -0.0004, None]
    values = [None if value is None else round(value, 5) for value in values]
    counts = [None, 1, 999, 1000, 999_499, 999_500, 135_000_000, 999_949_999, 7_241_000_000, 10**12, 46_650_000_000]
    page = browser.new_page()
    code = f"([values, counts]) => {{ {constants} {' '.join(functions)}"
    code += " return [values.map((v) => num(v)), values.map((v) => num(v, 2, true)), counts.map(size)]; }"
    ours = [
        [decimals(v) for v in values],
        [decimals(v, 2, signed=True) for v in values],
        [parameters(c) for c in counts],
    ]
    assert json.loads(json.dumps(page.evaluate(code, [values, counts]))) == ours
    page.close()
