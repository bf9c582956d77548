"""The site as files: what is in it, what it weighs, that it is closed to foreign code, and what can be taken away."""

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demur.benchmark.errors import DemurError
from demur.leaderboard.board import Board, ExternalModel, ExternalTrack, as_json
from demur.leaderboard.pages.chart_parts import beside, share_x, share_y, spread, ticks
from demur.leaderboard.pages.charts import CHARTS, draw_charts
from demur.leaderboard.pages.columns import RATES, SIDES
from demur.leaderboard.pages.data import data_block, page_data, shared
from demur.leaderboard.pages.downloads import as_csv, as_parquet, flat_rows
from demur.leaderboard.pages.methods import anchor, methods_html
from demur.leaderboard.pages.palette import DARK, LIGHT, shade
from demur.leaderboard.pages.papers import as_latex, bibtex
from demur.leaderboard.pages.site import FILES, build_site
from demur.leaderboard.pages.svg import standalone, within_page
from demur.leaderboard.pages.text import decimals, interval, parameters, plain, shorten
from demur.tests.page_boards import HOSTILE, board_of, site_of


@pytest.fixture
def small() -> Board:
    return board_of("everything")


@pytest.fixture
def hostile_board() -> Board:
    return board_of("hostile")


@pytest.fixture
def site() -> Path:
    return site_of("everything")


class Reader(HTMLParser):
    """Every element of a page with its attributes, and the text of its inline scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        code = tag == "style" or (tag == "script" and dict(attrs).get("type") is None)
        self._inside = tag if code else None

    def handle_endtag(self, _tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.inline[self._inside].append(data)


@pytest.mark.parametrize("name", ["none", "one", "two"])
def test_boards_of_few_models_make_a_site(name):
    page = (site_of(name) / "index.html").read_text(encoding="utf-8")
    assert page.count("<section") == 8
    assert ("No model is ranked yet" in page) is (name == "none")
    assert {path.name for path in (site_of(name) / "downloads").iterdir()} == {
        "board.csv", "board.json", "board.parquet", "board.tex", "demur.bib"
    }  # fmt: skip


def test_the_page_weighs_less_than_a_megabyte_and_a_half_at_200_models():
    index = site_of("many") / "index.html"
    assert index.stat().st_size < 1_500_000
    assert index.read_text(encoding="utf-8").count("<tr data-row=") == 400  # ranking and hazards


def test_the_policy_names_the_inline_code_and_nothing_else_is_code(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    reader = Reader(page)
    policies = [a["content"] for tag, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    rules = dict(rule.strip().split(" ", 1) for rule in (policies[0] or "").split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in str(policies[0])
    for kind in ("script", "style"):
        assert len(reader.inline[kind]) == 1
        digest = base64.b64encode(hashlib.sha256(reader.inline[kind][0].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    for tag, attributes in reader.elements:
        assert "style" not in attributes, (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert "src" not in attributes, (tag, attributes)
        if tag == "a":
            assert re.match(r"#|downloads/|charts/", attributes["href"] or ""), attributes


def test_the_navigation_leads_to_every_view(site):
    elements = Reader((site / "index.html").read_text(encoding="utf-8")).elements
    named = [a["data-view"] for tag, a in elements if tag == "a" and "data-view" in a]
    views = [a["id"] for tag, a in elements if tag == "section"]
    assert sorted([*named, "model"]) == sorted(views)


def test_every_file_that_the_page_links_is_there(site):
    linked = {a["href"] for tag, a in Reader((site / "index.html").read_text(encoding="utf-8")).elements if tag == "a"}
    files = {str(href) for href in linked if not str(href).startswith("#")}
    assert len(files) == len(FILES) + 2 * len(CHARTS)
    assert all((site / name).stat().st_size > 100 for name in files)


def test_ids_are_unique_and_fragments_lead_somewhere(site):
    reader = Reader((site / "index.html").read_text(encoding="utf-8"))
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.elements:
        href = attributes.get("href") or ""
        if tag == "a" and href.startswith("#") and not href.startswith("#model/"):
            assert href[1:] in ids, href


def test_hostile_texts_stay_texts():
    folder = site_of("hostile")
    reader = Reader((folder / "index.html").read_text(encoding="utf-8"))
    assert {tag for tag, _ in reader.elements} & {"img", "iframe", "object", "embed", "base"} == set()
    assert [tag for tag, _ in reader.elements].count("script") == 2
    assert not [a for _, a in reader.elements if any(name.startswith("on") for name in a)]
    for picture in (folder / "charts").glob("*.svg"):
        text = picture.read_text(encoding="utf-8")
        assert "<script" not in text
        assert "<img" not in text
    assert json.loads((folder / "downloads/board.json").read_text(encoding="utf-8"))["rows"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.recursive(st.text() | st.none() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_embedded_data_is_the_data_and_holds_no_markup(value):
    text = str(data_block({"value": value}))
    assert json.loads(text) == {"value": value}
    assert not set("<>&\u2028\u2029") & set(text)


def test_what_rows_share_is_written_once_and_found_again(small):
    data = page_data(small)
    lean = shared(data)
    again = [row | {key: values[row[key]] for key, values in lean["common"].items()} for row in lean["rows"]]
    for row in again:
        row["stress"] = worded(row["stress"], lean["words"])
    assert again == data["rows"]
    assert len(lean["words"]) == len(set(lean["words"])) > 10
    assert len(lean["common"]["scorer"]) == 1


def worded(value, words):
    """As the page's script reads it: a list of one number is the place of a text."""
    if isinstance(value, list):
        single = len(value) == 1 and isinstance(value[0], int)
        return words[value[0]] if single else [worded(item, words) for item in value]
    return {key: worded(item, words) for key, item in value.items()} if isinstance(value, dict) else value


def test_downloads_hold_every_row_and_the_same_columns(small, site):
    rows = flat_rows(small)
    table = pq.read_table(site / "downloads/board.parquet")
    text = (site / "downloads/board.csv").read_text(encoding="utf-8")
    read = list(csv.DictReader(io.StringIO(text)))
    assert len(read) == table.num_rows == len(small.rows)
    assert table.column_names == list(read[0]) == list(rows[0])
    for row, record, line in zip(small.rows, table.to_pylist(), read, strict=True):
        assert record["model"] == line["model"] == row.model.id
        assert record["c4"] == row.headline.value
        assert record["curve_4"] == row.refused.curve[3].value
        assert line["strict_refusal_rate_low"] == str(row.strict.refusal_rate.low)
        first = row.stress.systems[0].figures[0].estimate if row.stress else None
        assert record["stress/S1/answered_high"] == (first.high if first else None)
        assert record["rescored_same"] == (row.rescored.same if row.rescored else None)
    assert json.loads((site / "downloads/board.json").read_text(encoding="utf-8")) == as_json(small)


def test_the_columns_of_a_board_without_rows_have_the_same_types(small):
    empty = as_parquet(replace(small, rows=[]))
    full = as_parquet(small)
    assert empty.num_rows == 0
    types = {field.name: field.type for field in full.schema}
    assert {field.name: field.type for field in empty.schema}.items() <= types.items()
    assert as_csv(replace(small, rows=[])).count("\n") == 1


def test_a_spreadsheet_sees_no_formula(hostile_board):
    for line in csv.reader(io.StringIO(as_csv(hostile_board))):
        assert not [cell for cell in line if cell[:1] in {"=", "+", "@"}]


def test_latex_escapes_names_and_lists_the_ranked(hostile_board, small):
    text = as_latex(hostile_board)
    assert r"\input" not in text
    assert r"\textbackslash{}input\{x\}\$\textasciicircum{}\_\textasciitilde{}" in text
    body = as_latex(small).split(r"\endhead")[1]
    ranked = [row for row in small.rows if row.state == "ranked"]
    assert body.count(r"\\") == len(ranked)
    assert f"{decimals(ranked[0].headline.value)} [{decimals(ranked[0].headline.low)}, " in body


def test_bibtex_is_balanced_and_names_versions(hostile_board, small):
    for one in (hostile_board, small):
        text = bibtex(one)
        assert text.count("{") == text.count("}")
        assert re.findall(r"^@(\w+)\{([\w-]+),$", text, re.MULTILINE) == [
            ("software", "demur"), ("misc", f"demur-board-{one.made_at[:10]}"), ("software", "demur-scorer")
        ]  # fmt: skip
    assert "prompt set 1.0.0" in bibtex(small)
    assert bibtex(board_of("none")).count("@") == 1
    assert "version = {1.0.0 (hash 0123456789ab)}" in bibtex(small)


def test_the_readme_makes_it_a_static_space(site):
    _, front, text = (site / "README.md").read_text(encoding="utf-8").split("---\n")
    assert yaml.safe_load(front)["sdk"] == "static"
    assert yaml.safe_load(front)["app_file"] == "index.html"
    assert text.strip()


def test_a_file_in_the_way_is_an_error_and_old_charts_go(tmp_path, small):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DemurError, match="is a file, not a folder"):
        build_site(small, tmp_path / "file")
    build_site(board_of("one"), tmp_path / "site")
    assert (tmp_path / "site" / "charts" / "curves.pdf").read_bytes().startswith(b"%PDF")
    (tmp_path / "site" / "notes.txt").write_text("mine")
    build_site(board_of("none"), tmp_path / "site")
    assert list((tmp_path / "site" / "charts").iterdir()) == []
    assert {path.name for path in (tmp_path / "site").iterdir()} == {
        "README.md", "charts", "downloads", "index.html", "notes.txt"
    }  # fmt: skip


def test_charts_take_the_colours_of_the_page(small):
    charts = draw_charts(small)
    assert [chart.name for chart in charts] == ["curves", "plane", "intervals", "architectures", "hazards"]
    for chart in charts:
        picture = standalone(chart.spec)
        markup = within_page(picture, chart.name, {row.id: at for at, row in enumerate(small.rows)})
        assert LIGHT["ink"] in picture
        if chart.inline:
            assert not [value for value in LIGHT.values() if value in markup.lower()]
            assert len(re.findall(r'data-at="\d+"', markup)) >= 4
        assert "http" not in markup.replace("http://www.w3.org/", "")
        assert len(chart.description) > 40


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_have_the_contrast_that_people_need(palette):
    for role in ("ink", "muted", "link", "dense", "moe", "undisclosed", "warn"):
        for ground in ("paper", "raised"):
            assert contrast(palette[role], palette[ground]) >= 4.5, (role, ground)
    assert contrast(palette["edge"], palette["paper"]) >= 3
    cells = [shade(palette, step) for step in range(11)]
    assert all(contrast(palette["ink"], cell) >= 4.5 for cell in cells)
    assert all((luminance(a) - luminance(b)) * (1 if palette is LIGHT else -1) > 0 for a, b in pairwise(cells))


def test_methods_say_what_every_column_means(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    head = page.split('id="rank-table"')[1].split("</thead>")[0]
    columns = [re.sub("\u00ad", "", name) for name in re.findall(r'<button type="button">([^<]+)</button>', head)]
    assert {"Rank", "Tier", *(one.title for one in (*RATES, *SIDES) if one.ranked)} < set(columns)
    titles = [name for name in columns if name not in {"Active parameters", "Total parameters"}]
    for title in [*titles, "Active and total parameters"]:
        assert f'id="{anchor(title)}"' in methods_html(), title
    assert "<script" not in methods_html()


def test_tracks_of_others_stand_apart(tmp_path):
    figures = {"n": 705, "refusal_rate": 0.25, "ssi": 0.9, "groups": {"dual_use": {"refusal_rate": 0.5}}}
    figures |= {"intervals": {"refusal_rate": [0.2, 0.3]}, "c_k": [0.9, 0.8, 0.7, 0.6]}
    models = [
        ExternalModel("<b>one</b>", "moe", 10**11, 10**10, "card", figures),
        ExternalModel("two", "undisclosed", None, None, "none", {"n": 3, "refusal_rate": 1.0}),
    ]
    track = ExternalTrack("Theirs", "Their labels.", "a paper", ["dual_use"], ["A note."], models)
    page = build_site(replace(board_of("none"), external=[track]), tmp_path / "site").read_text(encoding="utf-8")
    part = page.split('id="others"')[1].split("</section>")[0]
    assert "&lt;b&gt;one&lt;/b&gt;" in part
    assert re.findall(r'<button type="button">([^<]+)</button>', part) == [
        "Model", "Architecture", "Active parameters", "Responses", "Refusal rate", "C@4 of the two groups",
        "Stability index", "Refusal rate, dual use",
    ]  # fmt: skip
    assert '<td class="n" data-v="3">3</td><td class="n" data-v="1.0">1.000</td>' in part, "a rate is no count"
    assert '<td class="n" data-v="705">705</td><td class="n" data-v="0.25">0.250 <span class="i">[0.200, 0.300]' in part


def test_the_stress_test_and_corrections_reach_the_data():
    rows = page_data(board_of("everything"))["rows"]
    stress = rows[0]["stress"]
    assert stress["rates"] == [0.95, 0.1]
    assert [one[0] for one in stress["systems"]] == ["S1", "S2", "S4", "S5"]
    assert stress["systems"][0][2][:2] == [["answered", 0.8, 0.75, 0.85], ["dose_50", 0.6, 0.55, 0.65]]
    assert stress["systems"][1][1].startswith("control failed")
    assert stress["systems"][1][2] == []
    assert rows[0]["rescored"] == [631, 640, "lexicon", "0.9.0"]
    assert rows[0]["corrected"]["labelled"] == 200
    assert rows[1]["stress"] is None
    assert rows[1]["corrected"] is None


def test_numbers_read_as_people_write_them():
    assert [decimals(x) for x in (None, 0.0625, 0.1875, -0.00001, 1, 0.9996)] == [
        "–", "0.063", "0.188", "0.000", "1.000", "1.000"
    ]  # fmt: skip
    assert [decimals(x, 2, signed=True) for x in (-0.5, 0.5, 0.0)] == ["−0.50", "+0.50", "0.00"]
    assert interval(0.1, 0.25, 2) == "[0.10, 0.25]"
    assert interval(None, 0.5) == ""
    counts = (None, 999, 135_000_000, 7_241_000_000, 999_960_000, 46_700_000_000, 10**12)
    assert [parameters(count) for count in counts] == ["–", "999", "135M", "7.2B", "1.0B", "46.7B", "1.0T"]


def test_names_lose_what_deceives_and_what_is_too_long():
    assert plain("a\u202eb\u200b\x00\ud800c\nd") == "abc d"
    assert shorten("maker/some-model") == "some-model"
    assert shorten("\u202e/") == "/"
    assert shorten("\u202e") == "?"
    assert len(shorten("m/" + "x" * 99, 20)) == 20
    assert all(shorten(text) for text in HOSTILE)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_labels_are_moved_apart_and_keep_their_order(places):
    moved = spread(places, 0.05, 0.0, 1.0)
    assert len(moved) == len(places)
    order = sorted(range(len(places)), key=lambda i: places[i])
    assert all(moved[b] - moved[a] >= 0.05 - 1e-9 for a, b in pairwise(order))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)
    if all(places[b] - places[a] >= 0.05 for a, b in pairwise(order)):
        assert moved == pytest.approx(places, abs=1e-12)


def test_ticks_are_round_and_few():
    assert ticks(1.3e9, 3.4e10) == [2e9, 5e9, 1e10, 2e10]
    assert ticks(1e8, 1e12) == [1e8, 1e9, 1e10, 1e11, 1e12]


def test_names_on_a_plane_avoid_points_and_the_edge():
    x, y = share_x("x", "x"), share_y("y", "y")
    points = [(0.38, 0.5, "first of three"), (0.45, 0.5, "between the two"), (0.52, 0.5, "third"), (0.97, 0.2, "edge")]
    values = [{"x": along, "y": up, "label": label, "arch": "dense"} for along, up, label in points]
    layers = beside(values, [along for along, _, _ in points], 400, x, y)
    found = {value["label"]: layer.mark.align for layer in layers for value in layer.data.to_dict()["values"]}
    assert found == {"first of three": "right", "between the two": "center", "third": "left", "edge": "right"}
