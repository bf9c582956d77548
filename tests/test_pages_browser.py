"""The site in a real browser, opened from a folder: what a reader does, and what comes of it."""

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Page

from demur.leaderboard.pages.charts import CHARTS
from demur.leaderboard.pages.site import FILES
from demur.leaderboard.pages.text import decimals
from demur.tests.browsing import CHROMIUM, Reader, names
from demur.tests.page_boards import board_of, site_of

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the pages with")


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    one = Reader(browser)
    yield one
    one.finish()


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
    assert page.locator("#downloads a").count() == len(FILES) + 2 * len(CHARTS)


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
