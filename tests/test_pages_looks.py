"""The site in a real browser: what is seen and heard on every screen, by everyone, and with hostile names."""

import json
import re

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from demur.leaderboard.pages.charts import draw_charts
from demur.leaderboard.pages.text import decimals, parameters, plain
from demur.tests.browsing import CHROMIUM, SITE_SOURCE, Reader, names
from demur.tests.page_boards import HOSTILE, board_of, site_of

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the pages with")


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
    for view in (*reader.views(), f"model/{first}", f"compare?a={first}&b={second}"):
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
    for view in reader.views():
        reader.go(view)
        assert page.locator(f"#{view} h2").is_visible()
    assert page.locator(".plot").count() == sum(chart.inline for chart in draw_charts(board_of(name)))
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
