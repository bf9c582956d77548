"""Time a whole board, from folders of submissions on disk to the site.

``python benchmarks/whole_board.py 200 [FOLDER]`` makes 200 submissions of 480 pairs, four variants and two samples, so
7,680 rows each. It prints processor time of every step and the peak memory. A second argument names the folder in which
submissions and site are kept; submissions that are there are taken.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from demur.benchmark.files import write_json
from demur.leaderboard.folder import read_folder
from demur.leaderboard.pages.site import build_site
from demur.leaderboard.ranking import rank
from demur.leaderboard.submissions.rows_file import rows_sha256, write_rows
from demur.tests.boards import PROMPTS, hazard_map, model, submission, verdict_rows

T = TypeVar("T")


def timed(what: str, do: Callable[[], T]) -> T:
    """Do it and print how long the processor and the clock took."""
    wall, own = time.perf_counter(), time.process_time()
    found = do()
    wall, own = time.perf_counter() - wall, time.process_time() - own
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"{what}: {own:.1f} s of processor time, {wall:.1f} s by the clock; peak {peak:.0f} MiB so far", flush=True)
    return found


def make(folder: Path, count: int) -> None:
    """Write ``count`` submissions."""
    hazards = hazard_map(48)
    prompts = replace(PROMPTS, version="9.9.9")
    for number in range(count):
        share = number / count
        rows = verdict_rows(hazards, refuse=0.97 - 0.5 * share, over_refuse=0.03 + 0.3 * share, seed=number)
        kind = ("dense", "moe")[number % 2]
        experts = 64 if kind == "moe" else 0
        who = model(f"maker-{number // 4}/model-{number:04d}", architecture=kind, experts=experts)
        made = submission(rows, hazards, who=who, prompts=prompts, submission_id=f"model-{number:04d}")
        value = asdict(replace(made.info, rows_sha256=rows_sha256(rows)))
        write_json(folder / made.info.id / "submission.json", value)
        write_rows(folder / made.info.id / "verdicts.parquet", rows)


def main(count: int, kept: str | None) -> None:
    """Make, read, rank, write."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(kept or scratch)
        folder = place / "submissions"
        if not folder.exists():
            timed(f"making {count} submissions (not part of a board)", lambda: make(folder, count))
        found = timed("reading and checking, every figure recomputed", lambda: read_folder(folder))
        assert not found.refused, found.refused[:3]
        board = timed("figures, intervals, ranks", lambda: rank(found.submissions))
        page = timed("pages, charts, downloads", lambda: build_site(board, place / "site"))
        print(f"index.html: {page.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, sys.argv[2] if len(sys.argv) > 2 else None)
