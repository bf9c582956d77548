"""Boards for the tests of the pages: many models without the cost of ranking them, and hostile ones."""

import atexit
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from demur.leaderboard.board import Board, Corrected, Estimate, Refused, Rescored
from demur.leaderboard.pages.site import build_site
from demur.leaderboard.stress import stress_report
from demur.leaderboard.submissions.submitted import ScorerAgreement, SideAgreement
from demur.tests.boards import board
from demur.tests.stress_results import stress_result

# Each of these would do something if it were ever taken for markup, script, a path, a formula or a template.
HOSTILE = [
    "</script><script>window.owned=1</script>",
    '"><img src=x onerror="window.owned=1">',
    "<svg onload=window.owned=1>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:window.owned=1",
    '=HYPERLINK("javascript:window.owned=1")',
    "evil/\u202egnp.exe\u2028\u2029\x00\x07",
    "\ud800 half a pair",
    "'; rm -rf $(pwd) & \\input{x}$^_~",
    "a" * 300,
]


def many(n: int) -> Board:
    """A board of ``n`` ranked models, each with a stress test: the rows of a small board over and over, renamed."""
    small = board(12, replicates=100)
    ranked = [row for row in small.rows if row.state == "ranked"]
    rows, clone = [], {}
    for at in range(n):
        row = ranked[at * len(ranked) // n]
        name = f"maker-{at % 17}/model-{at:03d}-with-a-name"
        rows.append(
            replace(
                row,
                id=f"model-{at:03d}-{row.id[-10:]}",
                rank=at + 1,
                rank_set=[max(1, at - 9), min(n, at + 11)],
                tie_group=at // 10 + 1,
                model=replace(row.model, id=name, maker=f"maker-{at % 17}", revision=f"{at:040x}"),
                stress=stress_report(stress_result(experts=8)),
            )
        )
        clone.setdefault(row.id, rows[-1].id)
    groups = [[row.id for row in rows if row.tie_group == group] for group in range(1, (n - 1) // 10 + 2)]
    known = [pair for pair in small.contrasts.pairs if {pair.moe, pair.dense} <= clone.keys()]
    pairs = [replace(pair, moe=clone[pair.moe], dense=clone[pair.dense]) for pair in known] * (n // 10)
    nulls = [replace(test, moe=clone[test.moe], dense=clone[test.dense]) for test in small.null_tests]
    contrasts = replace(small.contrasts, pairs=pairs)
    return replace(small, rows=rows, tie_groups=groups, contrasts=contrasts, null_tests=nulls)


def hostile() -> Board:
    """A board whose submitters wrote the texts of ``HOSTILE`` wherever they may write."""
    plain = board(len(HOSTILE), replicates=100)
    rows = []
    for at, row in enumerate(plain.rows):
        text = HOSTILE[at % len(HOSTILE)]
        model = replace(
            row.model, id=text, maker=text, revision=text, dtype=text, backend=text, base_model=text, formerly=[text]
        )
        why = f"because {text}" if row.why else None
        rows.append(replace(row, model=model, notes=text, why=why, package_version=text))
    return replace(plain, rows=rows, refused=[Refused(text, [text]) for text in HOSTILE])


def with_everything() -> Board:
    """A small board with stress-test figures, corrected rates and a submission that was not taken."""
    plain = board(4, replicates=200)
    estimate = Estimate(0.42, 0.31, 0.53, 0.3, 0.54)
    rate = plain.rows[0].refused.refusal_rate
    own = plain.rows[0].scorer
    first = replace(
        plain.rows[0],
        stress=stress_report(stress_result(experts=8)),
        tier="rescored",
        rescored=Rescored(own, replace(own, version="0.9.0"), "2026-01-01T00:00:00Z", 640, 631),
        corrected=Corrected("prediction_powered", 200, rate, estimate, rate, estimate),
        notes="Run twice.\nSame figures.",
        agreement=[
            ScorerAgreement(
                replace(own, name="judge-a-model"),
                SideAgreement(638, 0.95, 0.9, 0.9),
                SideAgreement(320, 0.94, 0.61, 0.6),
                SideAgreement(318, 1.0, None, None),
            )
        ],
    )
    return replace(plain, rows=[first, *plain.rows[1:]], refused=[Refused("broken", ["rows are missing"])])


SITES = {
    "none": lambda: board(0),
    "one": lambda: board(1, replicates=50),
    "two": lambda: board(2, replicates=50),
    "everything": with_everything,
    "hostile": hostile,
    "many": lambda: many(200),
}


@cache
def board_of(name: str) -> Board:
    return SITES[name]()


@cache
def site_of(name: str) -> Path:
    """The folder of a site, built once for all tests and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="demur-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build_site(board_of(name), folder / name).parent
